"""The Cloudinary backend: the real SDK over real sockets, against a fake that checks requests and fails on demand."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import re
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import cloudinary
import pytest
import urllib3
from cloudinary import utils
from hypothesis import given
from hypothesis import strategies as st

from flask_persistent_uploads import errors
from flask_persistent_uploads.backends import build, choose, names, read_settings, remote
from flask_persistent_uploads.backends.cloudinary import CloudinaryBackend as Backend
from flask_persistent_uploads.backends.cloudinary.assets import asset_of, key_of
from flask_persistent_uploads.backends.cloudinary.backend import CHUNK
from flask_persistent_uploads.testing import sample

from ..conftest import PNG, cloudinary_backend
from ..fakes.cloudinary import Account, Asset
from ..fakes.cloudinary import FakeCloudinary as Fake
from ..fakes.service import Answer, Fault, Request, cut, done_but, drip, hang_up, lost, not_json, silent, status
from ..servers import free_ports
from ..test_keys import is_key

SECRET = "the-secret-of-demo"
JPG = b"\xff\xd8\xff\xe0 a photo"
TIFF = b"II*\0 a scan"
MP4 = b"\0\0\0\x18ftypisom a film"
MP3 = b"ID3 a song"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
HTML = b"<html><script>alert(1)</script></html>"
PDF = b"%PDF-1.7 a page"
ZIP = b"PK\x03\x04 an archive"
LARGE = bytes(range(251)) * (20_000_000 // 251)
NOW = int(time.time())


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as fake:
        yield fake


@pytest.fixture(autouse=True)
def account(fake: Fake, caplog: pytest.LogCaptureFixture) -> Iterator[Account]:
    """An account. At the end of the test, no log holds its secret."""
    account = fake.add(api_secret=SECRET)
    account.max_bytes = dict.fromkeys(account.max_bytes, 1 << 30)
    yield account
    assert_no_secret("\n".join(record.getMessage() for record in caplog.get_records("call")))


@pytest.fixture
def backend(fake: Fake, account: Account) -> Backend:
    return cloudinary_backend(fake)


@pytest.fixture
def private(fake: Fake, account: Account) -> Backend:
    return cloudinary_backend(fake, private=True)


def assert_no_secret(text: str) -> None:
    assert SECRET not in text
    assert not re.search(r"signature=[0-9a-f]", text)


@contextlib.contextmanager
def fails(kind: type[errors.UploadsError], match: str | None = None) -> Iterator[pytest.ExceptionInfo[Any]]:
    """Expect an error, as ``pytest.raises`` does, that holds no secret. Neither may its traceback."""
    with pytest.raises(kind, match=match) as caught:
        yield caught
    assert type(caught.value) is kind or kind is errors.BackendError
    assert_no_secret(f"{caught.value} {caught.value!r} {''.join(traceback.format_exception(caught.value))}")


def save(backend: Backend, key: str, content: bytes = PNG) -> str:
    return backend.save(key, io.BytesIO(content), content_type="image/png", size=len(content), filename="mine.png")


def read(backend: Backend, key: str) -> bytes:
    with backend.open(key) as stream:
        return stream.read()


def url(backend: Backend, key: str, download_as: str | None = None, *, at: int = NOW, expires_in: int = 3500) -> str:
    return backend.url(key, signed_at=at, expires_in=expires_in, download_as=download_as)


def fetch(url: str) -> tuple[int, bytes, dict[str, str]]:
    with urllib3.PoolManager() as pool:
        answer = pool.request("GET", url, retries=False, timeout=20)
        return answer.status, answer.data, {name.lower(): value for name, value in answer.headers.items()}


def only(account: Account) -> Asset:
    [asset] = account.assets.values()
    return asset


def put(account: Account, kind: str, public_id: str, key: str = "", *, stored_as: str = "upload") -> None:
    asset = Asset(kind, stored_as, public_id, b"x", None, NOW, "id", context={"key": key} if key else {})
    account.assets[asset.key] = asset


def tampered(query: str) -> Iterator[str]:
    """Yield the query with one value changed, for each value."""
    pairs = parse_qsl(query)
    for at, (name, value) in enumerate(pairs):
        other = "upload" if value == "authenticated" else "authenticated" if name == "type" else f"{value[:-1]}7"
        yield urlencode([*pairs[:at], (name, other if other != value else f"{value}7"), *pairs[at + 1 :]])


# -- where the file of a key is

PLACES = [
    ("a.png", PNG, "image uploads/a_2epng"),
    ("a.JPG", JPG, "image uploads/a_2eJPG"),
    (".png", PNG, "image uploads/_2epng"),
    ("a.tiff", TIFF, "image uploads/a_2etiff"),
    ("a.jfif", JPG, "image uploads/a_2ejfif"),
    ("a.m4v", MP4, "video uploads/a_2em4v"),
    ("a.mp3", MP3, "video uploads/a_2emp3"),
    ("a.svg", SVG, "raw uploads/a.svg"),
    ("a.pdf", PDF, "raw uploads/a.pdf"),
    ("a.CSV", b"1,2", "raw uploads/a.CSV"),
    ("a.png/b", PNG, "raw uploads/a_2epng/b"),
    ("v1/v2", b"x", "raw uploads/_761/v2"),
    ("Ä_/1+1=2.txt", b"x", "raw uploads/_c3_84_5f/1_2b1_3d2.txt"),
    ("2026/3b53b7559895-event-3.webp", sample("x.webp"), "image uploads/2026/3b53b7559895-event-3_2ewebp"),
    ("3b53b755-9895EVENT 3.webp", sample("x.webp"), "image uploads/3b53b755-9895EVENT_203_2ewebp"),
]
FOLDER = "/".join(["папка" * 20] * 3)
LONG = [
    "я" * 120 + "b.png",
    "x" * 250 + "b.png",
    "a/" + "я" * 126 + "b",
    f"{FOLDER}/b.csv",
    "/".join(["y" * 220] * 4) + "b",
]

segments = st.one_of(
    st.text("avV1 _-.éя", min_size=1, max_size=40),
    st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=90),
    st.sampled_from(["v1", "V1", "_761", "v1.png", "a_20b", "a b", "я" * 100, "..."]),
)
extensions = st.sampled_from(["", ".png", ".PNG", ".webp", ".pdf", ".mp4", ".é", "._", ".", "_2epng", ".tar.gz"])
some_parts = st.lists(segments, min_size=1, max_size=5).map("/".join)
some_keys = st.builds(str.__add__, some_parts, extensions).filter(is_key)


@pytest.mark.parametrize(("key", "content", "place"), PLACES, ids=[place[0] for place in PLACES])
def test_the_key_decides_the_kind_and_the_public_id(
    backend: Backend, account: Account, key: str, content: bytes, place: str
) -> None:
    assert save(backend, key, content) == hashlib.sha256(content).hexdigest()
    assert " ".join(only(account).key) == place.replace(" ", " upload ")
    assert only(account).data == content
    assert fetch(url(backend, key))[:2] == (200, content)


def test_long_names_are_hashed_and_their_keys_are_listed(backend: Backend, account: Account) -> None:
    wanted = sorted([*LONG, *(key.replace("b", "c") for key in LONG)])
    for key in wanted:
        save(backend, key)
    assert sorted(asset.context["key"] for asset in account.assets.values()) == wanted
    assert all(len(asset.public_id) <= 255 for asset in account.assets.values())
    assert sorted(entry.key for entry in backend.entries()) == wanted
    assert [key for key in wanted if read(backend, key) != PNG or backend.stat(key) is None] == []


def test_the_files_of_a_folder_with_a_long_name_are_listed(backend: Backend) -> None:
    key = f"{FOLDER}/b.csv"
    save(backend, key)
    assert [entry.key for entry in backend.entries(f"{FOLDER}/")] == [key]


@given(st.sets(some_keys, max_size=12))
def test_no_two_keys_share_an_asset_and_the_service_accepts_every_name(keys: set[str]) -> None:
    keys |= {names.escape(key, extension=True) for key in keys} | {key.swapcase() for key in keys}
    assets = [asset_of(key, "uploads") for key in sorted(filter(is_key, keys))]
    assert len({(asset.kind, asset.public_id) for asset in assets}) == len(assets)
    for asset in assets:
        assert re.fullmatch(r"[A-Za-z0-9/_.-]{1,255}", asset.public_id)
        assert asset.kind == "raw" or "." not in asset.public_id
        assert not re.search(r"(?:^|/)v\d+/|//", asset.public_id)
        context = {} if asset.names_key else {"context": {"custom": {"key": asset.key}}}
        assert key_of({"public_id": asset.public_id, **context}, asset.kind, "uploads") == asset.key


# -- delivery


@pytest.mark.parametrize("key", ["a.webp", "a.jpeg", "a.JPG", "a.png"])
def test_a_picture_with_a_wrong_extension_is_delivered_byte_for_byte(backend: Backend, key: str) -> None:
    save(backend, key, PNG)
    got = [fetch(url(backend, key))[:2], fetch(url(backend, key, "a.png"))[:2], (200, read(backend, key))]
    assert got == [(200, PNG)] * 3


@pytest.mark.parametrize("content", [SVG, HTML, PDF, b"GIF", MP4], ids=["svg", "html", "pdf", "broken", "mp4"])
def test_other_content_with_the_extension_of_a_picture_is_refused(
    backend: Backend, account: Account, content: bytes
) -> None:
    with fails(errors.TypeNotAllowed, match=r"'mine\.png' was rejected\. The content is not a picture") as caught:
        save(backend, "a.png", content)
    assert (caught.value.code, caught.value.filename) == (415, "mine.png")
    assert not account.assets


@pytest.mark.parametrize(
    ("key", "path"), [("a.png", "image/?/a_2epng"), ("a.mp4", "video/?/a_2emp4"), ("a", "raw/?/a")]
)
def test_a_public_url_is_permanent_and_always_the_same(key: str, path: str) -> None:
    backend = Backend(cloud_name="Demo", api_key="key", api_secret=SECRET)
    urls = {url(backend, key, at=NOW + shift, expires_in=1 + shift) for shift in (0, 600, 86_400)}
    assert urls == {"https://res.cloudinary.com/Demo/" + path.replace("?", "upload/v1/uploads")}


@pytest.mark.parametrize(("key", "content"), [("a.png", PNG), ("a.mp4", MP4), ("a.html", HTML), ("b", b"x")])
def test_a_download_is_signed_and_answers_as_an_attachment(backend: Backend, key: str, content: bytes) -> None:
    save(backend, key, content)
    found, body, headers = fetch(url(backend, key, "my file.png"))
    assert (found, body, headers["content-disposition"][:10]) == (200, content, "attachment")


@pytest.mark.parametrize(("key", "content"), [("a.pdf", PDF), ("a.PDF", PDF), ("a.zip", ZIP)])
def test_a_file_that_the_cdn_does_not_deliver_has_a_signed_url(
    fake: Fake, backend: Backend, key: str, content: bytes
) -> None:
    save(backend, key, content)
    assert fetch(f"{fake.url}/demo/raw/upload/v1/uploads/{key}")[0] == 401
    assert fetch(url(backend, key))[:2] == (200, content)


@pytest.mark.parametrize("download_as", [None, "a.png"])
def test_a_signed_url_expires_in_time(fake: Fake, private: Backend, download_as: str | None) -> None:
    save(private, "a.png")
    address = url(private, "a.png", download_as, expires_in=7200)
    for shift, expected in ((-60, 200), (7100, 200), (7300, 401)):
        fake.now = lambda: NOW + shift  # noqa: B023 - it is called before the next iteration
        assert fetch(address)[0] == expected


def test_a_signed_url_with_any_change_is_refused(private: Backend) -> None:
    save(private, "a.png")
    save(private, "a.pn7")
    address = urlsplit(url(private, "a.png", "a.png"))
    assert (fetch(address.geturl())[0], len(list(tampered(address.query)))) == (200, 7)
    for query in tampered(address.query):
        assert fetch(address._replace(query=query).geturl())[0] == 401
    assert fetch(address._replace(path=address.path.replace("image", "raw")).geturl())[0] == 404


# -- private


@pytest.mark.parametrize(("key", "content"), [("a.png", PNG), ("a.mp4", MP4), ("a.txt", b"x")])
def test_private_files_have_only_urls_that_expire(
    fake: Fake, private: Backend, account: Account, key: str, content: bytes
) -> None:
    save(private, key, content)
    kind, stored_as, public_id = only(account).key
    assert stored_as == "authenticated"
    assert fetch(f"{fake.url}/demo/{kind}/authenticated/v1/{public_id}")[0] == 401
    assert fetch(f"{fake.url}/demo/{kind}/upload/v1/{public_id}")[0] == 404
    assert fetch(url(private, key))[:2] == (200, content)
    assert fetch(url(private, key, at=NOW - 4000))[0] == 401
    assert cloudinary_backend(fake).stat(key) is None
    assert [entry.key for entry in private.entries()] == [key]


@given(some_keys, st.sampled_from([SECRET, "&=|%~", "é"]))
def test_our_signatures_equal_those_of_the_sdk(key: str, secret: str) -> None:
    ours = Backend(cloud_name="demo", api_key="key", api_secret=secret, private=True)
    signed = dict(parse_qsl(urlsplit(url(ours, key, "a")).query))
    fields = {name: value for name, value in signed.items() if name not in {"api_key", "signature"}}
    assert signed["signature"] == utils.api_sign_request(fields, secret, algorithm="sha256", signature_version=2)


# -- faults

Operation = Callable[[Backend], object]
OPERATIONS: dict[str, Operation] = {
    "save": lambda backend: save(backend, "a.png"),
    "stat": lambda backend: backend.stat("a.png"),
    "delete": lambda backend: backend.delete("a.png"),
    "entries": lambda backend: list(backend.entries()),
    "open": lambda backend: backend.open("a.png"),
}
EVERY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
BUT_OPEN = pytest.mark.parametrize("operation", [*OPERATIONS.values()][:4], ids=[*OPERATIONS][:4])
LIMITED = "Rate Limit Exceeded. Limit of 500 api operations reached. Try again on {:%Y-%m-%d %H:%M:%S} UTC"
FAULTS: dict[str, Fault] = {str(code): status(code) for code in (429, 500, 502, 503)}
FAULTS |= {"hang up": hang_up, "not json": not_json}
ONCE: dict[str, Fault] = {**FAULTS, "done but 500": done_but(500), "lost": lost}
del ONCE["429"]  # the service asks for a long wait


def says(value: Any) -> Fault:
    """Answer with JSON that is not Cloudinary's."""
    return lambda service, request: Answer.json(200, value)


