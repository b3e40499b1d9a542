"""The signer, compared with botocore's byte for byte, and on a real server that checks signatures."""

from __future__ import annotations

import http.client
import itertools
import random
import secrets
import subprocess
import sys
import time
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote, urlsplit

import boto3
import botocore.auth
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as TheirCredentials

from flask_persistent_uploads import content_types
from flask_persistent_uploads.backends.s3 import S3Backend
from flask_persistent_uploads.backends.s3.sigv4 import MAX_EXPIRES, Credentials, presign

from ..servers import ACCESS_KEY_ID, BUCKET, ROOT, SECRET_ACCESS_KEY, S3Server, clean_environment

SIGNS = "abzABZ0189-_.~ +%&=?#;:,@!$'()*[]{}|^`\"<>/äß日本é🧩\u0301\u00a0"
NAMES = (
    "uploads/plain.png",
    "uploads/a..b/..c/d...e",
    "uploads/it's (2) #1 [x] ~ !.png",
    "uploads/100% of it?&=+.png",
    "uploads/%41%2F..%2f.png",
    "uploads/ leading and trailing ",
    "uploads/🧩 CHAPTER 01_ (1).pdf",
    'uploads/"quoted";a,b.png',
)
REGIONS = ("us-east-1", "eu-west-3", "auto", "us-west-004", "cn-north-1", "eusc-de-east-1")
BASES = (
    "https://bucket.s3.eu-west-3.amazonaws.com/",
    "https://s3.eu-west-3.amazonaws.com/my.bucket/",
    "https://0a1b.r2.cloudflarestorage.com/bucket/",
    "http://127.0.0.1:9000/bucket/",
    "https://minio.example.com:9443/bucket/",
)
TOKENS = (None, "plain", "a/b+c==", "FwoGZXIvYXdzE//////////" + "wEaD+/=" * 40)
PARAMETERS: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (("response-content-type", "image/svg+xml; charset=utf-8"),),
    (("response-content-disposition", "attachment; filename=\"a b.png\"; filename*=UTF-8''%C3%A4%20~.png"),),
    (
        ("response-cache-control", "private, max-age=31536000, immutable"),
        ("response-content-disposition", "inline"),
        ("response-content-type", "text/plain; charset=utf-8"),
    ),
    (("response-content-type", "ä/🧩+ &=~"), ("response-cache-control", "a*b")),
    (("versionId", "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY"), ("x-id", "GetObject")),
)

KEY = f"sigv4/{secrets.token_hex(8)}/it's (2) ~ ä🧩+%.png"
CONTENT = bytes(range(256)) * 50


def freeze(monkeypatch: pytest.MonkeyPatch, clock: list[int]) -> None:
    """Make botocore sign at ``clock[0]``."""

    def now(remove_tzinfo: bool = True) -> datetime:
        moment = datetime.fromtimestamp(clock[0], timezone.utc)
        return moment.replace(tzinfo=None) if remove_tzinfo else moment

    monkeypatch.setattr(botocore.auth, "get_current_datetime", now)


def test_presign_gives_the_same_urls_as_botocore_in_thousands_of_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    chance, clock = random.Random(20261120), [0]
    freeze(monkeypatch, clock)
    for number in range(6000):
        name = NAMES[number] if number < len(NAMES) else "uploads/" + "".join(chance.choices(SIGNS, k=12))
        method, base, region = chance.choice(("GET", "HEAD", "PUT")), chance.choice(BASES), chance.choice(REGIONS)
        token, parameters = chance.choice(TOKENS), chance.choice(PARAMETERS)
        key_id, secret = f"AKIA{chance.randrange(9)}", chance.choice(("s/e+c=ret", "ß🧩"))
        expires = chance.choice((1, 60, 3600, MAX_EXPIRES))
        clock[0] = chance.randrange(0, 4_000_000_000)
        theirs = AWSRequest(method, base + quote(name, safe="/~"), params=dict(parameters))
        S3SigV4QueryAuth(TheirCredentials(key_id, secret, token), "s3", region, expires=expires).add_auth(theirs)
        ours = presign(
            method,
            base,
            name,
            region=region,
            credentials=Credentials(key_id, secret, token),
            signed_at=clock[0],
            expires_in=expires,
            parameters=parameters,
        )
        assert ours == theirs.url


