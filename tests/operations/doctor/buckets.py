"""An S3 server whose keys have few permissions, a proxy before it that misbehaves, and what an S3 client sees."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from botocore.exceptions import ClientError
from click.testing import CliRunner

from flask_persistent_uploads.cli import uploads as commands

from ...fakes.scripted import Behaviour, Exchange, ScriptedS3, forward
from ...servers import S3Server

Changed = Callable[[int, bytes, dict[str, str]], tuple[int, bytes, dict[str, str]]]


@dataclass(frozen=True)
class Identity:
    """An identity of the server: its access key, and SeaweedFS's actions for the bucket ``{}``."""

    name: str
    actions: tuple[str, ...]

    @property
    def keys(self) -> dict[str, str]:
        return {"UPLOADS_S3_ACCESS_KEY_ID": self.name, "UPLOADS_S3_SECRET_ACCESS_KEY": f"{self.name}-secret"}


#: The permissions of the policy that ``setup`` prints, as far as the server distinguishes them.
LEAST = Identity("least", ("Read:{}/uploads/*", "Write:{}/uploads/*", "List:{}"))
READER = Identity("reader", ("Read:{}", "List:{}"))
WRITER = Identity("writer", ("Write:{}", "List:{}"))
NO_LIST = Identity("no-list", ("Read:{}", "Write:{}"))


class BucketServer(S3Server):
    """A server with the identities above, and with the bucket ``proof``, which ``setup --apply`` has created."""

    bucket = "proof"

    def __enter__(self) -> BucketServer:
        super().__enter__()
        try:
            self.allow(LEAST, READER, WRITER, NO_LIST)
            self.set_up(self.bucket)
        except BaseException:
            self.__exit__()
            raise
        return self

    def allow(self, *identities: Identity) -> None:
        """Replace the identities of the server, except the first one."""
        path = self._folder / "identities.json"
        first = json.loads(path.read_text())["identities"][:1]
        more = [
            {
                "name": one.name,
                "credentials": [{"accessKey": one.name, "secretKey": f"{one.name}-secret"}],
                "actions": [action.format(self.bucket) for action in one.actions],
            }
            for one in identities
        ]
        path.write_text(json.dumps({"identities": [*first, *more]}))
        os.kill(self.process.pid, signal.SIGHUP)
        client = self.client(access=LEAST.name)
        until(lambda: error_code(lambda: client.list_objects_v2(Bucket=self.bucket)) != "InvalidAccessKeyId")

    def client(self, *, access: str | None = None, **config: Any) -> Any:
        if access is None:
            return super().client(**config)
        import boto3

        session = boto3.session.Session(access, f"{access}-secret")
        return session.client("s3", endpoint_url=self.url, region_name="us-east-1")

    def set_up(self, bucket: str) -> str:
        """Create a bucket, or repair its configuration, with ``setup --apply``."""
        environment = self.environment(UPLOADS_S3_BUCKET=bucket)
        result = CliRunner().invoke(commands, ["setup", "s3", "--apply", "--yes"], env=environment)
        assert result.exit_code == 0, result.output
        return bucket

    def new_bucket(self) -> str:
        """Create a bucket that a test may spoil."""
        return self.set_up(f"own-{uuid.uuid4().hex}")

    def settings(self, bucket: str) -> dict[str, str]:
        return self.environment(UPLOADS_S3_BUCKET=bucket)


class Proxy(ScriptedS3):
    """A proxy before the real server, which passes requests on unless ``script`` says otherwise, and records them."""

    def __init__(
        self, server: BucketServer, script: Behaviour | None = None, bucket: str = BucketServer.bucket
    ) -> None:
        super().__init__(script or forward(server.url))
        self.real, self.bucket = server, bucket

    def settings(self, **more: str) -> dict[str, str]:
        return {**self.real.environment(UPLOADS_S3_ENDPOINT_URL=self.url, UPLOADS_S3_BUCKET=self.bucket), **more}

    def saved(self) -> list[str]:
        """Return the names of the objects that were sent here to be stored."""
        start = f"/{self.bucket}/"
        return [request.path.removeprefix(start) for request in self.requests if request.method == "PUT"]

    def left(self) -> list[str]:
        """Return those of them that exist; a listing of this server would hide them."""
        return [name for name in self.saved() if self._exists(name)]

    def _exists(self, name: str) -> bool:
        return error_code(lambda: self.real.client().head_object(Bucket=self.bucket, Key=name)) is None


def error_code(call: Callable[[], object]) -> str | None:
    """Return the code of the error that S3 answers; ``None`` if it answers none."""
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return None


def until(holds: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "the condition does not hold after 10 seconds"
        time.sleep(0.02)


def allow(server: BucketServer, bucket: str, action: str, resource: str, effect: str = "Allow") -> None:
    """Set a bucket policy for everybody."""
    statement = {"Effect": effect, "Principal": "*", "Action": action, "Resource": resource}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    server.client().put_bucket_policy(Bucket=bucket, Policy=policy)


def make_public(server: BucketServer, bucket: str) -> None:
    """Let everybody read the objects of a bucket."""
    server.client().put_object(Bucket=bucket, Key="uploads/a.txt", Body=b"x")
    allow(server, bucket, "s3:GetObject", f"arn:aws:s3:::{bucket}/*")
    until(lambda: anonymous_status(f"{server.url}/{bucket}/uploads/a.txt") == 200)


def forbid_deleting(server: BucketServer, bucket: str) -> None:
    allow(server, bucket, "s3:DeleteObject", f"arn:aws:s3:::{bucket}/*", "Deny")
    until(lambda: error_code(lambda: server.client().delete_object(Bucket=bucket, Key="none")) == "AccessDenied")


def delete_by_age(server: BucketServer, bucket: str) -> None:
    """Set a lifecycle rule named ``tidy`` that deletes all objects after 30 days."""
    rule = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
    server.client().put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})


def anonymous_status(url: str) -> int:
    """Return the status of a request without credentials."""
    try:
        with urlopen(url) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code


# -- kinds of requests


def by_link(exchange: Exchange) -> bool:
    return "X-Amz-Signature" in exchange.path


def by_key(exchange: Exchange) -> bool:
    return "Authorization" in exchange.headers


def unsigned(exchange: Exchange) -> bool:
    return not by_link(exchange) and not by_key(exchange)


def of(method: str, sender: Callable[[Exchange], bool], path: str = "") -> Callable[[Exchange], bool]:
    return lambda exchange: exchange.command == method and sender(exchange) and path in exchange.path


def ranged(exchange: Exchange) -> bool:
    return "Range" in exchange.headers


def plain(exchange: Exchange) -> bool:
    return "Range" not in exchange.headers and "Origin" not in exchange.headers


# -- misbehaviour


def changed(real: Behaviour, change: Changed) -> Behaviour:
    """Answer what ``change`` makes of the status, the body and the headers of the real answer."""

    def behave(exchange: Exchange) -> None:
        reply = exchange.reply

        def other(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
            reply(*change(status, body, dict(headers or {})))

        exchange.reply = other  # type: ignore[method-assign]
        real(exchange)

    return behave


def alter_a_byte(status: int, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
    return status, body[:-1] + bytes([body[-1] ^ 1]) if body else body, headers
