"""Cloudinary where things go wrong: the real SDK over real sockets, against a fake that checks what it is sent."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import re
import socket
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import cloudinary
import pytest
import urllib3
from cloudinary import utils
from hypothesis import given
from hypothesis import strategies as st

from flask_persistent_uploads import errors
from flask_persistent_uploads.backends import names
from flask_persistent_uploads.backends.cloudinary import CHUNK
from flask_persistent_uploads.backends.cloudinary import CloudinaryBackend as Backend
from flask_persistent_uploads.stored import Ticket, Variant
from flask_persistent_uploads.testing import sample

from ..conftest import PNG, cloudinary_backend
from ..fakes.cloudinary import Account, Asset
from ..fakes.cloudinary import FakeCloudinary as Fake
from ..fakes.service import Answer, Fault, Request, cut, done_but, drip, hang_up, lost, not_json, silent, status
from ..servers import ROOT, clean_environment
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
    """The account, after whose use no secret is in any log."""
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
    """As ``pytest.raises``; and neither the error nor its traceback tells a secret."""
    with pytest.raises(kind, match=match) as caught:
        yield caught
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


def tampered(query: str) -> Iterator[str]:  # with each value changed in turn
    pairs = parse_qsl(query)
    for at, (name, value) in enumerate(pairs):
        other = "upload" if value == "authenticated" else "authenticated" if name == "type" else f"{value[:-1]}7"
        yield urlencode([*pairs[:at], (name, other if other != value else f"{value}7"), *pairs[at + 1 :]])


# -- where a key goes

PLACES = [
    ("a.png", PNG, "image uploads/a_2epng"),
    ("a.JPG", JPG, "image uploads/a_2eJPG"),
    (".png", PNG, "image uploads/_2epng"),
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
def test_a_key_decides_where_it_goes(backend: Backend, account: Account, key: str, content: bytes, place: str) -> None:
    assert save(backend, key, content) == hashlib.sha256(content).hexdigest()
    assert " ".join(only(account).key) == place.replace(" ", " upload ")
    assert only(account).data == content
    assert fetch(url(backend, key))[:2] == (200, content)


def test_long_names_are_hashed_and_their_keys_come_back(backend: Backend, account: Account) -> None:
    wanted = sorted([*LONG, *(key.replace("b", "c") for key in LONG)])
    for key in wanted:
        save(backend, key)
    assert sorted(asset.context["key"] for asset in account.assets.values()) == wanted
    assert all(len(asset.public_id) <= 255 for asset in account.assets.values())
    assert sorted(entry.key for entry in backend.entries()) == wanted
    assert [key for key in wanted if read(backend, key) != PNG or backend.stat(key) is None] == []


def test_a_long_folder_lists_what_is_in_it(backend: Backend) -> None:
    key = f"{FOLDER}/b.csv"
    save(backend, key)
    assert [entry.key for entry in backend.entries(f"{FOLDER}/")] == [key]


@given(st.sets(some_keys, max_size=12))
def test_no_two_keys_have_one_asset_and_each_name_is_taken_by_the_service(keys: set[str]) -> None:
    backend = Backend(cloud_name="demo", api_key="key", api_secret=SECRET)
    keys |= {names.escape(key, extension=True) for key in keys} | {key.swapcase() for key in keys}
    assets = [backend._asset(key) for key in sorted(filter(is_key, keys))]
    assert len({(asset.kind, asset.public_id) for asset in assets}) == len(assets)
    for asset in assets:
        assert re.fullmatch(r"[A-Za-z0-9/_.-]{1,255}", asset.public_id)
        assert asset.kind == "raw" or "." not in asset.public_id
        assert not re.search(r"(?:^|/)v\d+/|//", asset.public_id)
        context = {} if "_-" not in asset.public_id else {"context": {"custom": {"key": asset.key}}}
        assert backend._key(asset.kind, {"public_id": asset.public_id, **context}) == asset.key


# -- what is delivered


@pytest.mark.parametrize("key", ["a.webp", "a.jpeg", "a.JPG", "a.png"])
def test_a_picture_whose_extension_lies_is_delivered_byte_for_byte(backend: Backend, key: str) -> None:
    save(backend, key, PNG)
    got = [fetch(url(backend, key))[:2], fetch(url(backend, key, "a.png"))[:2], (200, read(backend, key))]
    assert got == [(200, PNG)] * 3


@pytest.mark.parametrize("content", [SVG, HTML, PDF, b"GIF", MP4], ids=["svg", "html", "pdf", "broken", "mp4"])
def test_what_is_no_picture_is_refused_under_such_a_name(backend: Backend, account: Account, content: bytes) -> None:
    with fails(errors.TypeNotAllowed) as caught:
        save(backend, "a.png", content)
    assert (caught.value.code, caught.value.filename) == (415, "mine.png")
    assert not account.assets


@pytest.mark.parametrize(
    ("key", "path"), [("a.png", "image/?/a_2epng"), ("a.mp4", "video/?/a_2emp4"), ("a", "raw/?/a")]
)
def test_a_public_url_is_permanent_and_the_same_at_all_times(key: str, path: str) -> None:
    backend = Backend(cloud_name="Demo", api_key="key", api_secret=SECRET)
    urls = {url(backend, key, at=NOW + shift, expires_in=1 + shift) for shift in (0, 600, 86_400)}
    assert urls == {"https://res.cloudinary.com/Demo/" + path.replace("?", "upload/v1/uploads")}


@pytest.mark.parametrize(("key", "content"), [("a.png", PNG), ("a.mp4", MP4), ("a.html", HTML), ("b", b"x")])
def test_a_download_is_signed_and_answers_as_an_attachment(backend: Backend, key: str, content: bytes) -> None:
    save(backend, key, content)
    found, body, headers = fetch(url(backend, key, "my file.png"))
    assert (found, body, headers["content-disposition"][:10]) == (200, content, "attachment")


@pytest.mark.parametrize(("key", "content"), [("a.pdf", PDF), ("a.PDF", PDF), ("a.zip", ZIP)])
def test_what_is_not_delivered_has_a_signed_url(fake: Fake, backend: Backend, key: str, content: bytes) -> None:
    save(backend, key, content)
    assert fetch(f"{fake.url}/demo/raw/upload/v1/uploads/{key}")[0] == 401
    assert fetch(url(backend, key))[:2] == (200, content)


@pytest.mark.parametrize("download_as", [None, "a.png"])
def test_a_signed_url_ends_when_it_was_said_to(fake: Fake, private: Backend, download_as: str | None) -> None:
    save(private, "a.png")
    address = url(private, "a.png", download_as, expires_in=7200)
    for shift, expected in ((-60, 200), (7100, 200), (7300, 401)):
        fake.now = lambda: NOW + shift  # noqa: B023 - it is called within this round
        assert fetch(address)[0] == expected


def test_a_signed_url_that_is_changed_anywhere_is_refused(private: Backend) -> None:
    save(private, "a.png")
    save(private, "a.pn7")
    address = urlsplit(url(private, "a.png", "a.png"))
    assert (fetch(address.geturl())[0], len(list(tampered(address.query)))) == (200, 7)
    for query in tampered(address.query):
        assert fetch(address._replace(query=query).geturl())[0] == 401
    assert fetch(address._replace(path=address.path.replace("image", "raw")).geturl())[0] == 404


# -- private


@pytest.mark.parametrize(("key", "content"), [("a.png", PNG), ("a.mp4", MP4), ("a.txt", b"x")])
def test_private_files_have_ending_urls(
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


@pytest.mark.parametrize("is_private", [False, True])
def test_a_variant_is_derived_by_the_service_and_only_of_pictures(fake: Fake, is_private: bool) -> None:
    backend = cloudinary_backend(fake, private=is_private)
    variant = Variant(width=40, height=30)
    save(backend, "a.webp")
    address = str(backend.variant_url("a.webp", variant, signed_at=NOW, expires_in=60))
    assert fetch(address)[:2] == (200, b"derived c_fill,h_30,w_40/f_auto,q_auto: " + PNG)
    for key in ("a.mp4", "a.svg", "a.pdf", "a"):
        assert backend.variant_url(key, variant, signed_at=NOW, expires_in=60) is None


def test_a_private_variant_is_refused_when_changed(private: Backend) -> None:
    for key in ("a.png", "b.png"):
        save(private, key)
    address = str(private.variant_url("a.png", Variant(40, 30), signed_at=NOW, expires_in=60))
    assert fetch(address)[0] == 200
    changes = [("w_40", "w_4000"), ("h_30", "h_31"), ("uploads/a", "uploads/b"), ("/s--", "/s--x"), ("q_auto", "q_1")]
    for old, new in changes:
        assert fetch(address.replace(old, new))[0] == 401
    assert fetch(re.sub("s--.*?--/", "", address))[0] == 401


@given(some_keys, st.integers(1, 4000), st.sampled_from([SECRET, "&=|%~", "é"]))
def test_our_signatures_are_those_of_the_sdk(key: str, width: int, secret: str) -> None:
    ours = Backend(cloud_name="demo", api_key="key", api_secret=secret, private=True)
    query = dict(parse_qsl(urlsplit(url(ours, key, "a")).query))
    ticket = ours.sign_upload(key, content_type="image/png", max_size=1, signed_at=NOW, expires_in=60).fields
    for signed in (query, ticket):
        fields = {name: value for name, value in signed.items() if name not in {"api_key", "signature"}}
        assert signed["signature"] == utils.api_sign_request(fields, secret, algorithm="sha256", signature_version=2)
    picture = f"{key[:200]}.png"
    derived = [{"crop": "fill", "width": width, "height": 30}, {"fetch_format": "auto", "quality": "auto"}]
    pinned = {"cloud_name": "demo", "api_secret": secret, "secure": True, "auth_token": False}
    signing = {"type": "authenticated", "sign_url": True, "long_url_signature": True, "transformation": derived}
    theirs = utils.cloudinary_url(ours._asset(picture).public_id, **pinned, **signing)[0]
    assert ours.variant_url(picture, Variant(width, 30), signed_at=NOW, expires_in=60) == theirs


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
del ONCE["429"]  # which asks us to wait


def says(value: Any) -> Fault:  # which is JSON, and yet no answer of Cloudinary
    return lambda service, request: Answer.json(200, value)


def at(number: int, fault: Fault) -> Fault:  # at one request of many
    count = itertools.count(1)
    return lambda service, request: (fault if next(count) == number else type(service).handle)(service, request)


@pytest.mark.parametrize("fault", ONCE.values(), ids=ONCE.keys())
def test_an_upload_that_fails_once_is_stored_once(fake: Fake, backend: Backend, account: Account, fault: Fault) -> None:
    fake.fail(fault, on="/upload")
    assert save(backend, "a.png") == hashlib.sha256(PNG).hexdigest()
    assert only(account).data == PNG


@pytest.mark.parametrize("fault", [*ONCE.values(), says({})], ids=[*ONCE, "empty json"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_failure_spares_other_files(fake: Fake, backend: Backend, account: Account, fault: Fault, times: int) -> None:
    save(backend, "a.png", theirs := PNG + b"theirs")
    fake.fail(fault, on="image/upload", times=times)
    with fails(errors.BackendError):
        save(backend, "a.png")
    assert only(account).data == theirs


@pytest.mark.parametrize(
    ("operation", "fault"),
    # What a download says is the file, be it JSON or not.
    [(name, fault) for name in OPERATIONS for fault in FAULTS if (name, fault) != ("open", "not json")],
)
def test_an_outage_is_503_and_never_not_there(fake: Fake, backend: Backend, operation: str, fault: str) -> None:
    fake.fail(FAULTS[fault], times=99)
    with fails(errors.BackendUnavailable, match="^503"):
        OPERATIONS[operation](backend)


@BUT_OPEN
@pytest.mark.parametrize("code", [420, 429])
def test_a_limit_of_calls_is_503_until_it_ends(fake: Fake, backend: Backend, operation: Operation, code: int) -> None:
    fake.fail(status(code, LIMITED.format(datetime.now(timezone.utc) + timedelta(seconds=1500))), times=9)
    with fails(errors.BackendUnavailable, match="limit of calls") as caught:
        operation(backend)
    assert 1490 <= caught.value.retry_after <= 1501


@BUT_OPEN
@pytest.mark.parametrize("value", [{}, [], None, {"error": "text"}], ids=str)
def test_json_of_others_is_an_error_of_ours(fake: Fake, backend: Backend, operation: Operation, value: Any) -> None:
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


def test_what_was_altered_and_cannot_be_taken_back_is_named(fake: Fake, backend: Backend, account: Account) -> None:
    account.altered = True
    fake.fail(status(503), on="/destroy", times=9)
    with fails(errors.BackendRefused, match=r"alters files.*What may be left there: a\.png") as caught:
        save(backend, "a.png")
    assert caught.value.orphans == ("a.png",)


@pytest.mark.parametrize("answer", [{"result": "error"}, {"result": "not found"}])
def test_what_was_not_taken_back_is_not_said_to_be(
    fake: Fake, backend: Backend, account: Account, answer: dict[str, str]
) -> None:
    account.altered = True
    fake.fail(lambda service, request: Answer.json(200, answer), on="/destroy")
    with fails(errors.BackendRefused) as caught:
        save(backend, "a.png")
    assert caught.value.orphans == ("a.png",)


def test_a_lost_answer_of_a_file_that_was_altered_is_in_doubt(fake: Fake, backend: Backend, account: Account) -> None:
    account.altered = True
    fake.fail(lost, on="image/upload")
    with fails(errors.BackendTimeout, match="did not say whether it stored the file"):
        save(backend, "a.png")


def test_a_stream_that_reads_short_is_stored_whole(backend: Backend, account: Account) -> None:
    class Short(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(size if size is None or size < 0 else min(size, 100_000))

    content = PNG + LARGE
    backend.save("a.png", Short(content), content_type="image/png", size=len(content), filename="a.png")
    assert only(account).data == content


def test_a_service_that_cannot_be_reached_is_told_within_the_timeout(fake: Fake) -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # its queue is full, so that no further connection is answered
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        begun = time.monotonic()
        with fails(errors.BackendTimeout):
            save(
                cloudinary_backend(fake, upload_prefix=f"http://127.0.0.1:{full.getsockname()[1]}", timeout=2), "a.png"
            )
        assert time.monotonic() - begun < 2 * 2  # the SDK by itself would try four times


@EVERY_OPERATION
@pytest.mark.parametrize("wrong", [{"api_secret": "wrong"}, {"api_key": "nobody"}, {"cloud_name": "nowhere"}], ids=str)
def test_wrong_or_weak_credentials_are_502(fake: Fake, operation: Operation, wrong: dict[str, str]) -> None:
    is_open = operation is OPERATIONS["open"]
    with fails(
        errors.BackendRefused, match="^502.*401" if is_open else "^502.*cloud name, the API key and the API secret"
    ):
        operation(cloudinary_backend(fake, **wrong))
    assert len(fake.requests) == 1
    fake.fail(status(403))
    with fails(errors.BackendRefused, match="^502.*403"):
        operation(cloudinary_backend(fake))


def test_a_file_too_large_for_the_plan_is_413_with_the_limit(backend: Backend, account: Account) -> None:
    account.max_bytes["image"] = 10_000
    for size in (10_001, CHUNK + 1):
        with fails(errors.UploadTooLarge, match="10,000 bytes") as caught:
            save(backend, "a.png", PNG.ljust(size))
        assert (caught.value.code, caught.value.filename) == (413, "mine.png")
    assert not account.assets


def test_a_quota_that_is_used_up_is_507(fake: Fake, backend: Backend) -> None:
    fake.fail(status(400, "You have exceeded your storage quota"))
    with fails(errors.BackendFull, match="^507"):
        save(backend, "a.png")


def test_a_wrong_clock_is_named(fake: Fake, backend: Backend) -> None:
    fake.now = lambda: time.time() + 7200
    with fails(errors.BackendRefused, match="clock of this machine"):
        save(backend, "a.png")


def test_a_file_that_the_account_alters_is_refused_and_taken_back(backend: Backend, account: Account) -> None:
    account.altered = True
    with fails(errors.BackendRefused, match="upload preset"):
        save(backend, "a.png")
    assert not account.assets


@pytest.mark.parametrize(
    ("operation", "fault"),
    # Uploads and downloads may take their time, as long as bytes flow.
    [*((name, silent) for name in OPERATIONS), *((name, drip) for name in ("stat", "delete", "entries"))],
)
def test_no_answer_is_504_within_the_timeout(fake: Fake, operation: str, fault: Fault) -> None:
    fake.fail(fault, times=9)
    begun = time.monotonic()
    with fails(errors.BackendTimeout, match="^504"):
        OPERATIONS[operation](cloudinary_backend(fake, timeout=0.6))
    assert time.monotonic() - begun < 0.6 + 0.5


@pytest.mark.parametrize("pieces", [-1, 1000])
def test_a_download_that_breaks_off_never_looks_complete(fake: Fake, backend: Backend, pieces: int) -> None:
    save(backend, "a.png", PNG * 10_000)
    fake.fail(cut, on="/download", times=9)
    with backend.open("a.png") as stream, fails(errors.BackendUnavailable):
        list(iter(lambda: stream.read(pieces), b""))


# -- chunks


def test_a_large_file_goes_up_in_chunks(fake: Fake, backend: Backend, account: Account) -> None:
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


def test_a_chunk_that_got_lost_there_deletes_nothing(fake: Fake, backend: Backend, account: Account) -> None:
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


def told(request: Request) -> object:  # without what differs each time
    fields, files = request.form() if request.body and "multipart" in request.headers["content-type"] else ({}, {})
    fixed = {name: value for name, value in fields.items() if name not in {"timestamp", "signature"}}
    path = re.sub(r"(timestamp|signature|expires_at)=\w+", "", request.target)
    return request.method, path, fixed, files, request.headers.get("authorization")


@pytest.mark.parametrize("is_private", [False, True])
def test_the_global_settings_change_nothing(fake: Fake, account: Account, is_private: bool, poison: Poison) -> None:
    backend, seen = cloudinary_backend(fake, private=is_private), []
    for poisoned in (False, True):
        if poisoned:
            poison()
        save(backend, "a.png")
        stored = [(asset.key, asset.data, asset.context) for asset in account.assets.values()]
        answers = [read(backend, "a.png"), [entry.key for entry in backend.entries()], url(backend, "a.png")]
        backend.delete("a.png")
        assert backend.stat("a.png") is None
        seen.append((stored, answers, list(map(told, fake.requests))))
        fake.requests.clear()
    assert seen[0] == seen[1]
    assert len(seen[0][2]) == 7


def test_two_accounts_in_many_threads_do_not_mix_up(fake: Fake, account: Account) -> None:
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


FORKING = textwrap.dedent(
    """
    import os, sys
    from flask_persistent_uploads.backends.cloudinary import CloudinaryBackend

    backend = CloudinaryBackend(cloud_name="demo", api_key="key", api_secret=sys.argv[2], upload_prefix=sys.argv[1])
    def is_wrong(number):
        with backend.open(f"{number}.bin") as stream:
            wrong = stream.read() != bytes([number]) * (20_000 + number)
        return wrong or backend.stat(f"{number}.bin").size != 20_000 + number
    assert not any(map(is_wrong, range(1, 5)))
    children = []
    ready, go = os.pipe()
    for number in range(1, 5):
        child = os.fork()
        if not child:
            wrong = 50
            try:
                os.close(go)
                os.read(ready, 1)  # all begin at once
                wrong = sum(is_wrong(number) for _ in range(20))
            finally:
                os._exit(wrong)
        children.append(child)
    os.close(go)
    print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
    """
)


def test_children_of_a_warmed_parent_get_no_wrong_answer(fake: Fake, backend: Backend, account: Account) -> None:
    for number in range(1, 5):
        save(backend, f"{number}.bin", bytes([number]) * (20_000 + number))
    environment = clean_environment(PYTHONPATH=str(ROOT))
    command = [sys.executable, "-W", "error", "-c", FORKING, fake.url, SECRET]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (json.loads(done.stdout or "null"), done.stderr) == ([0, 0, 0, 0], "")


# -- uploads from a browser


def ticket(backend: Backend, key: str, lasts: int = 3500) -> Ticket:
    return backend.sign_upload(key, content_type="image/png", max_size=9999, signed_at=NOW, expires_in=lasts)


def post(ticket: Ticket, content: bytes = PNG, *, to: str = "", changes: Mapping[str, str | None] | None = None) -> int:
    """Send it as a browser does: the fields, then the file."""
    fields = {name: value for name, value in {**ticket.fields, **(changes or {})}.items() if value is not None}
    with urllib3.PoolManager() as pool:
        address = re.sub(r"\w+(?=/upload$)", to, ticket.url) if to else ticket.url
        return pool.request("POST", address, fields={**fields, "file": ("mine.png", content)}, retries=False).status


@pytest.mark.parametrize("is_private", [False, True])
@pytest.mark.parametrize(
    ("key", "content"), [("a b.png", PNG), (f"{'я' * 120}|=.png", PNG), ("a.mp4", MP4), ("a", b"x")]
)
def test_a_browser_stores_for_the_key(fake: Fake, account: Account, is_private: bool, key: str, content: bytes) -> None:
    backend = cloudinary_backend(fake, private=is_private)
    assert post(ticket(backend, key), content) == 200
    assert getattr(backend.stat(key), "size", None) == len(content)
    assert [entry.key for entry in backend.entries()] == [key]
    assert read(backend, key) == content


@pytest.mark.parametrize(("key", "content"), [("a.tif", TIFF), ("a.tiff", TIFF), ("a.jfif", JPG), ("a.m4v", MP4)])
def test_a_ticket_takes_the_format_of_the_key(backend: Backend, account: Account, key: str, content: bytes) -> None:
    assert post(ticket(backend, key), content) == 200
    assert only(account).data == content


def test_a_ticket_that_is_changed_anywhere_is_refused(backend: Backend, account: Account) -> None:
    given = ticket(backend, "a.png")
    changes = {"public_id": "uploads/b_2epng", "overwrite": "1", "allowed_formats": "svg", "timestamp": str(NOW)}
    changes |= {"type": "private", "context": "key=b", "tags": "x", "api_key": "other", "signature": "0" * 64}
    assert set(given.fields) <= set(changes)
    for name, value in changes.items():
        assert post(given, changes={name: value}) == 401, name
        assert name not in given.fields or post(given, changes={name: None}) in {400, 401}
    assert not account.assets


def test_a_ticket_replaces_nothing(backend: Backend, account: Account) -> None:
    given = ticket(backend, "a.png")
    assert [post(given), post(given, PNG + b"other")] == [200, 200]
    assert only(account).data == PNG


@pytest.mark.parametrize("content", [SVG, HTML, JPG, PDF, MP4], ids=["svg", "html", "jpg", "pdf", "mp4"])
def test_another_format_than_the_ticket_names_is_refused(backend: Backend, account: Account, content: bytes) -> None:
    assert post(ticket(backend, "a.png"), content) == 400
    assert not account.assets


@pytest.mark.parametrize("to", ["raw", "auto"])
def test_what_is_sent_to_another_kind_is_not_there(backend: Backend, account: Account, to: str) -> None:
    assert (post(ticket(backend, "a.png"), HTML, to=to), only(account).resource_type) == (200, "raw")
    assert (backend.stat("a.png"), list(backend.entries())) == (None, [])
    assert fetch(url(backend, "a.png"))[0] == 404
    assert post(ticket(backend, "b.txt"), SVG, to="image") == 200
    assert backend.stat("b.txt") is None


@pytest.mark.parametrize("expires_in", [60, 3600, 9999])
def test_a_ticket_ends(fake: Fake, backend: Backend, expires_in: int) -> None:
    given, ends = ticket(backend, "a.png", expires_in), NOW + min(expires_in, 3600)
    fake.now = lambda: ends + 1
    assert post(given) == 400
    fake.now = lambda: ends - 1
    assert post(given) == 200


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


def test_entries_skips_what_is_not_ours(backend: Backend, account: Account) -> None:
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


def test_a_file_to_which_somebody_added_a_context_is_still_ours(backend: Backend, account: Account) -> None:
    save(backend, "ours.png")
    only(account).context["key"] = "holiday"
    assert [entry.key for entry in backend.entries()] == ["ours.png"]


def test_the_backend_does_not_show_its_secret(backend: Backend, private: Backend) -> None:
    for shown in (str(backend), repr(backend), str(private), repr(private), repr(ticket(backend, "a.png"))):
        assert_no_secret(shown)
    assert str(backend) == "cloudinary, cloud demo, below uploads/ (public urls)"