@pytest.mark.parametrize("token", [None, "a/b+c=="])
@pytest.mark.parametrize(
    ("bucket", "region"), [("bucket", "us-east-1"), ("my.bucket", "eu-west-3"), ("b-2", "cn-north-1")]
)
def test_urls_for_aws_are_the_same_as_those_of_boto3(
    monkeypatch: pytest.MonkeyPatch, bucket: str, region: str, token: str | None
) -> None:
    clock = [1_800_000_000]
    freeze(monkeypatch, clock)
    style: Any = {"addressing_style": "path" if "." in bucket else "virtual", "us_east_1_regional_endpoint": "regional"}
    session: Any = boto3.session.Session(ACCESS_KEY_ID, SECRET_ACCESS_KEY, token, region)
    client = session.client("s3", config=Config(signature_version="s3v4", s3=style))
    ours = S3Backend(
        bucket=bucket,
        region=region,
        access_key_id=ACCESS_KEY_ID,
        secret_access_key=SECRET_ACCESS_KEY,
        session_token=token,
    )
    operations = {"GET": "get_object", "HEAD": "head_object", "PUT": "put_object"}
    odd = ("a.png", "odd/it's (2) ~ ä🧩+%.svg", "a..b/no extension")
    for method, expires, key, download_as in itertools.product(operations, (60, 3600), odd, (None, "ä b.svg")):
        clock[0] += 86_399
        asked = {"Bucket": bucket, "Key": f"uploads/{key}"}
        if method != "PUT":
            asked["ResponseCacheControl"] = "private, max-age=31536000, immutable"
            asked["ResponseContentDisposition"] = content_types.attachment(download_as) if download_as else "inline"
            asked["ResponseContentType"] = content_types.UNKNOWN if download_as else content_types.of_name(key)
        theirs = client.generate_presigned_url(operations[method], Params=asked, ExpiresIn=expires, HttpMethod=method)
        url = ours.url(key, signed_at=clock[0], expires_in=expires, method=method, download_as=download_as)
        assert url == theirs


@pytest.fixture(scope="module")
def backend(s3_server: S3Server) -> S3Backend:
    """The backend on the real server, with one object to open and another that a URL must not open."""
    for name, content in {KEY: CONTENT, f"{KEY}2": b"other"}.items():
        s3_server.client().put_object(Bucket=BUCKET, Key=f"uploads/{name}", Body=content)
    return S3Backend(
        bucket=BUCKET, endpoint_url=s3_server.url, access_key_id=ACCESS_KEY_ID, secret_access_key=SECRET_ACCESS_KEY
    )


