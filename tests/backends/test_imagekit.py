"""ImageKit where things go wrong: the real SDK against a fake that checks signatures and breaks on demand."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
import json
import logging
import re
import secrets
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from imagekitio import ImageKit

from flask_persistent_uploads import errors
from flask_persistent_uploads.backends import imagekit, remote
from flask_persistent_uploads.backends.imagekit import ImageKitBackend as Backend
from flask_persistent_uploads.stored import Ticket, Variant

from ..conftest import PNG, imagekit_backend
from ..fakes.imagekit import Account, StoredFile
from ..fakes.imagekit import FakeImageKit as Fake
from ..fakes.service import Answer, FakeService, Fault, Request, cut, done_but, drip, hang_up, lost, not_json, silent
from ..fakes.service import status as answers
from ..fakes.test_imagekit import Reply, ask, post_form
from ..servers import ROOT, clean_environment, free_ports
from ..test_keys import any_key, is_key

PRIVATE_KEY = "private_4f1c0d7e"
SECRETS = (PRIVATE_KEY, base64.b64encode(PRIVATE_KEY.encode()).decode()[:-3], "ik-s=")
UPLOAD = "POST /api/v1/files/upload"
SEARCH = "GET /v1/files"
PURGE = "POST /v1/files/purge"

long_segment = st.text("ab1_. é日", min_size=60, max_size=255)
long_key = st.lists(long_segment | st.just("v1"), min_size=1, max_size=3).map("/".join)
every_key = (any_key | long_key | st.text("aA_v1./ é", min_size=1, max_size=12)).filter(is_key)
few = settings(max_examples=30)
_open: list[Backend] = []


def connect(fake: Fake, account_id: str = "demo", **options: Any) -> Backend:
    _open.append(imagekit_backend(fake, account_id, **options))
    return _open[-1]


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as fake:
        fake.add(private_key=PRIVATE_KEY)
        yield fake


@pytest.fixture
def account(fake: Fake) -> Account:
    return fake.accounts["demo"]


@pytest.fixture
def backend(fake: Fake) -> Backend:
    return connect(fake)


@pytest.fixture(autouse=True)
def _no_secret_is_logged_and_nothing_stays_open(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield
    while _open:
        for client in _open.pop()._client._built.values():
            client.close()
    remote._pool.get().clear()
    assert not [secret for secret in SECRETS if secret in caplog.text]


@contextlib.contextmanager
def raises(kind: type[Exception], match: str | None = None) -> Iterator[pytest.ExceptionInfo[Any]]:
    """As pytest.raises; the error must tell no secret to whoever logs it."""
    with pytest.raises(kind, match=match) as caught:
        yield caught
    error = caught.value
    told = f"{error} {error!r} {error.__cause__!r} {''.join(traceback.format_exception(error))}"
    assert not [secret for secret in SECRETS if secret in told]


def save(backend: Backend, key: str, content: bytes = PNG, *, overwrite: bool = False) -> str:
    return backend.save(
        key, io.BytesIO(content), content_type="image/png", size=len(content), filename="my.png", overwrite=overwrite
    )


def read(backend: Backend, key: str) -> bytes:
    with backend.open(key) as stream:
        return stream.read()


def url(backend: Backend, key: str, **options: Any) -> str:
    return backend.url(key, **{"signed_at": int(time.time()), "expires_in": 600, **options})


def sent(fake: Fake, what: str) -> int:
    return sum(f"{request.method} {request.target}".startswith(what) for request in fake.requests)


def done_and(change: Callable[[dict[str, Any]], Any]) -> Fault:
    """What was asked is done, and the answer that comes is another."""

    def fault(service: FakeService, request: Request) -> Answer:
        return Answer.json(200, change(json.loads(service.handle(request).body)))

    return fault


def says(body: bytes) -> Fault:
    return lambda service, request: Answer(200, body, {"Content-Type": "application/json"})


class TestWhereAKeyGoes:
    PLACES = (
        ("reports/3f9c-event-3.webp", "reports/3f9c-event-3.webp"),
        ("a.b/c_d/E 1.tar.gz", "a_2eb/c_5fd/E_201_2etar.gz"),
        (".hidden", "_2ehidden"),
        ("v1/a.png", "_761/a.png"),
        ("x" * 201, "x" * 150 + "_/" + "x" * 51),
        ("x" * 255, "x" * 150 + "_/" + "x" * 105),
        ("x" * 251 + ".png", "x" * 150 + "_/" + "x" * 101 + ".png"),
        (f"{'x' * 149} {'x' * 60}", "x" * 149 + "__/20" + "x" * 60),
        (f"{'x' * 255}/a.png", "x" * 150 + "_/" + "x" * 105 + "/a.png"),
        ("д" * 100 + "." + "e" * 16, ("_d0_b4" * 25 + "_/") * 3 + "_d0_b4" * 25 + "." + "e" * 16),
    )

    @pytest.mark.parametrize(("key", "path"), PLACES, ids=[key[:20] for key, _ in PLACES])
    def test_the_path_of_a_file_is_its_key_escaped(
        self, backend: Backend, account: Account, key: str, path: str
    ) -> None:
        save(backend, key)
        assert list(account.files) == [f"/uploads/{path}"]
        assert [entry.key for entry in backend.entries()] == [key]
        assert read(backend, key) == PNG
        backend.delete(key)
        assert account.files == {}

    @given(every_key)
    def test_a_path_has_only_signs_and_lengths_that_are_kept_and_is_that_of_one_key(self, key: str) -> None:
        backend = Backend(private_key="private", url_endpoint="https://ik.imagekit.io/demo")
        place = backend._place(key)
        assert re.fullmatch(r"/uploads(/[A-Za-z0-9_-]{1,200})*", place.folder)
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", place.name)
        assert place.path == f"{place.folder}/{place.name}"
        assert backend._key(place.path) == key

    @few
    @given(every_key)
    @example("v1/two.png")
    @example("a/v2/b")
    @example("v1/v2/v3")
    def test_a_file_is_among_the_entries_below_each_beginning_of_its_key(self, imagekit_server: Fake, key: str) -> None:
        prefix = secrets.token_hex(4)
        backend = connect(imagekit_server, prefix=prefix)
        imagekit_server.accounts["demo"].files[backend._place(key).path] = StoredFile("1", b"x")
        ends = {0, 1, len(key), *(found.end() for found in re.finditer("/", key))}
        assert [key[:end] for end in sorted(ends) if not list(backend.entries(key[:end]))] == []

    @pytest.mark.parametrize("prefix", ["uploads", "my files", "a.b/c_d", "v1", "é"])
    def test_any_prefix_keeps_and_lists_its_own_files_alone(self, fake: Fake, prefix: str) -> None:
        one, other = connect(fake, prefix=prefix), connect(fake, prefix=f"{prefix}-2")
        for backend, key in ((one, "a/b.png"), (other, "a/c.png")):
            save(backend, key)
        assert [entry.key for entry in one.entries()] == ["a/b.png"]
        assert [entry.key for entry in other.entries()] == ["a/c.png"]
        assert one.stat("a/c.png") is None


class TestUrls:
    @pytest.mark.parametrize("private", [False, True])
    def test_pictures_come_byte_for_byte_as_they_were_stored(self, fake: Fake, private: bool) -> None:
        backend = connect(fake, private=private)
        save(backend, "a b.png")
        shown, saved = ask(url(backend, "a b.png")), ask(url(backend, "a b.png", download_as="x.png"))
        assert shown.body == saved.body == PNG
        assert "Content-Disposition" not in shown.headers
        assert saved.headers["Content-Disposition"].startswith("attachment")
        assert read(backend, "a b.png") == PNG

    def test_a_public_url_is_permanent_and_the_plain_one_would_be_optimised(self, backend: Backend) -> None:
        save(backend, "a.png")
        (link,) = {url(backend, "a.png", signed_at=start, expires_in=window) for start in (1, 9) for window in (60, 99)}
        assert ask(link.partition("?")[0]).body.startswith(b"optimised")

    @pytest.mark.parametrize("private", [False, True])
    def test_a_variant_is_derived_from_the_picture(self, fake: Fake, private: bool) -> None:
        backend = connect(fake, private=private)
        save(backend, "a.png")
        link = backend.variant_url("a.png", Variant(320, 200), signed_at=int(time.time()), expires_in=60)
        assert link
        assert ask(link).body == b"derived w-320,h-200,c-maintain_ratio,f-auto: " + PNG
        assert backend.variant_url("a.csv", Variant(320, 200), signed_at=0, expires_in=60) is None

    def test_a_private_file_needs_a_url_that_is_signed_and_has_not_ended(self, fake: Fake) -> None:
        backend, now = connect(fake, private=True), time.time()
        save(backend, "a.png")
        link = url(backend, "a.png", signed_at=int(now), expires_in=600)
        for plain in (link.partition("?")[0], link.partition("&")[0]):
            assert ask(plain).status == 401
        fake.now = lambda: now + 590
        assert ask(link).status == 200
        fake.now = lambda: now + 601
        assert ask(link).status == 401

    CHANGES = (
        *(("/a.png", "/b.png"), ("tr=orig-true", "tr=w-10"), ("tr=orig-true&", ""), (r"&ik-s=.*", "")),
        *(("&ik-attachment=true", ""), (r"ik-t=\d", "ik-t=9"), (r"ik-t=\d+&", ""), (r"ik-s=..", "ik-s=00")),
        *(("attachment=true", "attachment=0"), (r"ik-s=.*", "ik-s=")),
    )

    @pytest.mark.parametrize(("part", "other"), CHANGES)
    def test_a_private_url_that_was_changed_opens_nothing(self, fake: Fake, part: str, other: str) -> None:
        backend = connect(fake, private=True)
        save(backend, "a.png")
        save(backend, "b.png")
        link = url(backend, "a.png", download_as="x.png")
        assert ask(link).status == 200
        assert re.search(part, link)
        assert ask(re.sub(part, other, link)).status == 401

    @pytest.mark.parametrize("what", [{"original": True}, {"width": 320, "height": 200}])
    @few
    @given(every_key.map("{}/a.png".format).filter(is_key), st.integers(1, 10**7))
    def test_our_signature_is_the_one_of_the_sdk(self, what: dict[str, Any], key: str, window: int) -> None:
        endpoint = "https://ik.imagekit.io/demo"
        backend = Backend(private_key="private", url_endpoint=endpoint, private=True)
        shape: Any = what if "original" in what else {**what, "crop": "maintain_ratio", "format": "auto"}
        theirs = SDK.helper.build_url(
            src=backend._place(key).path, url_endpoint=endpoint, transformation=[shape], expires_in=window
        )
        ends = int(parse_qs(urlsplit(theirs).query)["ik-t"][0])
        moment: Any = {"signed_at": ends - window, "expires_in": window}
        ours = backend.url(key, **moment) if "original" in what else backend.variant_url(key, SHAPE, **moment)
        assert ours == theirs


SDK = ImageKit(private_key="private")
SHAPE = Variant(320, 200)


class TestUploadsThatFail:
    BODIES = (b"[]", b"{}", b'"stored"', b"", b"null", b"caf\xe9")
    BUSY = answers(429, headers={"X-RateLimit-Reset": "4200"})
    OUTAGES = (answers(500), answers(503), BUSY, hang_up, not_json, *map(says, BODIES))
    CASES = (
        *((outage, errors.BackendUnavailable) for outage in OUTAGES),
        *((answers(code), errors.BackendRefused) for code in (400, 401, 403, 404)),
        (silent, errors.BackendTimeout),
    )

    @pytest.mark.parametrize(("fault", "error"), CASES)
    def test_nothing_is_stored_and_it_was_tried_twice_at_most(
        self, fake: Fake, account: Account, fault: Fault, error: type[errors.BackendError]
    ) -> None:
        begun = time.monotonic()
        fake.fail(fault, on=UPLOAD, times=9)
        with raises(error) as caught:
            save(connect(fake, timeout=1), "a.png")
        assert type(caught.value) is error
        assert getattr(caught.value, "retry_after", 5) == 5  # also 4200 milliseconds
        assert (caught.value.key, account.files) == ("a.png", {})
        assert sent(fake, UPLOAD) <= 2
        assert time.monotonic() - begun < 4

    def test_a_file_that_is_too_large_is_413_with_its_name(
        self, fake: Fake, backend: Backend, account: Account
    ) -> None:
        account.max_bytes["image"] = len(PNG) - 1
        with raises(errors.UploadTooLarge) as caught:
            save(backend, "a.png")
        assert (caught.value.code, caught.value.filename) == (413, "my.png")
        assert sent(fake, UPLOAD) == 1

    @pytest.mark.parametrize("code", [400, 403, 507])
    def test_a_library_that_is_full_is_507(self, fake: Fake, backend: Backend, code: int) -> None:
        fake.fail(answers(code, "You have exceeded the storage limit of your plan."), on=UPLOAD, times=2)
        with raises(errors.BackendFull):
            save(backend, "a.png")

    @pytest.mark.parametrize("other", [{"filePath": "/uploads/a_1.png"}, {"size": 1}, {"size": None}])
    def test_something_else_than_was_sent_is_refused_and_taken_back(
        self, fake: Fake, backend: Backend, account: Account, other: dict[str, Any]
    ) -> None:
        fake.fail(done_and(lambda told: {**told, **other}), on=UPLOAD)
        with raises(errors.BackendRefused, "alters"):
            save(backend, "a.png")
        assert account.files == {}

    NO_ANSWERS = (lost, done_but(500), done_but(503), done_and(lambda told: {}), done_and(lambda told: None))

    @pytest.mark.parametrize("fault", NO_ANSWERS)
    def test_a_save_whose_answer_was_lost_succeeds_with_one_file(
        self, fake: Fake, backend: Backend, account: Account, fault: Fault
    ) -> None:
        fake.fail(fault, on=UPLOAD)
        assert save(backend, "a.png") == hashlib.sha256(PNG).hexdigest()
        assert list(account.files) == ["/uploads/a.png"]
        assert (account.files["/uploads/a.png"].data, account.files["/uploads/a.png"].versions) == (PNG, [])
        assert sent(fake, UPLOAD) == 2

    def test_a_lost_answer_that_cannot_be_confirmed_is_504(
        self, fake: Fake, backend: Backend, account: Account
    ) -> None:
        account.index_delay = 60
        fake.fail(lost, on=UPLOAD)
        with raises(errors.BackendTimeout, match="did not say whether"):
            save(backend, "a.png")

    @pytest.mark.parametrize("search", [answers(500), answers(401), not_json, hang_up])
    def test_a_lost_answer_and_a_lost_search_are_no_success(self, fake: Fake, backend: Backend, search: Fault) -> None:
        fake.fail(lost, on=UPLOAD)
        fake.fail(search, on=SEARCH)
        with raises(errors.BackendError) as caught:
            save(backend, "a.png")
        assert not isinstance(caught.value, errors.FileExists | errors.FileMissing)

    def test_a_second_attempt_that_is_refused_does_not_hide_that_the_first_may_have_arrived(
        self, fake: Fake, backend: Backend
    ) -> None:
        fake.fail(lost, on=UPLOAD)
        fake.fail(answers(400, "Storage limit exceeded"), on=UPLOAD)
        with raises(errors.BackendUnavailable) as caught:
            save(backend, "a.png")
        assert isinstance(caught.value.__cause__, errors.BackendFull)

    def test_an_overwrite_is_done_though_its_older_copies_stay_in_the_cdn(
        self, fake: Fake, backend: Backend, account: Account, caplog: pytest.LogCaptureFixture
    ) -> None:
        save(backend, "a.png")
        fake.fail(answers(429), on=PURGE)
        content = PNG + b"new"
        backend.save("a.png", io.BytesIO(content), content_type="", size=len(content), filename="a", overwrite=True)
        assert account.files["/uploads/a.png"].data == content
        assert "the CDN may deliver 'a.png' as it was" in caplog.text

    def test_a_file_that_is_stored_and_not_delivered_is_not_missing(self, fake: Fake) -> None:
        wrong = connect(fake, url_endpoint=f"{fake.url}/ik/other")
        save(wrong, "a.png")
        with raises(errors.BackendRefused, match="is stored, but not found where files are delivered"):
            wrong.open("a.png")

    def test_an_overwrite_whose_answer_was_lost_replaces(self, fake: Fake, backend: Backend) -> None:
        save(backend, "a.png", PNG + b"old")
        assert read(backend, "a.png") == PNG + b"old"  # the CDN has it now
        fake.fail(lost, on=UPLOAD)
        save(backend, "a.png", PNG + b"new", overwrite=True)
        assert read(backend, "a.png") == PNG + b"new"

    @pytest.mark.parametrize("tags", [None, ["sha256-" + "0" * 64]])
    @pytest.mark.parametrize("retried", [False, True])
    def test_a_file_of_somebody_else_is_left_alone_also_after_a_retry(
        self, fake: Fake, backend: Backend, account: Account, retried: bool, tags: list[str] | None
    ) -> None:
        account.files["/uploads/a.png"] = StoredFile("1", other := PNG[::-1], tags=tags)
        if retried:
            fake.fail(hang_up, on=UPLOAD)
        # After a lost answer it may be ours as well, changed: this is then in doubt, and said so.
        with raises(errors.BackendTimeout if retried else errors.FileExists):
            save(backend, "a.png")
        assert account.files["/uploads/a.png"].data == other
        assert sent(fake, UPLOAD) == 1 + retried

    def test_a_file_goes_up_in_pieces_from_where_its_stream_stands(self, fake: Fake, account: Account) -> None:
        class Counting(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                assert size is not None
                assert 0 < size <= remote.PIECE
                return super().read(size)

        content = secrets.token_bytes(1 << 20) * 3
        stream = Counting(b"skipped" + content)
        stream.seek(7)
        fake.fail(hang_up, on=UPLOAD)  # so that it is sent again
        connect(fake).save("a", stream, content_type="text/plain", size=len(content), filename="a")
        assert account.files["/uploads/a"].data == content
        assert not stream.closed


OPERATIONS: dict[str, Callable[[Backend], object]] = {
    "stat": lambda backend: backend.stat("a.png"),
    "delete": lambda backend: backend.delete("a.png"),
    "entries": lambda backend: list(backend.entries()),
    "open": lambda backend: read(backend, "a.png"),
}
FAULTS: dict[str, Fault] = {
    **{str(code): answers(code) for code in (401, 403, 429, 500)},
    **dict(zip(("hang up", "silent", "cut", "not JSON", "drip"), (hang_up, silent, cut, not_json, drip), strict=True)),
    **{body.decode("latin-1"): says(body) for body in (b"{}", b"null", b"caf\xe9")},
}
PAGES = {"not JSON", "drip", "{}", "null", "caf\xe9"}  # nothing tells a file from them


class TestBrokenIsNeverNotThere:
    @pytest.mark.parametrize(
        ("operation", "fault"),
        [(name, fault) for name in OPERATIONS for fault in FAULTS if name != "open" or fault not in PAGES],
    )
    def test_it_is_an_error_of_the_store_in_time(self, fake: Fake, operation: str, fault: str) -> None:
        save(connect(fake), "a.png")
        fake.fail(FAULTS[fault], times=99)
        backend, begun = connect(fake, timeout=0.7), time.monotonic()
        with raises(errors.BackendError) as caught:
            OPERATIONS[operation](backend)
        assert isinstance(caught.value, errors.BackendUnavailable | errors.BackendRefused | errors.BackendTimeout)
        assert time.monotonic() - begun < 3

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_nobody_listening_is_503(self, fake: Fake, operation: str) -> None:
        nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
        with raises(errors.BackendUnavailable):
            OPERATIONS[operation](connect(fake, base_url=nowhere, url_endpoint=nowhere, timeout=3))

    def test_a_wrong_private_key_is_refused_everywhere(self, fake: Fake) -> None:
        save(connect(fake, private=True), "a.png")
        wrong = connect(fake, private=True, private_key="wrong")
        for operation in OPERATIONS.values():
            with raises(errors.BackendRefused):
                operation(wrong)
        with raises(errors.BackendRefused, "correct the private key"):
            save(wrong, "b.png")
        assert "wrong" not in f"{wrong} {wrong!r}"

    def test_a_purge_that_is_not_there_is_no_missing_file(self, fake: Fake, backend: Backend) -> None:
        save(backend, "a.png")
        fake.fail(answers(404), on=PURGE)
        with raises(errors.BackendRefused):
            backend.delete("a.png")


class TestDelete:
    def test_it_removes_one_path_and_nothing_that_looks_like_it(self, backend: Backend, account: Account) -> None:
        others = {"b/a.png", "a/b/a.png", "a.pngx", "A.png", "a.PNG", "a", "a/a.png", "aa.png", "a.png/b"}
        for key in {*others, "a.png"}:
            save(backend, key)
        service = account.service  # whose searches find more than they were asked for
        for deleting in (backend, connect(service)):
            service.fail(done_and(lambda told: list(map(account.describe, account.files))), on="searchQuery")
            deleting.delete("a.png")
            assert deleting.stat("a.png") is None
            assert {entry.key for entry in backend.entries()} == others
            save(backend, "a.png")

    @pytest.mark.parametrize("fault", [answers(503), answers(429), hang_up])
    def test_one_that_failed_can_be_tried_again_while_the_search_lags_behind(
        self, fake: Fake, backend: Backend, account: Account, fault: Fault
    ) -> None:
        account.index_delay = 60
        save(backend, "b.png")
        backend.delete("b.png")
        assert account.files == {}
        save(backend, "a.png")
        fake.fail(fault, on="DELETE")
        with raises(errors.BackendUnavailable):
            backend.delete("a.png")
        backend.delete("a.png")
        assert account.files == {}

    def test_a_file_of_another_process_that_the_search_does_not_find_yet_is_no_silent_success(
        self, fake: Fake, backend: Backend, account: Account
    ) -> None:
        account.index_delay = 60
        save(connect(fake), "a.png")
        with raises(errors.BackendUnavailable, match="does not find the file yet: delete it again later"):
            backend.delete("a.png")
        account.index_delay = 0
        backend.delete("a.png")
        assert account.files == {}
        backend.delete("a.png")

    @pytest.mark.parametrize("private", [False, True])
    def test_the_copies_in_the_cdn_are_gone_too(self, fake: Fake, private: bool) -> None:
        backend = connect(fake, private=private)
        save(backend, "a b.png")
        link = url(backend, "a b.png")
        assert ask(link).status == 200
        backend.delete("a b.png")
        assert ask(link).status == 404
        with raises(errors.FileMissing):
            backend.open("a b.png")

    @pytest.mark.parametrize("fault", [answers(429), answers(500), answers(400), hang_up])
    def test_copies_that_stay_are_an_error_until_deleted_again(
        self, fake: Fake, backend: Backend, fault: Fault
    ) -> None:
        save(backend, "a.png")
        assert read(backend, "a.png") == PNG
        fake.fail(fault, on=PURGE)
        with raises(errors.BackendError):
            backend.delete("a.png")
        backend.delete("a.png")
        with raises(errors.FileMissing):
            backend.open("a.png")

    def test_a_file_that_another_process_replaced_is_found(
        self, fake: Fake, backend: Backend, account: Account
    ) -> None:
        save(backend, "a.png")
        save(backend, "b.png")
        other = connect(fake)
        other.delete("a.png")
        save(other, "a.png", PNG + b"other")
        backend.delete("a.png")
        assert list(account.files) == ["/uploads/b.png"]


class TestEntries:
    def test_thousands_come_page_by_page_when_asked_for(self, fake: Fake, backend: Backend, account: Account) -> None:
        wanted = {f"many/{number}.png" for number in range(2100)} | {f"d{n % 7}/e{n % 3}/{n}" for n in range(200)}
        for number, key in enumerate(sorted(wanted)):
            account.files[f"/uploads/{key}"] = StoredFile(str(number), b"x", created_at=number % 60)
        entries = backend.entries("many/")
        assert fake.requests == []
        assert next(entries).key.startswith("many/")
        assert [request.query["skip"] for request in fake.requests] == ["0", "1000", "2000"]
        assert sorted(entry.key for entry in backend.entries()) == sorted(wanted)
        assert {entry.key for entry in backend.entries("d1/")} == {key for key in wanted if key.startswith("d1/")}

    def test_who_deletes_what_is_listed_misses_nothing(
        self, backend: Backend, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(imagekit, "_PAGE", 10)
        for number in range(35):
            account.files[f"/uploads/many/{number}.png"] = StoredFile(str(number), b"x", created_at=number)
        for entry in backend.entries("many/"):
            backend.delete(entry.key)
        assert account.files == {}

    def test_files_that_we_did_not_store_are_skipped(self, backend: Backend, account: Account) -> None:
        save(backend, "b c/d.png")
        foreign = ("two words.png", "a_png", "A_2E.png", "_41.png", "v1/x.png", "b.c/d.png", "_/x.png", "_2euploads/x")
        for number, name in enumerate(foreign):
            account.files[f"/uploads/{name}"] = StoredFile(str(number), b"x")
        account.files["/elsewhere/a.png"] = account.files["/uploads-2/a.png"] = StoredFile("x", b"x")
        (entry,) = backend.entries()
        assert (entry.key, entry.size, entry.sha256) == ("b c/d.png", len(PNG), hashlib.sha256(PNG).hexdigest())


FORKING = textwrap.dedent(
    """
    import os, sys
    from flask_persistent_uploads.backends.imagekit import ImageKitBackend

    private_key, url, private = sys.argv[1:]
    place = {"url_endpoint": f"{url}/ik/demo", "base_url": url, "private": private == "True"}
    backend = ImageKitBackend(private_key=private_key, **place)
    def is_wrong(number):
        with backend.open(str(number)) as stream:
            wrong = stream.read() != bytes([number]) * 20_000
        stat = backend.stat(str(number))
        return wrong or stat is None or (stat.key, stat.size) != (str(number), 20_000)
    assert not any(map(is_wrong, range(4)))
    children = []
    for number in range(4):
        children.append(os.fork())
        if not children[-1]:
            wrong = 50
            try:
                wrong = sum(is_wrong(number) for _ in range(20))
            finally:
                os._exit(wrong)
    print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
    """
)


class TestIsolation:
    def test_the_environment_of_the_sdk_changes_nothing(self, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
        fake.add("other", "private_other")
        monkeypatch.setenv("IMAGEKIT_PRIVATE_KEY", "private_other")
        monkeypatch.setenv("OPTIONAL_IMAGEKIT_IGNORES_THIS", "other")
        monkeypatch.setenv("IMAGE_KIT_CUSTOM_HEADERS", "Authorization: Basic cHJpdmF0ZV9vdGhlcjo=")
        backend = connect(fake, private=True)
        save(backend, "a.png")
        assert fake.accounts["other"].files == {}
        assert read(backend, "a.png") == PNG

    def test_the_environment_names_no_other_address(self, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IMAGE_KIT_BASE_URL", fake.url)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_ports(1)[0]}")  # this test goes nowhere else
        for operation in (save, Backend.stat):
            with raises(errors.BackendError):
                operation(connect(fake, base_url=None), "a.png")
        assert fake.requests == []

    def test_two_accounts_in_many_threads_do_not_mix_their_files_up(self, fake: Fake) -> None:
        fake.add("other", "private_other", "public_other")
        backends = {name: connect(fake, name, private=name == "other") for name in ("demo", "other")}

        def round_trip(thread: int) -> bool:
            name = ("demo", "other")[thread % 2]
            for number in range(10):
                content = f"{name} {thread} {number}".encode()
                save(backends[name], f"{thread // 2}/{number}", content)
                if read(backends[name], f"{thread // 2}/{number}") != content:
                    return False
            return True

        with ThreadPoolExecutor(12) as pool:
            assert all(pool.map(round_trip, range(12)))
        for name in backends:
            stored = [file.data for file in fake.accounts[name].files.values()]
            assert len(stored) == 60
            assert all(data.startswith(name.encode()) for data in stored)

    @pytest.mark.parametrize("private", [False, True])
    def test_children_of_a_warmed_parent_get_no_wrong_body(self, fake: Fake, private: bool) -> None:
        for number in range(4):
            save(connect(fake, private=private), str(number), bytes([number]) * 20_000)
        command = [sys.executable, "-c", FORKING, PRIVATE_KEY, fake.url, str(private)]
        environment = clean_environment(PYTHONPATH=str(ROOT))
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
        assert json.loads(done.stdout) == [0, 0, 0, 0]


class TestUploadsFromBrowsers:
    seconds = itertools.count(100)  # no two tickets are the same

    def ticket(self, backend: Backend, expires_in: int) -> Ticket:
        now = int(time.time())
        options: Any = {"content_type": "image/png", "max_size": 1_500_000, "signed_at": now, "expires_in": expires_in}
        ticket = backend.sign_upload("a b/c.png", **options)
        assert ticket is not None
        assert not [secret for secret in SECRETS if secret in f"{ticket!r} {ticket.fields}"]
        return ticket

    def send(self, backend: Backend, size: int = len(PNG), **changes: Any) -> Reply:
        ticket = self.ticket(backend, next(self.seconds))
        fields = {name: value for name, value in {**ticket.fields, **changes}.items() if value is not None}
        return post_form(ticket.url, fields, PNG.ljust(size))

    def test_without_a_public_key_there_is_no_ticket(self, fake: Fake) -> None:
        backend = connect(fake, public_key=None)
        assert backend.sign_upload("a", content_type="text/plain", max_size=1, signed_at=1, expires_in=60) is None

    @pytest.mark.parametrize("private", [False, True])
    def test_a_ticket_stores_one_file_where_the_key_is(self, fake: Fake, private: bool) -> None:
        backend = connect(fake, private=private)
        assert self.send(backend).status == 200
        assert read(backend, "a b/c.png") == PNG
        assert [(entry.size, entry.sha256) for entry in backend.entries("a b/")] == [(len(PNG), None)]
        assert fake.accounts["demo"].files["/uploads/a_20b/c.png"].is_private is private

    @pytest.mark.parametrize("field", ["fileName", "folder", "useUniqueFileName", "overwriteFile", "isPrivateFile"])
    @pytest.mark.parametrize("value", [None, "", "x", "true"])
    def test_no_field_can_be_changed(self, backend: Backend, account: Account, field: str, value: Any) -> None:
        change: dict[str, Any] = {field: value}
        assert self.send(backend, **change).status == 400
        assert account.files == {}

    @pytest.mark.parametrize("field", ["checks", "token", "tags", "customMetadata", "responseFields", "x"])
    def test_none_can_be_added_or_emptied(self, backend: Backend, account: Account, field: str) -> None:
        changes: list[dict[str, Any]] = [{field: value} for value in ("", "{}", "tags", '"file.size" < "9mb"')]
        assert {self.send(backend, **change).status for change in changes} <= {400, 401, 403}
        assert account.files == {}

    def test_a_ticket_works_once_and_never_replaces(self, fake: Fake, backend: Backend, account: Account) -> None:
        assert self.send(backend).status == 200
        used = fake.requests[-1]
        for _ in range(2):
            again = ask(f"{fake.url}{used.target}", "POST", used.body, Content_Type=used.headers["content-type"])
            assert again.status == 400
            backend.delete("a b/c.png")
        assert account.files == {}
        save(backend, "a b/c.png")
        assert self.send(backend, 999).status == 400
        assert read(backend, "a b/c.png") == PNG

    def test_a_ticket_ends(self, fake: Fake, backend: Backend, account: Account) -> None:
        now = time.time()
        fake.now = lambda: now + 3600
        assert self.send(backend).status == 400
        assert account.files == {}

    def test_a_longer_ticket_ends_with_the_longest_that_is_allowed(self, fake: Fake) -> None:
        ticket = self.ticket(connect(fake), 86_400)
        assert post_form(ticket.url, dict(ticket.fields)).status == 200

    def test_a_larger_file_than_was_allowed_is_refused(self, backend: Backend, account: Account) -> None:
        assert self.send(backend, 2_000_000).status == 400
        assert account.files == {}
        assert self.send(backend, 1_500_000).status == 200