def at(number: int, fault: Fault) -> Fault:
    """Fail at one request of many."""
    count = itertools.count(1)
    return lambda service, request: (fault if next(count) == number else type(service).handle)(service, request)


@pytest.mark.parametrize("fault", ONCE.values(), ids=ONCE.keys())
def test_an_upload_that_fails_once_is_stored_once(fake: Fake, backend: Backend, account: Account, fault: Fault) -> None:
    fake.fail(fault, on="/upload")
    assert save(backend, "a.png") == hashlib.sha256(PNG).hexdigest()
    assert only(account).data == PNG


@pytest.mark.parametrize("fault", [*ONCE.values(), says({})], ids=[*ONCE, "empty json"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_failure_does_not_change_other_files(
    fake: Fake, backend: Backend, account: Account, fault: Fault, times: int
) -> None:
    save(backend, "a.png", theirs := PNG + b"theirs")
    fake.fail(fault, on="image/upload", times=times)
    with fails(errors.BackendError):
        save(backend, "a.png")
    assert only(account).data == theirs


@pytest.mark.parametrize(
    ("operation", "fault"),
    # Any answer to a download is the file, JSON or not.
    [(name, fault) for name in OPERATIONS for fault in FAULTS if (name, fault) != ("open", "not json")],
)
def test_an_outage_is_503_and_never_a_missing_file(fake: Fake, backend: Backend, operation: str, fault: str) -> None:
    fake.fail(FAULTS[fault], times=99)
    with fails(errors.BackendUnavailable):
        OPERATIONS[operation](backend)


@BUT_OPEN
@pytest.mark.parametrize("code", [420, 429])
def test_a_limit_of_calls_is_503_until_it_ends(fake: Fake, backend: Backend, operation: Operation, code: int) -> None:
    fake.fail(status(code, LIMITED.format(datetime.now(timezone.utc) + timedelta(seconds=1500))), times=9)
    with fails(errors.BackendUnavailable, match=r"limit of API calls is reached\. Wait until") as caught:
        operation(backend)
    assert 1490 <= caught.value.retry_after <= 1501


@BUT_OPEN
@pytest.mark.parametrize("value", [{}, [], None, {"error": "text"}, {"bytes": 1, "created_at": "today"}], ids=str)
def test_json_that_is_not_of_the_service_is_a_backend_error(
    fake: Fake, backend: Backend, operation: Operation, value: Any
) -> None:
    fake.fail(says(value), times=99)
    with fails(errors.BackendError):
        operation(backend)


def test_a_second_attempt_that_is_refused_does_not_hide_that_the_first_may_have_arrived(
    fake: Fake, backend: Backend
) -> None:
    fake.fail(done_but(500), on="image/upload")
    fake.fail(status(400, "Storage quota exceeded"), on="image/upload")
    with fails(errors.BackendUnavailable) as caught:
        save(backend, "a.png")
    assert isinstance(caught.value.__cause__, errors.BackendFull)


def test_an_altered_file_that_cannot_be_deleted_is_named(fake: Fake, backend: Backend, account: Account) -> None:
    account.altered = True
    fake.fail(status(503), on="/destroy", times=9)
    with fails(errors.BackendRefused, match=r"alters uploads.*may be left in the store: a\.png") as caught:
        save(backend, "a.png")
    assert caught.value.orphans == ("a.png",)


@pytest.mark.parametrize("answer", [{"result": "error"}, {"result": "not found"}])
def test_an_altered_file_is_named_if_the_service_does_not_confirm_its_deletion(
    fake: Fake, backend: Backend, account: Account, answer: dict[str, str]
) -> None:
    account.altered = True
    fake.fail(lambda service, request: Answer.json(200, answer), on="/destroy")
    with fails(errors.BackendRefused) as caught:
        save(backend, "a.png")
    assert caught.value.orphans == ("a.png",)


def test_an_altered_file_whose_answer_was_lost_is_in_doubt(fake: Fake, backend: Backend, account: Account) -> None:
    account.altered = True
    fake.fail(lost, on="image/upload")
    with fails(errors.BackendTimeout, match="did not confirm that it stored the file"):
        save(backend, "a.png")


def test_a_stream_with_short_reads_is_stored_completely(backend: Backend, account: Account) -> None:
    class Short(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(size if size is None or size < 0 else min(size, 100_000))

    content = PNG + LARGE
    backend.save("a.png", Short(content), content_type="image/png", size=len(content), filename="a.png")
    assert only(account).data == content


def test_a_service_that_accepts_no_connection_is_reported_in_time(fake: Fake) -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # they fill its queue, so that no further connection is made
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        begun = time.monotonic()
        prefix = f"http://127.0.0.1:{full.getsockname()[1]}"
        with fails(errors.BackendTimeout) as caught:
            save(cloudinary_backend(fake, upload_prefix=prefix, timeout=2), "a.png")
        assert caught.value.nothing_stored
        assert time.monotonic() - begun < 2 * 2  # by itself, the SDK would try four times


@EVERY_OPERATION
@pytest.mark.parametrize("wrong", [{"api_secret": "wrong"}, {"api_key": "nobody"}, {"cloud_name": "nowhere"}], ids=str)
def test_wrong_or_weak_credentials_are_502(fake: Fake, operation: Operation, wrong: dict[str, str]) -> None:
    with fails(errors.BackendRefused, match=r"\(401\)\. Correct cloud_name, api_key or api_secret\.") as caught:
        operation(cloudinary_backend(fake, **wrong))
    assert (caught.value.code, len(fake.requests)) == (502, 1)
    fake.fail(status(403))
    with fails(errors.BackendRefused, match="403"):
        operation(cloudinary_backend(fake))


@pytest.mark.parametrize("prefix", ["http://127.0.0.1:{port}", "http://nowhere.invalid"])
def test_without_a_connection_nothing_was_stored(fake: Fake, prefix: str) -> None:
    backend = cloudinary_backend(fake, upload_prefix=prefix.format(port=free_ports(1)[0]))
    with fails(errors.BackendUnavailable) as caught:
        save(backend, "a.png")
    assert (caught.value.nothing_stored, caught.value.key, caught.value.orphans) == (True, "a.png", ())


@pytest.mark.parametrize("fault", [hang_up, lost, status(503), not_json])
def test_after_a_connection_the_file_may_be_stored(fake: Fake, backend: Backend, fault: Fault) -> None:
    fake.fail(fault, times=9)
    with fails(errors.BackendUnavailable) as caught:
        save(backend, "a.png")
    assert not caught.value.nothing_stored


def test_a_file_that_exists_is_no_success_if_the_first_attempt_sent_nothing(
    backend: Backend, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(backend, "a.png")
    upload, attempts = backend._client.upload, itertools.count()

    def unreachable_once(*arguments: Any) -> Mapping[str, Any]:
        if next(attempts) == 0:
            raise remote.unreachable("a.png", nothing_stored=True)
        return upload(*arguments)

    monkeypatch.setattr(backend._client, "upload", unreachable_once)
    with fails(errors.FileExists):
        save(backend, "a.png")


# -- remedies

BY_URL = {"CLOUDINARY_URL": "cloudinary://nobody:secret@demo"}
BY_OWN_URL = {"DOCUMENTS_CLOUDINARY_URL": "cloudinary://nobody:secret@demo"}
BY_PARTS = {
    "CLOUDINARY_CLOUD_NAME": "demo",
    "UPLOADS_CLOUDINARY_API_KEY": "nobody",
    "UPLOADS_CLOUDINARY_API_SECRET": "secret",
}
BY_OWN_PARTS = {
    "DOCUMENTS_CLOUDINARY_CLOUD_NAME": "demo",
    "DOCUMENTS_CLOUDINARY_API_KEY": "nobody",
    "CLOUDINARY_API_SECRET": "secret",
}


def configured(name: str = "uploads", **variables: str) -> Backend:
    """Make the backend as ``init_app`` does, from variables of the environment."""
    reading = read_settings({}, variables, uploads=name, dotenv="")
    assert reading.problems == ()
    backend = build(choose(reading), reading.settings, environ=variables, instance_path=Path("/nowhere"))
    assert isinstance(backend, Backend)
    return backend


@pytest.mark.parametrize(
    ("name", "variables", "wrong", "setting"),
    [
        ("uploads", BY_URL, "CLOUDINARY_URL", "CLOUDINARY_URL"),
        ("documents", BY_URL, "CLOUDINARY_URL", "CLOUDINARY_URL"),
        ("documents", BY_OWN_URL, "DOCUMENTS_CLOUDINARY_URL", "DOCUMENTS_CLOUDINARY_URL"),
        (
            "uploads",
            BY_PARTS,
            "CLOUDINARY_CLOUD_NAME, UPLOADS_CLOUDINARY_API_KEY or UPLOADS_CLOUDINARY_API_SECRET",
            "UPLOADS_CLOUDINARY_API_KEY",
        ),
        (
            "documents",
            BY_OWN_PARTS,
            "DOCUMENTS_CLOUDINARY_CLOUD_NAME, DOCUMENTS_CLOUDINARY_API_KEY or CLOUDINARY_API_SECRET",
            "DOCUMENTS_CLOUDINARY_API_KEY",
        ),
        ("documents", {**BY_URL, **BY_OWN_URL}, "DOCUMENTS_CLOUDINARY_URL", "DOCUMENTS_CLOUDINARY_URL"),
    ],
)
@EVERY_OPERATION
def test_a_remedy_for_wrong_credentials_names_the_variables_that_the_user_set(
    fake: Fake, operation: Operation, name: str, variables: dict[str, str], wrong: str, setting: str
) -> None:
    backend = configured(name, **variables, CLOUDINARY_UPLOAD_PREFIX=fake.url)
    with fails(errors.BackendRefused) as caught:
        operation(backend)
    assert caught.value.problem == errors.Problem(
        "Cloudinary did not accept the credentials (401).", f"Correct {wrong}.", setting
    )


@pytest.mark.parametrize(
    ("name", "variables", "setting"),
    [
        ("uploads", {"CLOUDINARY_UPLOAD_PREFIX": "{}/other"}, "CLOUDINARY_UPLOAD_PREFIX"),
        ("documents", {"DOCUMENTS_CLOUDINARY_UPLOAD_PREFIX": "{}/other"}, "DOCUMENTS_CLOUDINARY_UPLOAD_PREFIX"),
        ("uploads", {"CLOUDINARY_URL": "cloudinary://key:secret@demo?upload_prefix={}/other"}, "CLOUDINARY_URL"),
        (
            "uploads",
            {
                "CLOUDINARY_URL": "cloudinary://key:secret@demo?upload_prefix=https://api.example.com",
                "UPLOADS_CLOUDINARY_UPLOAD_PREFIX": "{}/other",
            },
            "UPLOADS_CLOUDINARY_UPLOAD_PREFIX",
        ),
    ],
)
def test_a_remedy_for_a_wrong_address_names_the_variable_that_holds_it(
    fake: Fake, name: str, variables: dict[str, str], setting: str
) -> None:
    fake.fail(status(404, "no such page"), times=9)
    given = {variable: value.format(fake.url) for variable, value in variables.items()}
    backend = configured(name, **{**BY_URL, **given})
    with fails(errors.BackendRefused) as caught:
        backend.stat("a.png")
    assert (caught.value.remedy, caught.value.setting) == (f"Correct {setting}.", setting)


def test_a_remedy_for_a_missing_permission_names_the_key(fake: Fake) -> None:
    fake.fail(status(403), times=9)
    with fails(errors.BackendRefused) as caught:
        configured(**BY_PARTS, CLOUDINARY_UPLOAD_PREFIX=fake.url).stat("a.png")
    assert caught.value.setting == "UPLOADS_CLOUDINARY_API_KEY"
    assert caught.value.remedy.startswith("Allow the API key in UPLOADS_CLOUDINARY_API_KEY to")


ODD = "a: \"b\" 'c' {d} → e.png"


def test_the_words_of_the_service_and_of_the_user_are_kept_apart(
    fake: Fake, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    fake.fail(status(400, 'No way: because\nof "this"'), times=9)
    with fails(errors.BackendRefused) as caught:
        save(backend, ODD)
    error = caught.value
    assert (error.key, error.message) == (ODD, "Cloudinary refused the request (400).")
    assert "No way" not in f"{error} {error.description}"
    assert ascii('No way: because\nof "this"') in caplog.text
    assert "\nof" not in caplog.messages[-1]


def test_a_rejected_file_keeps_an_odd_name(backend: Backend) -> None:
    with fails(errors.TypeNotAllowed) as caught:
        backend.save("a.png", io.BytesIO(SVG), content_type="image/png", size=len(SVG), filename=ODD)
    assert (caught.value.filename, str(caught.value.description)[: len(ODD) + 2]) == (ODD, f"'{ODD}'")


def test_a_file_too_large_for_the_plan_is_413_with_the_limit(backend: Backend, account: Account) -> None:
    account.max_bytes["image"] = 10_000
    for size in (10_001, CHUNK + 1):
        with fails(errors.UploadTooLarge, match="At most 10 kB are accepted") as caught:
            save(backend, "a.png", PNG.ljust(size))
        assert (caught.value.code, caught.value.filename) == (413, "mine.png")
    assert not account.assets


def test_a_quota_that_is_used_up_is_507(fake: Fake, backend: Backend) -> None:
    fake.fail(status(400, "You have exceeded your storage quota"))
    with fails(errors.BackendFull, match="larger plan"):
        save(backend, "a.png")


def test_a_wrong_clock_is_reported(fake: Fake, backend: Backend) -> None:
    fake.now = lambda: time.time() + 7200
    with fails(errors.BackendRefused, match="clock of this machine"):
        save(backend, "a.png")


def test_a_file_that_the_account_alters_is_refused_and_deleted(backend: Backend, account: Account) -> None:
    account.altered = True
    with fails(errors.BackendRefused, match="upload preset"):
        save(backend, "a.png")
    assert not account.assets


@pytest.mark.parametrize(
    ("operation", "fault"),
    # Uploads and downloads may take longer, as long as bytes flow.
    [*((name, silent) for name in OPERATIONS), *((name, drip) for name in ("stat", "delete", "entries"))],
)
def test_a_missing_answer_is_504_within_the_timeout(fake: Fake, operation: str, fault: Fault) -> None:
    fake.fail(fault, times=9)
    begun = time.monotonic()
    with fails(errors.BackendTimeout):
        OPERATIONS[operation](cloudinary_backend(fake, timeout=0.6))
    assert time.monotonic() - begun < 0.6 + 0.5


@pytest.mark.parametrize("pieces", [-1, 1000])
def test_a_download_that_breaks_off_never_looks_complete(fake: Fake, backend: Backend, pieces: int) -> None:
    save(backend, "a.png", PNG * 10_000)
    fake.fail(cut, on="/download", times=9)
    with backend.open("a.png") as stream, fails(errors.BackendUnavailable):
        list(iter(lambda: stream.read(pieces), b""))


# -- chunks


def test_a_large_file_is_uploaded_in_chunks(fake: Fake, backend: Backend, account: Account) -> None:
    stream, content = io.BytesIO(b"skipped" + PNG + LARGE), PNG + LARGE
    stream.seek(7)
    backend.save("a.png", stream, content_type="image/png", size=len(content), filename="a.png")
    assert only(account).data == content
    ranges = [list(map(int, re.findall(r"\d+", request.headers["content-range"]))) for request in fake.requests]
    assert [start for start, _, _ in ranges] == list(range(0, len(content), CHUNK))
    assert all((end - start < 6 << 20, total) == (True, len(content)) for start, end, total in ranges)
    assert len({request.headers["x-unique-upload-id"] for request in fake.requests}) == 1


@pytest.mark.parametrize("number", [1, 2, 3], ids=["first", "middle", "last"])
@pytest.mark.parametrize("name", ["503", "hang up", "lost"])
def test_a_failed_chunk_is_sent_again(fake: Fake, backend: Backend, account: Account, number: int, name: str) -> None:
    content = LARGE[: 2 * CHUNK + 1000]
    fake.fail(at(number, ONCE[name]), times=99)
    assert save(backend, "a.bin", content) == hashlib.sha256(content).hexdigest()
    assert only(account).data == content
    assert len(fake.requests) == 4


def test_a_chunk_that_the_service_lost_changes_nothing(fake: Fake, backend: Backend, account: Account) -> None:
    save(backend, "a.bin", b"theirs")
    fake.fail(says({"done": False, "public_id": "uploads/a.bin", "resource_type": "raw"}), on="raw/upload", times=1)
    with fails(errors.BackendError):
        save(backend, "a.bin", LARGE[: CHUNK + 1])
    assert only(account).data == b"theirs"


# -- isolation

POISON = """
    cloud_name=other api_key=other api_secret=other upload_prefix=http://127.0.0.1:9 oauth_token=token
    upload_preset=preset signature_algorithm=sha1 signature_version=2 timeout=5 private_cdn=1 cname=example.com
    responsive_width=1 dpr=2.0 use_fetch_format=1 use_cache=1 sign_url=1 force_version=1 shorten=1
"""


Poison = Callable[[], None]


@pytest.fixture
def poison() -> Iterator[Poison]:
    yield lambda: cloudinary.config(**dict(pair.split("=", 1) for pair in POISON.split()), secure=False) and None
    cloudinary.reset_config()


def comparable(request: Request) -> object:
    """Return what a request says, without what differs each time."""
    fields, files = request.form() if request.body and "multipart" in request.headers["content-type"] else ({}, {})
    fixed = {name: value for name, value in fields.items() if name not in {"timestamp", "signature"}}
    path = re.sub(r"(timestamp|signature|expires_at)=\w+", "", request.target)
    return request.method, path, fixed, files, request.headers.get("authorization")


@pytest.mark.parametrize("is_private", [False, True])
def test_the_global_settings_of_the_sdk_change_nothing(
    fake: Fake, account: Account, is_private: bool, poison: Poison
) -> None:
    backend, seen = cloudinary_backend(fake, private=is_private), []
    for poisoned in (False, True):
        if poisoned:
            poison()
        save(backend, "a.png")
        stored = [(asset.key, asset.data, asset.context) for asset in account.assets.values()]
        answers = [read(backend, "a.png"), [entry.key for entry in backend.entries()], url(backend, "a.png")]
        backend.delete("a.png")
        assert backend.stat("a.png") is None
        seen.append((stored, answers, list(map(comparable, fake.requests))))
        fake.requests.clear()
    assert seen[0] == seen[1]
    assert len(seen[0][2]) == 7


def test_two_accounts_in_many_threads_do_not_mix_their_files(fake: Fake, account: Account) -> None:
    other = fake.add(cloud="other", api_key="other-key", api_secret="other-secret")
    account.admin_limit = other.admin_limit = 1 << 20
    backends = [cloudinary_backend(fake, cloud) for cloud in ("demo", "other")]

    def work(number: int) -> bool:
        backend, keys = backends[number % 2], [f"{number}/{item}.bin" for item in range(10)]
        for key in keys:
            save(backend, key, f"{number % 2} {key}".encode())
        right = all(read(backend, key) == f"{number % 2} {key}".encode() for key in keys)
        right &= sorted(entry.key for entry in backend.entries(f"{number}/")) == keys
        right &= list(backends[1 - number % 2].entries(f"{number}/")) == []
        for key in keys[1:]:
            backend.delete(key)
        return right

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(work, range(12)))
    for half, backend in enumerate(backends):
        assert sorted(entry.key for entry in backend.entries()) == sorted(f"{n}/0.bin" for n in range(half, 12, 2))


# -- listings


def test_entries_come_lazily_in_pages(fake: Fake, backend: Backend, account: Account) -> None:
    for number in range(1200):
        put(account, "raw", f"uploads/n/{number:04}")
    put(account, "image", "uploads/n/a_2epng")
    found = backend.entries("n/")
    assert fake.requests == []
    first = next(found).key
    assert len(fake.requests) == 1
    expected = {"n/a.png", *(f"n/{number:04}" for number in range(1200))}
    assert {first, *(entry.key for entry in found)} == expected
    assert account.admin_calls == len(fake.requests) == 5


def test_entries_leaves_out_files_that_the_backend_did_not_store(backend: Backend, account: Account) -> None:
    raw = ("sample", "uploads/a b", "uploads/x_2E", "uploads/x_", "uploads/a_2epng", "uploads/x.tar.gz", "uploads2/a")
    for public_id in (*raw, "uploads/_ff", "uploads/_2e_2e/x", "uploads/x_-y", "uploads/_41", "uploads/v1/a"):
        put(account, "raw", public_id)
    for public_id in ("uploads/x.png", "uploads/x", "uploads/x_2emp4"):
        put(account, "image", public_id)
    put(account, "raw", "uploads/z_-z", "../z")
    put(account, "raw", "uploads/z_-y", "y")
    put(account, "raw", "uploads/private", stored_as="authenticated")
    save(backend, "ours.png")
    assert [entry.key for entry in backend.entries()] == ["ours.png"]


def test_a_file_with_a_foreign_context_is_still_listed(backend: Backend, account: Account) -> None:
    save(backend, "ours.png")
    only(account).context["key"] = "holiday"
    assert [entry.key for entry in backend.entries()] == ["ours.png"]


def test_the_text_of_a_backend_holds_no_secret(backend: Backend, private: Backend) -> None:
    for shown in (str(backend), repr(backend), str(private), repr(private)):
        assert_no_secret(shown)
    assert str(backend) == "cloudinary, cloud demo, below uploads/ (public URLs)"