class TestOnARealServer:
    def sign(self, backend: S3Backend, *, method: str = "GET", age: int = 0, download_as: str | None = None) -> str:
        moment = int(time.time()) - age
        return backend.url(KEY, signed_at=moment, expires_in=60, method=method, download_as=download_as)

    @staticmethod
    def ask(
        url: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
        try:
            connection.request(method, f"{parts.path}?{parts.query}", body, headers or {})
            response = connection.getresponse()
            return response.status, response.read(), response.headers
        finally:
            connection.close()

    def test_a_url_gives_the_exact_bytes_with_the_signed_type_and_name(self, backend: S3Backend) -> None:
        status, body, headers = self.ask(self.sign(backend))
        assert (status, body) == (200, CONTENT)
        assert (headers["Content-Type"], headers["Content-Disposition"]) == ("image/png", "inline")
        status, body, headers = self.ask(self.sign(backend, download_as="ä b.png"))
        assert (status, body) == (200, CONTENT)
        assert headers["Content-Type"] == "application/octet-stream"
        assert headers["Content-Disposition"] == content_types.attachment("ä b.png")

    def test_a_url_works_only_for_its_own_method(self, backend: S3Backend) -> None:
        get, head = self.sign(backend), self.sign(backend, method="HEAD")
        assert self.ask(head, "HEAD")[0] == 200
        assert self.ask(get, "HEAD")[0] == 403
        assert self.ask(head, "GET")[0] == 403
        assert self.ask(get, "PUT", body=b"mine now")[0] == 403
        assert self.ask(get, "DELETE")[0] == 403
        assert self.ask(get)[:2] == (200, CONTENT)

    def test_every_change_of_a_url_is_refused(self, backend: S3Backend) -> None:
        url = self.sign(backend)
        base, _, query = url.partition("?")
        pairs = [pair.partition("=")[::2] for pair in query.split("&")]
        changes = {
            "response-cache-control": "no-store",
            "response-content-disposition": "attachment",
            "response-content-type": "text%2Fhtml",
            "X-Amz-Algorithm": "AWS4-HMAC-SHA1",
            "X-Amz-Credential": dict(pairs)["X-Amz-Credential"].replace("us-east-1", "us-east-2"),
            "X-Amz-Date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - 5)),
            "X-Amz-Expires": "61",
            "X-Amz-SignedHeaders": "host%3Brange",
            "X-Amz-Signature": f"{int(dict(pairs)['X-Amz-Signature'], 16) ^ 1:064x}",
        }
        assert [name for name, _ in pairs] == list(changes)
        tampered = {f"{base}2?{query}", base.replace("/uploads/", "/") + f"?{query}", f"{url}&versionId=1"}
        tampered.add(f"{url}&response-content-language=x")
        for name in changes:
            tampered.add(f"{base}?" + "&".join(f"{n}={changes[n] if n == name else v}" for n, v in pairs))
            if name.startswith("response-"):
                tampered.add(f"{base}?" + "&".join(f"{n}={v}" for n, v in pairs if n != name))
        assert self.ask(url)[0] == 200
        answers = {other: self.ask(other)[0] for other in tampered}
        unknown = {other for other in tampered if "AWS4-HMAC-SHA1&" in other}  # an algorithm that does not exist
        assert {answers[other] for other in unknown} == {400}
        assert {answers[other] for other in tampered - unknown} == {403}
        assert len(tampered) == 4 + len(changes) + 3

    def test_another_host_is_refused(self, backend: S3Backend) -> None:
        assert self.ask(self.sign(backend), headers={"Host": "evil.example"})[0] == 403

    def test_a_url_works_until_it_expires(self, backend: S3Backend) -> None:
        assert self.ask(self.sign(backend, age=56))[0] == 200
        assert self.ask(self.sign(backend, age=62))[0] == 403

    @pytest.mark.parametrize("name", NAMES)
    def test_unusual_names_work_in_urls(self, s3_server: S3Server, backend: S3Backend, name: str) -> None:
        key = f"{secrets.token_hex(4)}/{name}"
        s3_server.client().put_object(Bucket=BUCKET, Key=f"uploads/{key}", Body=name.encode())
        url = backend.url(key, signed_at=int(time.time()), expires_in=60)
        assert self.ask(url)[:2] == (200, name.encode())


def test_signing_does_not_import_an_sdk() -> None:
    script = (
        "import sys\n"
        "from flask_persistent_uploads.backends.s3 import S3Backend\n"
        "backend = S3Backend(bucket='b', access_key_id='a', secret_access_key='s')\n"
        "assert 'X-Amz-Signature' in backend.url('a.png', signed_at=0, expires_in=60)\n"
        "assert backend.valid_until() is None\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'boto3', 'botocore', 's3transfer', 'urllib3'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=clean_environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "set()\n"
