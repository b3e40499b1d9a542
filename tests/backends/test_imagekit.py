"""The ImageKit backend: the real SDK over real sockets, against a fake that checks requests and fails on demand."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import logging
import re
import secrets
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from imagekitio import ImageKit

from flask_persistent_uploads import errors
from flask_persistent_uploads.backends import build, choose, downloads, read_settings, remote
from flask_persistent_uploads.backends.imagekit import ImageKitBackend as Backend
from flask_persistent_uploads.backends.imagekit import backend as backend_module
from flask_persistent_uploads.backends.imagekit.places import key_of, place_of

from ..conftest import PNG, imagekit_backend
from ..fakes.imagekit import Account, StoredFile
from ..fakes.imagekit import FakeImageKit as Fake
from ..fakes.service import Answer, FakeService, Fault, Request, cut, done_but, drip, hang_up, lost, not_json, silent
from ..fakes.service import status as answers
from ..fakes.test_imagekit import ask
from ..servers import free_ports
from ..test_keys import is_key
from .test_names import any_key as short_key

PRIVATE_KEY = "private_4f1c0d7e"
SECRETS = (PRIVATE_KEY, base64.b64encode(PRIVATE_KEY.encode()).decode()[:-3], "ik-s=")
UPLOAD = "POST /api/v1/files/upload"
SEARCH = "GET /v1/files"
PURGE = "POST /v1/files/purge"

long_segment = st.text("ab1_. é日", min_size=60, max_size=255)
long_key = st.lists(long_segment | st.just("v1"), min_size=1, max_size=3).map("/".join)
any_key = (short_key | long_key | st.text("aA_v1./ é", min_size=1, max_size=12)).filter(is_key)
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
def _no_secret_is_logged_and_no_client_stays_open(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield
    while _open:
        for client in _open.pop()._client._built.values():
            client.close()
    downloads._pool.get().clear()
    assert not [secret for secret in SECRETS if secret in caplog.text]


@contextlib.contextmanager
def raises(kind: type[Exception], match: str | None = None) -> Iterator[pytest.ExceptionInfo[Any]]:
    """Expect an error, as ``pytest.raises`` does, that holds no secret. Neither may its traceback."""
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


def done_and(change: Callable[[Any], Any]) -> Fault:
    """Do what the request asks, and change the answer."""

    def fault(service: FakeService, request: Request) -> Answer:
        return Answer.json(200, change(json.loads(service.handle(request).body)))

    return fault


def says(body: bytes) -> Fault:
    """Answer with this body, and do nothing."""
    return lambda service, request: Answer(200, body, {"Content-Type": "application/json"})


class TestPlaces:
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

    @given(any_key)
    def test_a_path_has_only_allowed_characters_and_lengths_and_belongs_to_one_key(self, key: str) -> None:
        place = place_of(key, "uploads")
        assert re.fullmatch(r"/uploads(/[A-Za-z0-9_-]{1,200})*", place.folder)
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", place.name)
        assert place.path == f"{place.folder}/{place.name}"
        assert key_of(place.path, "uploads") == key

    @few
    @given(any_key)
    @example("v1/two.png")
    @example("a/v2/b")
    @example("v1/v2/v3")
    def test_a_file_is_listed_by_every_prefix_of_its_key(self, imagekit_server: Fake, key: str) -> None:
        prefix = secrets.token_hex(4)
        backend = connect(imagekit_server, prefix=prefix)
        imagekit_server.accounts["demo"].files[place_of(key, prefix).path] = StoredFile("1", b"x")
        ends = {0, 1, len(key), *(found.end() for found in re.finditer("/", key))}
        assert [key[:end] for end in sorted(ends) if not list(backend.entries(key[:end]))] == []

    @pytest.mark.parametrize("prefix", ["uploads", "my files", "a.b/c_d", "v1", "é"])
    def test_a_backend_lists_only_the_files_of_its_own_prefix(self, fake: Fake, prefix: str) -> None:
        one, other = connect(fake, prefix=prefix), connect(fake, prefix=f"{prefix}-2")
        for backend, key in ((one, "a/b.png"), (other, "a/c.png")):
            save(backend, key)
        assert [entry.key for entry in one.entries()] == ["a/b.png"]
        assert [entry.key for entry in other.entries()] == ["a/c.png"]
        assert one.stat("a/c.png") is None


class TestUrls:
    @pytest.mark.parametrize("private", [False, True])
    def test_pictures_are_delivered_byte_for_byte(self, fake: Fake, private: bool) -> None:
        backend = connect(fake, private=private)
        save(backend, "a b.png")
        shown, saved = ask(url(backend, "a b.png")), ask(url(backend, "a b.png", download_as="x.png"))
        assert shown.body == saved.body == PNG
        assert "Content-Disposition" not in shown.headers
        assert saved.headers["Content-Disposition"].startswith("attachment")
        assert read(backend, "a b.png") == PNG

    def test_a_public_url_is_permanent_and_asks_for_the_original(self, backend: Backend) -> None:
        save(backend, "a.png")
        (link,) = {url(backend, "a.png", signed_at=start, expires_in=window) for start in (1, 9) for window in (60, 99)}
        assert ask(link.partition("?")[0]).body.startswith(b"optimised")

    def test_a_private_file_needs_a_signed_url_that_has_not_expired(self, fake: Fake) -> None:
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
    def test_a_private_url_with_any_change_is_refused(self, fake: Fake, part: str, other: str) -> None:
        backend = connect(fake, private=True)
        save(backend, "a.png")
        save(backend, "b.png")
        link = url(backend, "a.png", download_as="x.png")
        assert ask(link).status == 200
        assert re.search(part, link)
        assert ask(re.sub(part, other, link)).status == 401

    @few
    @given(any_key.map("{}/a.png".format).filter(is_key), st.integers(1, 10**7))
    def test_our_signature_equals_that_of_the_sdk(self, key: str, window: int) -> None:
        endpoint = "https://ik.imagekit.io/demo"
        backend = Backend(private_key="private", url_endpoint=endpoint, private=True)
        theirs = SDK.helper.build_url(
            src=place_of(key, "uploads").path,
            url_endpoint=endpoint,
            transformation=[{"original": True}],
            expires_in=window,
        )
        ends = int(parse_qs(urlsplit(theirs).query)["ik-t"][0])
        assert backend.url(key, signed_at=ends - window, expires_in=window) == theirs


SDK = ImageKit(private_key="private")


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
    def test_a_failed_upload_stores_nothing_after_two_attempts_at_most(
        self, fake: Fake, account: Account, fault: Fault, error: type[errors.BackendError]
    ) -> None:
        begun = time.monotonic()
        fake.fail(fault, on=UPLOAD, times=9)
        with raises(error) as caught:
            save(connect(fake, timeout=1), "a.png")
        assert type(caught.value) is error
        assert getattr(caught.value, "retry_after", 5) == 5  # 4200 milliseconds are 5 seconds as well
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
    def test_a_full_library_is_507(self, fake: Fake, backend: Backend, code: int) -> None:
        fake.fail(answers(code, "You have exceeded the storage limit of your plan."), on=UPLOAD, times=2)
        with raises(errors.BackendFull):
            save(backend, "a.png")

    @pytest.mark.parametrize("other", [{"filePath": "/uploads/a_1.png"}, {"size": 1}, {"size": None}])
    def test_a_file_that_the_account_alters_is_refused_and_deleted(
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

    def test_a_lost_answer_that_the_search_does_not_confirm_is_504(
        self, fake: Fake, backend: Backend, account: Account
    ) -> None:
        account.index_delay = 60
        fake.fail(lost, on=UPLOAD)
        with raises(errors.BackendTimeout, match="did not confirm"):
            save(backend, "a.png")

    @pytest.mark.parametrize("search", [answers(500), answers(401), not_json, hang_up])
    def test_a_lost_answer_and_a_failed_search_are_no_success(
        self, fake: Fake, backend: Backend, search: Fault
    ) -> None:
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

    def test_an_overwrite_succeeds_even_if_old_copies_stay_in_the_cdn(
        self, fake: Fake, backend: Backend, account: Account, caplog: pytest.LogCaptureFixture
    ) -> None:
        save(backend, "a.png")
        fake.fail(answers(429), on=PURGE)
        content = PNG + b"new"
        backend.save("a.png", io.BytesIO(content), content_type="", size=len(content), filename="a", overwrite=True)
        assert account.files["/uploads/a.png"].data == content
        assert "the CDN may deliver the old content of 'a.png'" in caplog.text

    def test_a_stored_file_that_is_not_delivered_is_not_missing(self, fake: Fake) -> None:
        wrong = connect(fake, url_endpoint=f"{fake.url}/ik/other")
        save(wrong, "a.png")
        with raises(errors.BackendRefused, match=r"is stored, but .* Correct url_endpoint\."):
            wrong.open("a.png")

    def test_an_overwrite_whose_answer_was_lost_replaces_the_file(self, fake: Fake, backend: Backend) -> None:
        save(backend, "a.png", PNG + b"old")
        assert read(backend, "a.png") == PNG + b"old"  # the CDN has it now
        fake.fail(lost, on=UPLOAD)
        save(backend, "a.png", PNG + b"new", overwrite=True)
        assert read(backend, "a.png") == PNG + b"new"

    @pytest.mark.parametrize("tags", [None, ["sha256-" + "0" * 64]])
    @pytest.mark.parametrize("retried", [False, True])
    def test_another_file_with_the_same_name_is_never_changed(
        self, fake: Fake, backend: Backend, account: Account, retried: bool, tags: list[str] | None
    ) -> None:
        account.files["/uploads/a.png"] = StoredFile("1", other := PNG[::-1], tags=tags)
        if retried:
            fake.fail(hang_up, on=UPLOAD)
        # After a lost answer, the file may also be ours, changed by the service: that is in doubt.
        with raises(errors.BackendTimeout if retried else errors.FileExists):
            save(backend, "a.png")
        assert account.files["/uploads/a.png"].data == other
        assert sent(fake, UPLOAD) == 1 + retried

    def test_a_file_is_uploaded_in_pieces_from_the_position_of_its_stream(self, fake: Fake, account: Account) -> None:
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
PAGES = {"not JSON", "drip", "{}", "null", "caf\xe9"}  # they could be files


class TestOutages:
    @pytest.mark.parametrize(
        ("operation", "fault"),
        [(name, fault) for name in OPERATIONS for fault in FAULTS if name != "open" or fault not in PAGES],
    )
    def test_an_outage_is_a_backend_error_in_time(self, fake: Fake, operation: str, fault: str) -> None:
        save(connect(fake), "a.png")
        fake.fail(FAULTS[fault], times=99)
        backend, begun = connect(fake, timeout=0.7), time.monotonic()
        with raises(errors.BackendError) as caught:
            OPERATIONS[operation](backend)
        assert isinstance(caught.value, errors.BackendUnavailable | errors.BackendRefused | errors.BackendTimeout)
        assert time.monotonic() - begun < 3

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_a_refused_connection_is_503(self, fake: Fake, operation: str) -> None:
        nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
        with raises(errors.BackendUnavailable):
            OPERATIONS[operation](connect(fake, base_url=nowhere, url_endpoint=nowhere, timeout=3))

    def test_a_wrong_private_key_is_refused_by_every_operation(self, fake: Fake) -> None:
        save(connect(fake, private=True), "a.png")
        wrong = connect(fake, private=True, private_key="wrong")
        for operation in OPERATIONS.values():
            with raises(errors.BackendRefused):
                operation(wrong)
        with raises(errors.BackendRefused, r"did not accept the private key \(403\)\. Correct private_key\."):
            save(wrong, "b.png")
        assert "wrong" not in f"{wrong} {wrong!r}"

    def test_a_404_for_a_purge_is_not_a_missing_file(self, fake: Fake, backend: Backend) -> None:
        save(backend, "a.png")
        fake.fail(answers(404), on=PURGE)
        with raises(errors.BackendRefused):
            backend.delete("a.png")


class TestWhatMayBeStored:
    @pytest.mark.parametrize("address", ["http://127.0.0.1:{port}", "http://nowhere.invalid"])
    def test_without_a_connection_nothing_was_stored(self, fake: Fake, address: str) -> None:
        with raises(errors.BackendUnavailable) as caught:
            save(connect(fake, base_url=address.format(port=free_ports(1)[0])), "a.png")
        assert (caught.value.nothing_stored, caught.value.key, caught.value.orphans) == (True, "a.png", ())

    def test_a_connection_that_is_not_made_in_time_stored_nothing(self, fake: Fake) -> None:
        with contextlib.ExitStack() as stack:
            full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(4):  # they fill its queue, so that no further connection is made
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            with raises(errors.BackendTimeout) as caught:
                save(connect(fake, base_url=f"http://127.0.0.1:{full.getsockname()[1]}", timeout=1), "a.png")
        assert caught.value.nothing_stored

    @pytest.mark.parametrize("fault", [hang_up, lost, silent, answers(503), not_json])
    def test_after_a_connection_the_file_may_be_stored(self, fake: Fake, fault: Fault) -> None:
        fake.fail(fault, on=UPLOAD, times=9)
        fake.fail(answers(503), on=SEARCH, times=9)
        with raises(errors.BackendError) as caught:
            save(connect(fake, timeout=1), "a.png")
        assert not caught.value.nothing_stored

    def test_a_search_without_a_connection_says_nothing_of_the_upload(
        self, fake: Fake, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nowhere = connect(fake, base_url=f"http://127.0.0.1:{free_ports(1)[0]}")
        monkeypatch.setattr(backend, "_client", nowhere._client)  # the upload API is still there
        fake.fail(lost, on=UPLOAD)
        with raises(errors.BackendUnavailable) as caught:
            save(backend, "a.png")
        assert (caught.value.nothing_stored, sent(fake, UPLOAD)) == (False, 2)

    def test_a_file_that_exists_is_no_success_if_the_first_attempt_sent_nothing(
        self, fake: Fake, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save(backend, "a.png")
        nowhere = connect(fake, base_url=f"http://127.0.0.1:{free_ports(1)[0]}")
        clients = iter([nowhere._uploader.get(), backend._uploader.get()])
        monkeypatch.setattr(backend, "_uploader", SimpleNamespace(get=lambda: next(clients)))
        with raises(errors.FileExists):
            save(backend, "a.png")


ODD = "a: \"b\" 'c' {d} → e.png"


def configured(name: str = "uploads", **variables: str) -> Backend:
    """Make the backend as ``init_app`` does, from variables of the environment."""
    reading = read_settings({}, variables, uploads=name, dotenv="")
    backend = build(choose(reading), reading.settings, environ=variables, instance_path=Path("/nowhere"))
    assert isinstance(backend, Backend)
    _open.append(backend)
    return backend


class TestMessages:
    @pytest.mark.parametrize(
        ("name", "start"), [("uploads", "UPLOADS_"), ("uploads", ""), ("documents", "DOCUMENTS_"), ("documents", "")]
    )
    def test_a_remedy_names_the_variable_that_the_user_set(self, fake: Fake, name: str, start: str) -> None:
        variables = {
            f"{start}IMAGEKIT_PRIVATE_KEY": "wrong",
            f"{start}IMAGEKIT_URL_ENDPOINT": f"{fake.url}/ik/other",
            f"{name.upper()}_IMAGEKIT_BASE_URL": fake.url,
            f"{name.upper()}_IMAGEKIT_PRIVATE": "true",
        }
        made = configured(name, **variables)
        with raises(errors.BackendRefused) as caught:
            made.stat("a.png")
        setting = f"{start}IMAGEKIT_PRIVATE_KEY"
        assert caught.value.problem == errors.Problem(
            "ImageKit did not accept the private key (403).", f"Correct {setting}.", setting
        )
        fake.fail(answers(403), on="/ik/")
        with raises(errors.BackendRefused, match=f"signature of the URL .403.. Correct {setting};"):
            made.open("a.png")

    def test_the_address_of_a_file_that_is_not_delivered_is_named(self, fake: Fake) -> None:
        made = configured(
            IMAGEKIT_PRIVATE_KEY=PRIVATE_KEY,
            UPLOADS_IMAGEKIT_URL_ENDPOINT=f"{fake.url}/ik/other",
            IMAGE_KIT_BASE_URL=fake.url,
        )
        save(made, "a.png")
        with raises(errors.BackendRefused) as caught:
            made.open("a.png")
        assert caught.value.setting == "UPLOADS_IMAGEKIT_URL_ENDPOINT"
        assert caught.value.remedy == "Correct UPLOADS_IMAGEKIT_URL_ENDPOINT."

    def test_a_public_file_that_is_refused_is_no_fault_of_the_key(self, fake: Fake, backend: Backend) -> None:
        fake.fail(answers(403), on="/ik/")
        with raises(errors.BackendRefused, match="security settings") as caught:
            backend.open("a.png")
        assert caught.value.setting is None

    def test_the_words_of_the_service_are_only_in_the_log(
        self, fake: Fake, backend: Backend, caplog: pytest.LogCaptureFixture
    ) -> None:
        fake.fail(answers(400, 'No way: because\nof "this"'), on=UPLOAD)
        with raises(errors.BackendRefused) as caught:
            save(backend, ODD)
        error = caught.value
        assert (error.key, error.message) == (ODD, "ImageKit refused the request (400).")
        assert "No way" not in f"{error} {error.description}"
        assert ascii('No way: because\nof "this"') in caplog.text

    def test_a_rejected_file_keeps_an_odd_name(self, fake: Fake, backend: Backend) -> None:
        fake.fail(answers(400, "This type is not allowed"), on=UPLOAD)
        with raises(errors.TypeNotAllowed) as caught:
            backend.save("a.png", io.BytesIO(PNG), content_type="image/png", size=len(PNG), filename=ODD)
        assert caught.value.description == f"'{ODD}' was rejected. Files of this type are not accepted."

    def test_json_that_is_nested_too_deeply_is_a_backend_error(self, fake: Fake, backend: Backend) -> None:
        fake.fail(says(b"[" * 100_000), on=SEARCH)
        with raises(errors.BackendUnavailable):
            backend.stat("a.png")

    @pytest.mark.parametrize("change", [{"updatedAt": "today"}, {"updatedAt": None}, {"size": "x"}, {"tags": [1]}])
    def test_a_listing_that_is_not_of_the_service_is_a_backend_error(
        self, fake: Fake, backend: Backend, account: Account, change: dict[str, Any]
    ) -> None:
        save(backend, "a.png")
        fake.fail(done_and(lambda found: [{**found[0], **change}]), on=SEARCH)
        with raises(errors.BackendUnavailable):
            backend.stat("a.png")


class TestDelete:
    def test_it_removes_one_path_and_no_similar_one(self, backend: Backend, account: Account) -> None:
        others = {"b/a.png", "a/b/a.png", "a.pngx", "A.png", "a.PNG", "a", "a/a.png", "aa.png", "a.png/b"}
        for key in {*others, "a.png"}:
            save(backend, key)
        service = account.service  # its searches return more than was asked for
        for deleting in (backend, connect(service)):
            service.fail(done_and(lambda told: list(map(account.describe, account.files))), on="searchQuery")
            deleting.delete("a.png")
            assert deleting.stat("a.png") is None
            assert {entry.key for entry in backend.entries()} == others
            save(backend, "a.png")

    @pytest.mark.parametrize("fault", [answers(503), answers(429), hang_up])
    def test_a_failed_one_can_be_repeated_before_the_search_lists_the_file(
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

    def test_it_fails_if_the_search_does_not_list_the_file_of_another_process_yet(
        self, fake: Fake, backend: Backend, account: Account
    ) -> None:
        account.index_delay = 60
        save(connect(fake), "a.png")
        with raises(errors.BackendUnavailable, match="does not list it yet. Delete the file again in a minute."):
            backend.delete("a.png")
        account.index_delay = 0
        backend.delete("a.png")
        assert account.files == {}
        backend.delete("a.png")

    @pytest.mark.parametrize("private", [False, True])
    def test_it_removes_the_copies_in_the_cdn_too(self, fake: Fake, private: bool) -> None:
        backend = connect(fake, private=private)
        save(backend, "a b.png")
        link = url(backend, "a b.png")
        assert ask(link).status == 200
        backend.delete("a b.png")
        assert ask(link).status == 404
        with raises(errors.FileMissing):
            backend.open("a b.png")

    @pytest.mark.parametrize("fault", [answers(429), answers(500), answers(400), hang_up])
    def test_it_fails_until_the_copies_in_the_cdn_are_removed(self, fake: Fake, backend: Backend, fault: Fault) -> None:
        save(backend, "a.png")
        assert read(backend, "a.png") == PNG
        fake.fail(fault, on=PURGE)
        with raises(errors.BackendError):
            backend.delete("a.png")
        backend.delete("a.png")
        with raises(errors.FileMissing):
            backend.open("a.png")

    def test_it_finds_a_file_that_another_process_replaced(
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
    def test_thousands_are_listed_page_by_page_on_demand(self, fake: Fake, backend: Backend, account: Account) -> None:
        wanted = {f"many/{number}.png" for number in range(2100)} | {f"d{n % 7}/e{n % 3}/{n}" for n in range(200)}
        for number, key in enumerate(sorted(wanted)):
            account.files[f"/uploads/{key}"] = StoredFile(str(number), b"x", created_at=number % 60)
        entries = backend.entries("many/")
        assert fake.requests == []
        assert next(entries).key.startswith("many/")
        assert [request.query["skip"] for request in fake.requests] == ["0", "1000", "2000"]
        assert sorted(entry.key for entry in backend.entries()) == sorted(wanted)
        assert {entry.key for entry in backend.entries("d1/")} == {key for key in wanted if key.startswith("d1/")}

    def test_a_caller_that_deletes_each_entry_misses_none(
        self, backend: Backend, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backend_module, "_PAGE", 10)
        for number in range(35):
            account.files[f"/uploads/many/{number}.png"] = StoredFile(str(number), b"x", created_at=number)
        for entry in backend.entries("many/"):
            backend.delete(entry.key)
        assert account.files == {}

    def test_files_that_the_backend_did_not_store_are_left_out(self, backend: Backend, account: Account) -> None:
        save(backend, "b c/d.png")
        foreign = ("two words.png", "a_png", "A_2E.png", "_41.png", "v1/x.png", "b.c/d.png", "_/x.png", "_2euploads/x")
        for number, name in enumerate(foreign):
            account.files[f"/uploads/{name}"] = StoredFile(str(number), b"x")
        account.files["/elsewhere/a.png"] = account.files["/uploads-2/a.png"] = StoredFile("x", b"x")
        (entry,) = backend.entries()
        assert (entry.key, entry.size, entry.sha256) == ("b c/d.png", len(PNG), hashlib.sha256(PNG).hexdigest())


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

    def test_the_environment_does_not_change_the_address(self, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IMAGE_KIT_BASE_URL", fake.url)
        nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
        monkeypatch.setenv("HTTPS_PROXY", nowhere)  # so that no request leaves this machine
        for operation in (save, Backend.stat):
            with raises(errors.BackendError):
                operation(connect(fake, base_url=None), "a.png")
        assert fake.requests == []

    def test_two_accounts_in_many_threads_do_not_mix_their_files(self, fake: Fake) -> None:
        fake.add("other", "private_other")
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
