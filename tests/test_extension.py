"""``save_uploads`` and the other methods: which files are stored, all or nothing, and how they are used."""

from __future__ import annotations

import copy
import hashlib
import inspect
import io
import json
import logging
import pickle
import secrets
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from flask import Flask, Request, Response, jsonify, render_template_string, request, url_for
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.http import parse_options_header

import flask_persistent_uploads
from flask_persistent_uploads import (
    BackendFull,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    FileMissing,
    InvalidKey,
    Problem,
    StoredFile,
    TypeNotAllowed,
    UploadMalformed,
    Uploads,
    UploadTooLarge,
    file_deleted,
    file_saved,
    save_uploads,
    upload_url,
)
from flask_persistent_uploads.backends.base import Backend
from flask_persistent_uploads.backends.memory import MemoryBackend
from flask_persistent_uploads.serving import redirects

from .conftest import PNG, MakeApp, settings_of, state_of
from .servers import S3Server

File = tuple[IO[bytes], str]


@pytest.fixture
def memory(make_app: MakeApp, uploads: Uploads) -> Iterator[Flask]:
    app = make_app(uploads, UPLOADS_BACKEND="memory", UPLOADS_MAX_SIZE="100kB")
    with app.app_context():
        yield app


def post(app: Flask, data: dict[str, Any], view: Callable[[], Any] = save_uploads) -> tuple[Any, Any]:
    """Send a form to a view. Return what the view returned or raised, and the response."""
    seen: list[Any] = []

    def answer() -> Response:
        try:
            seen.append(view())
        except Exception as error:
            seen.append(error)
            raise
        return jsonify(seen[0])

    if "answer" not in app.view_functions:
        app.add_url_rule("/answer", "answer", methods=["POST"])
    app.view_functions["answer"] = answer
    response = app.test_client().post("/answer", data=data, buffered=True)
    return (seen or [None])[0], response


def stored_keys(uploads: Uploads, prefix: str = "") -> set[str]:
    return {entry.key for entry in uploads.backend.entries(prefix)}


def content_of(uploads: Uploads, path: str) -> bytes:
    with uploads.open(path) as stream:
        return stream.read()


# -- results


def test_save_uploads_returns_the_path_of_each_file_under_its_field(app: Flask, uploads: Uploads) -> None:
    paths, response = post(
        app, {"photo": (io.BytesIO(PNG), "Event 3.PNG"), "cv": (io.BytesIO(b"%PDF-1.7 x"), "cv.pdf"), "name": "Zoë"}
    )
    assert isinstance(paths, MultiDict)
    photo = paths["photo"]
    assert response.json == {"photo": photo, "cv": paths["cv"]}
    assert photo == f"uploads/{photo.key}"
    assert photo.key.endswith("-event-3.png")
    assert (photo.filename, photo.content_type, photo.size) == ("Event 3.PNG", "image/png", len(PNG))
    assert photo.sha256 == hashlib.sha256(PNG).hexdigest()
    assert photo.url == f"/{photo}"
    assert content_of(uploads, photo) == PNG


def test_several_files_of_one_field_are_stored_in_order(app: Flask, uploads: Uploads) -> None:
    contents = [bytes([number]) * 1000 for number in range(9)]
    paths, _ = post(app, {"photos": [(io.BytesIO(content), f"{n}.bin") for n, content in enumerate(contents)]})
    assert [content_of(uploads, path) for path in paths.getlist("photos")] == contents
    assert len(set(paths.getlist("photos"))) == 9


def test_only_the_chosen_fields_are_stored(memory: Flask, uploads: Uploads) -> None:
    form = {"a": (io.BytesIO(b"1"), "a.txt"), "b": (io.BytesIO(b"2"), "b.txt")}
    assert list(post(memory, form, lambda: save_uploads("a", folder="one"))[0]) == ["a"]
    form = {"a": (io.BytesIO(b"1"), "a.txt"), "b": (io.BytesIO(b"2"), "b.txt")}
    assert set(post(memory, form, lambda: save_uploads(["a", "b", "c"], folder="two"))[0]) == {"a", "b"}
    form = {"a": (io.BytesIO(b"1"), "a.txt"), "b": (io.BytesIO(b"2"), "b.txt")}
    assert set(post(memory, form, lambda: save_uploads(request.files, folder="three"))[0]) == {"a", "b"}
    assert [len(stored_keys(uploads, f"{folder}/")) for folder in ("one", "two", "three")] == [1, 2, 2]


def test_a_form_without_a_chosen_file_has_an_empty_result(memory: Flask, uploads: Uploads) -> None:
    paths, response = post(memory, {"photo": (io.BytesIO(b""), ""), "name": "Zoë"})
    assert (len(paths), response.status_code, stored_keys(uploads)) == (0, 200, set())
    assert len(post(memory, {"name": "no file field at all"})[0]) == 0


def test_two_files_with_the_same_name_are_two_files(memory: Flask, uploads: Uploads) -> None:
    paths, _ = post(memory, {"a": [(io.BytesIO(b"1"), "same.txt"), (io.BytesIO(b"2"), "same.txt")]})
    assert [content_of(uploads, path) for path in paths.getlist("a")] == [b"1", b"2"]


def test_a_picture_without_a_usable_name_gets_the_extension_of_its_content(memory: Flask) -> None:
    paths, _ = post(memory, {"a": (io.BytesIO(PNG), "blob"), "b": (io.BytesIO(PNG), "图片.png")})
    assert paths["a"].key.endswith("-blob.png")
    assert paths["b"].key.endswith(".png")
    assert paths["b"].filename == "图片.png"


def test_a_path_behaves_as_a_str(memory: Flask, uploads: Uploads) -> None:
    path = uploads.save(b"x", filename="a.txt")
    assert json.loads(json.dumps({"a": path, "b": [path]})) == {"a": str(path), "b": [str(path)]}
    assert ",".join([path, path]) == f"{path},{path}"
    assert hash(path) == hash(str(path))
    for twin in (copy.copy(path), copy.deepcopy(path), pickle.loads(pickle.dumps(path))):
        assert isinstance(twin, StoredFile)
        assert (twin, vars(twin)) == (path, vars(path))


def test_the_result_can_be_made_a_plain_dictionary(memory: Flask) -> None:
    paths, _ = post(memory, {"a": (io.BytesIO(b"1"), "a.txt")})
    assert {**paths} == dict(paths) == {"a": str(paths["a"])}


# -- streams


def test_the_streams_stay_open_at_their_start(app: Flask) -> None:
    def view() -> list[str]:
        save_uploads()
        twice = save_uploads()
        return [file.read().decode() for file in request.files.values()] + [twice["a"].sha256]

    seen, _ = post(app, {"a": (io.BytesIO(b"content"), "a.txt")}, view)
    assert seen == ["content", hashlib.sha256(b"content").hexdigest()]


def test_a_stream_that_was_read_before_is_stored_from_its_start(app: Flask, uploads: Uploads) -> None:
    def view() -> Any:
        request.files["a"].read()
        return save_uploads()

    paths, _ = post(app, {"a": (io.BytesIO(b"content"), "a.txt")}, view)
    assert content_of(uploads, paths["a"]) == b"content"


def test_a_closed_file_is_an_error(memory: Flask) -> None:
    def view() -> Any:
        request.files["a"].close()
        return save_uploads()

    memory.testing = False
    memory.config["PROPAGATE_EXCEPTIONS"] = False
    error, _ = post(memory, {"a": (io.BytesIO(b"content"), "a.txt")}, view)
    assert "closed before it was saved" in str(error)


def test_save_takes_bytes_files_and_streams(app: Flask, uploads: Uploads, tmp_path: Path) -> None:
    stream = io.BytesIO(b"content")
    stream.read(3)
    (tmp_path / "a.txt").write_bytes(b"content")
    receiver, sender = socket.socketpair()
    sender.sendall(b"content")
    sender.close()
    with (tmp_path / "a.txt").open("rb") as file, receiver, receiver.makefile("rb") as not_seekable:
        sources: list[Any] = [b"content", stream, file, FileStorage(io.BytesIO(b"content"), "a.txt"), not_seekable]
        paths = [uploads.save(source, filename="a.txt", folder="reports") for source in sources]
    assert [content_of(uploads, path) for path in paths] == [b"content"] * 5
    assert all(path.startswith("uploads/reports/") and path.key.endswith("-a.txt") for path in paths)
    assert not stream.closed


# -- all or nothing


class Failing(MemoryBackend):
    """Fails at the n-th save; deletes nothing if ``deletes`` is false."""

    def __init__(self, nth: int, error: Exception, *, deletes: bool = True, parallel: int = 1) -> None:
        super().__init__()
        self.nth, self.error, self.deletes, self.count = nth, error, deletes, 0
        self.workers = parallel

    @property
    def parallel(self) -> int:  # type: ignore[override]
        return self.workers

    def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
        self.count += 1
        if self.count == self.nth:
            raise self.error
        return super().save(key, stream, **options)

    def delete(self, key: str) -> None:
        if not self.deletes:
            raise BackendUnavailable("The service cannot be reached.", key=key)
        super().delete(key)


def use(app: Flask, backend: Backend) -> None:
    state_of(app).backend = backend


def five() -> dict[str, list[File]]:
    return {"f": [(io.BytesIO(b"x"), f"{number}.txt") for number in range(5)]}


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("error", [BackendUnavailable("It is down."), RuntimeError("a bug")])
def test_if_file_3_of_5_fails_none_of_the_five_is_left(
    memory: Flask, uploads: Uploads, error: Exception, parallel: int
) -> None:
    memory.testing = False
    memory.config["PROPAGATE_EXCEPTIONS"] = False
    use(memory, Failing(3, error, parallel=parallel))
    raised, response = post(memory, five())
    assert raised is error
    assert response.status_code == (503 if isinstance(error, BackendUnavailable) else 500)
    assert stored_keys(uploads) == set()


def test_files_that_cannot_be_deleted_again_are_named_to_the_operator(
    memory: Flask, uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    use(memory, Failing(3, BackendUnavailable("The store went away."), deletes=False))
    raised, response = post(memory, five())
    left = stored_keys(uploads)
    assert len(left) == 2
    assert left < set(raised.orphans)
    assert response.status_code == 503
    assert str(raised).startswith("The store went away. These files may be left in the store: ")
    failed = next(record.getMessage() for record in caplog.records if "an upload to memory" in record.getMessage())
    assert failed == f"an upload to memory failed: {raised}"
    for key in raised.orphans:
        assert key in failed
        assert key not in response.text
        assert key not in raised.description
        assert key not in str(raised.data)


def test_a_backend_that_timed_out_is_not_asked_to_delete(memory: Flask) -> None:
    use(memory, Failing(1, BackendTimeout("No answer in time."), deletes=False))
    raised, response = post(memory, {"f": (io.BytesIO(b"x"), "a.txt")})
    assert (response.status_code, len(raised.orphans)) == (504, 1)
    assert raised.orphans[0] in str(raised)
    assert raised.orphans[0] not in response.text


class Counting(Failing):
    """Counts deletions."""

    deletions = 0

    def delete(self, key: str) -> None:
        self.deletions += 1
        super().delete(key)


@pytest.mark.parametrize(("nothing_stored", "deletions"), [(True, 0), (False, 1)])
def test_a_save_that_sent_nothing_leaves_no_orphan(
    memory: Flask, uploads: Uploads, nothing_stored: bool, deletions: int
) -> None:
    error = BackendUnavailable("The connection was refused.", nothing_stored=nothing_stored)
    backend = Counting(1, error, deletes=False)
    use(memory, backend)
    raised, response = post(memory, {"f": (io.BytesIO(b"x"), "a.txt")})
    assert (raised, response.status_code) == (error, 503)
    assert (len(raised.orphans), backend.deletions) == (0 if nothing_stored else 1, deletions)
    assert ("left in the store" in str(raised)) is not nothing_stored


def test_of_five_files_only_those_that_were_stored_are_deleted(memory: Flask, uploads: Uploads) -> None:
    backend = Counting(3, BackendUnavailable("The connection was refused.", nothing_stored=True))
    use(memory, backend)
    raised, _ = post(memory, five())
    assert (raised.orphans, backend.deletions, stored_keys(uploads)) == ((), 2, set())


@pytest.mark.parametrize("error", [BackendUnavailable, BackendTimeout, BackendRefused, BackendFull])
def test_an_error_page_shows_no_key_no_reason_and_no_remedy(memory: Flask, error: Any) -> None:
    class Broken(MemoryBackend):
        def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
            raise error("The bucket b refuses.", remedy="Correct UPLOADS_S3_ACCESS_KEY_ID.", key=key)

        def delete(self, key: str) -> None:
            raise error("The bucket b refuses.", key=key)

        open = stat = delete  # type: ignore[assignment]

    use(memory, Broken())
    raised, response = post(memory, {"f": (io.BytesIO(b"x"), "secret-plan.txt")})
    pages = [response, memory.test_client().get("/uploads/a/secret-plan.txt")]
    assert [page.status_code for page in pages] == [error.code, error.code]
    for page in pages:
        assert error.description in page.text
        for private in (raised.key, "secret-plan", "bucket", "UPLOADS_", "Correct"):
            assert private not in page.text
    assert "Correct UPLOADS_S3_ACCESS_KEY_ID." in str(raised)


@pytest.mark.parametrize(
    "bad", [{"max_size": 5}, {"allow": ".txt"}, {"allow": ["image/*"]}, {"folder": "../x"}, {"folder": "uploads"}]
)
def test_every_file_is_checked_before_any_is_stored(memory: Flask, uploads: Uploads, bad: dict[str, Any]) -> None:
    form = {"a": (io.BytesIO(b"small"), "a.txt"), "b": (io.BytesIO(b"longer than five"), "b.csv")}
    _, response = post(memory, form, lambda: save_uploads(**bad))
    assert response.status_code in {404, 413, 415}
    assert stored_keys(uploads) == set()


def test_if_a_receiver_of_the_signal_fails_the_files_are_deleted(memory: Flask, uploads: Uploads) -> None:
    def receiver(sender: Flask, **_: Any) -> None:
        raise BackendUnavailable("the receiver failed")

    with file_saved.connected_to(receiver, memory):
        assert post(memory, five())[1].status_code == 503
    assert stored_keys(uploads) == set()


@pytest.mark.parametrize("error", [BackendRefused("no"), BackendFull("full")])
def test_a_refused_file_is_not_an_orphan(memory: Flask, error: Any, caplog: pytest.LogCaptureFixture) -> None:
    use(memory, Failing(1, error, deletes=False))
    raised, _ = post(memory, {"f": (io.BytesIO(b"x"), "a.txt")})
    assert (raised, raised.orphans) == (error, ())
    assert f"an upload to memory failed: {error}" in caplog.text


def test_an_unexpected_error_of_the_deletion_does_not_hide_the_first_error(memory: Flask, uploads: Uploads) -> None:
    class Breaking(Failing):
        def delete(self, key: str) -> None:
            raise ConnectionResetError

    use(memory, Breaking(3, BackendUnavailable("It is down.")))
    raised, response = post(memory, five())
    assert response.status_code == 503
    assert stored_keys(uploads) < set(raised.orphans)


def test_after_the_first_failure_no_further_file_is_started(memory: Flask) -> None:
    class Slow(Failing):
        def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
            if self.count == 0:
                self.count = 1
                time.sleep(0.5)
                return MemoryBackend.save(self, key, stream, **options)
            return super().save(key, stream, **options)

    backend = Slow(2, BackendUnavailable("It is down."), parallel=2)
    use(memory, backend)
    post(memory, {"f": [(io.BytesIO(b"x"), f"{number}.txt") for number in range(10)]})
    assert backend.count <= 4


def test_an_interrupt_stops_the_workers(memory: Flask, uploads: Uploads) -> None:
    class Slow(MemoryBackend):
        parallel, begun = 2, 0

        def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
            self.begun += 1
            time.sleep(0.1)
            return super().save(key, stream, **options)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    use(memory, backend := Slow())
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.25)
    try:
        with pytest.raises(KeyboardInterrupt):
            post(memory, {"f": [(io.BytesIO(b"x"), f"{number}.txt") for number in range(40)]})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    time.sleep(0.5)  # nothing comes in after what was stored is removed
    assert stored_keys(uploads) == set()
    assert backend.begun < 40


@pytest.mark.parametrize(
    ("name", "start", "secret"),
    [
        ("uploads", "UPLOADS_", "UPLOADS_S3_SECRET_ACCESS_KEY"),
        ("uploads", "UPLOADS_", "AWS_SECRET_ACCESS_KEY"),
        ("documents", "DOCUMENTS_", "DOCUMENTS_S3_SECRET_ACCESS_KEY"),
        ("documents", "DOCUMENTS_", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_the_remedy_of_a_failed_upload_names_the_variable_that_the_user_set(
    name: str, start: str, secret: str, make_app: MakeApp, s3_server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {key.replace("UPLOADS_", start): value for key, value in s3_server.environment().items()}
    del settings[f"{start}S3_SECRET_ACCESS_KEY"]
    uploads = Uploads(name=name)
    app = make_app(uploads, **settings, **{secret: "a-wrong-secret"})
    form = {"f": (io.BytesIO(b"x"), "a.txt")}
    raised, response = post(app, form, lambda: save_uploads(name=name))
    assert isinstance(raised, BackendRefused)
    assert (response.status_code, raised.setting, raised.orphans) == (502, secret, ())
    assert secret in raised.remedy
    assert f"an upload to s3 failed: {raised}" in caplog.text
    assert secret not in response.text
    assert raised.description in response.text


def test_orphans_of_the_backend_and_of_the_batch_are_named_together(memory: Flask) -> None:
    class Altering(MemoryBackend):
        parallel = 2
        both = threading.Barrier(2, timeout=10)

        def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
            self.both.wait()
            error = BackendRefused("it altered the file", key=key)
            error.leave_behind([key])
            raise error

    use(memory, Altering())
    raised, response = post(memory, {"f": [(io.BytesIO(b"x"), f"{number}.txt") for number in range(2)]})
    assert response.status_code == 502
    assert len(raised.orphans) == 2
    assert str(raised).count(".txt") == 2
    assert ".txt" not in response.text


# -- refused files


def test_sixty_files_are_too_many(memory: Flask, uploads: Uploads) -> None:
    form = {"f": [(io.BytesIO(b"x"), f"{number}.txt") for number in range(60)]}
    _, response = post(memory, form)
    assert (response.status_code, stored_keys(uploads)) == (413, set())
    assert "There are too many files. At most 50 are allowed at once." in response.text


def test_a_file_that_is_too_large_is_named_with_the_limit(memory: Flask, uploads: Uploads) -> None:
    _, response = post(memory, {"f": (io.BytesIO(b"x" * 100_001), "big.bin")})
    assert (response.status_code, stored_keys(uploads)) == (413, set())
    assert "&#39;big.bin&#39; is too large. A file may have at most 100 kB." in response.text
    assert post(memory, {"f": (io.BytesIO(b"x" * 100_000), "big.bin")})[1].status_code == 200


def test_a_wrong_type_with_an_allowed_extension_is_a_415(memory: Flask, uploads: Uploads) -> None:
    form = {"f": (io.BytesIO(b"<html><script>"), "photo.png")}
    raised, response = post(memory, form, lambda: save_uploads(allow="image/*"))
    assert isinstance(raised, TypeNotAllowed)
    assert (raised.field, raised.filename, response.status_code) == ("f", "photo.png", 415)
    assert "The type of &#39;photo.png&#39; is not allowed. Allowed types: image/*." in response.text
    assert raised.data["errors"] == {"files": {"f": [raised.description]}}
    assert stored_keys(uploads) == set()


def test_a_file_without_a_name_is_a_400(memory: Flask, uploads: Uploads) -> None:
    content = b'--B\r\nContent-Disposition: form-data; name="f"; filename=""\r\n\r\ncontent\r\n--B--\r\n'
    memory.add_url_rule("/raw", view_func=lambda: jsonify(save_uploads()), methods=["POST"])
    response = memory.test_client().post("/raw", data=content, content_type="multipart/form-data; boundary=B")
    assert (response.status_code, stored_keys(uploads)) == (400, set())
    assert "has no name" in response.text


def test_max_size_cannot_be_above_the_setting(memory: Flask) -> None:
    with pytest.raises(ValueError, match="UPLOADS_MAX_SIZE"):
        post(memory, {"f": (io.BytesIO(b"x"), "a.txt")}, lambda: save_uploads(max_size="2MB"))


@pytest.mark.parametrize("allow", [[], "", " , "])
def test_an_empty_list_of_types_does_not_allow_everything(memory: Flask, uploads: Uploads, allow: Any) -> None:
    with pytest.raises(ValueError, match="allow is empty"):
        uploads.save(b"<svg>", filename="x.svg", allow=allow)


def test_an_endless_stream_is_read_only_up_to_the_limit(memory: Flask, uploads: Uploads) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def seekable(self) -> bool:
            return False

        def read(self, size: int = -1) -> bytes:
            self.given += size
            return b"x" * size

    stream = Endless()
    with pytest.raises(UploadTooLarge):
        uploads.save(stream, filename="a.bin")  # type: ignore[arg-type]
    assert stream.given <= 100_001


def test_replacing_the_request_class_after_init_app_is_an_error(memory: Flask) -> None:
    memory.request_class = Request
    with pytest.raises(RuntimeError, match="Set it before init_app"):
        post(memory, five())


def test_a_form_that_breaks_off_is_a_400(memory: Flask, uploads: Uploads) -> None:
    memory.add_url_rule("/raw", view_func=lambda: jsonify(save_uploads()), methods=["POST"])
    content = b'--B\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\ncontent\r\n--B--\r\n'
    for length in range(1, len(content) - 2):
        response = memory.test_client().post(
            "/raw", data=content[:length], content_type="multipart/form-data; boundary=B"
        )
        assert response.status_code == 400, length
    assert stored_keys(uploads) == set()


def test_error_handlers_of_the_app_answer_our_errors(memory: Flask) -> None:
    memory.register_error_handler(413, lambda error: ({"error": error.description}, error.code))
    _, response = post(memory, {"f": (io.BytesIO(b"xx"), "a.txt")}, lambda: save_uploads(max_size=1))
    assert (response.status_code, response.json) == (
        413,
        {"error": "'a.txt' is too large. A file may have at most 1 byte."},
    )


# -- the other methods


def test_the_methods_take_any_spelling_of_a_path(app: Flask, uploads: Uploads) -> None:
    path = uploads.save(b"content", filename="a b.txt")
    spellings = [path, str(path), f"/{path}", path.replace("/", "\\"), f"https://old.example/{path}?t=1", path.key]
    for spelling in spellings:
        stat = uploads.stat(spelling)
        assert stat is not None
        assert (stat.key, stat.size) == (path.key, 7)
        assert content_of(uploads, spelling) == b"content"
        assert uploads.url(spelling) == path.url
    uploads.delete(spellings[3])
    assert uploads.stat(path) is None
    with pytest.raises(FileMissing):
        uploads.open(path)


def test_delete_takes_lists_of_paths(memory: Flask, uploads: Uploads) -> None:
    paths = [uploads.save(b"x", filename=f"{number}.txt") for number in range(5)]
    uploads.delete(",".join(paths[:2]))
    uploads.delete(json.dumps(paths[2:4]))
    assert stored_keys(uploads) == {paths[4].key}
    uploads.delete("")
    with pytest.raises(InvalidKey):
        uploads.delete("../x")


@pytest.mark.parametrize("empty", [None, ""])
def test_all_methods_take_an_empty_column(memory: Flask, uploads: Uploads, empty: str | None) -> None:
    kept = uploads.save(b"x", filename="a.txt")
    assert uploads.url(empty) == uploads.url(empty, external=True) == ""
    assert uploads.direct_url(empty) == uploads.direct_url(empty, expires=60, download_name="a", external=True) == ""
    assert uploads.direct_urls([empty, kept]) == {empty: "", kept: uploads.direct_url(kept)}
    assert upload_url(empty) == upload_url(empty, external=True) == ""
    assert uploads.stat(empty) is None
    uploads.delete(empty)
    with pytest.raises(FileMissing) as caught:
        uploads.open(empty)
    assert caught.value.code == 404
    assert stored_keys(uploads) == {kept.key}


def test_entries_lists_the_stored_files_lazily(app: Flask, uploads: Uploads) -> None:
    folder = f"listed-{secrets.token_hex(4)}"
    paths = [uploads.save(b"12345", filename=f"{n}.txt", folder=folder) for n in range(3)]
    found = uploads.entries(f"{folder}/")
    assert iter(found) is found
    assert {(entry.key, entry.size) for entry in found} == {(path.key, 5) for path in paths}
    assert list(uploads.entries(f"{folder}/nothing")) == []
    assert {path.key for path in paths} <= {entry.key for entry in uploads.entries()}


def test_the_repr_of_an_uploads_has_its_name() -> None:
    assert repr(Uploads()) == "<Uploads 'uploads'>"
    assert repr(Uploads(name="documents")) == "<Uploads 'documents'>"


# -- links


def test_direct_urls_lead_into_the_backend_or_to_the_app(
    app: Flask, uploads: Uploads, settings: dict[str, str]
) -> None:
    paths = [uploads.save(PNG, filename="a.png") for _ in range(3)]
    direct = uploads.direct_urls(paths)
    assert list(direct) == paths
    if uploads.backend.name not in {"memory", "local"}:
        assert all(link.startswith("http://127.0.0.1:") for link in direct.values())
        assert direct[paths[0]] == app.test_client().get(f"/{paths[0]}").headers["Location"]
        assert uploads.direct_url(paths[0], external=True) == direct[paths[0]]
    else:
        assert list(direct.values()) == [path.url for path in paths]


@pytest.fixture
def signed(make_app: MakeApp, uploads: Uploads) -> Iterator[Flask]:
    app = make_app(uploads, UPLOADS_BACKEND="memory", SECRET_KEY="throw-away", SERVER_NAME="app.example")
    with app.app_context():
        yield app


def test_a_direct_url_to_the_app_is_signed_and_ends(
    signed: Flask, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads.authorize(lambda action, key: False)
    path = uploads.save(PNG, filename="a.png")
    client = signed.test_client()
    link = uploads.direct_url(path, expires=60)
    assert link.startswith(f"/{path}?expires=")
    assert link == uploads.direct_url(path, expires=60)
    assert client.get(f"/{path}").status_code == 404
    assert client.get(link, buffered=True).data == PNG
    query = link.partition("?")[2]
    other = uploads.save(PNG, filename="b.png")
    assert client.get(f"/{other}?{query}").status_code == 404
    assert client.get(link.replace("expires=", "expires=9")).status_code == 404
    moment = time.time()
    monkeypatch.setattr(redirects, "now", lambda: moment + 61)
    assert client.get(link).status_code == 404


@pytest.mark.parametrize("name", ["Bericht Übersicht.png", "a; b\"c'.png", "x\r\nSet-Cookie: a=b.png"])
def test_a_download_name_is_the_name_under_which_browsers_save(signed: Flask, uploads: Uploads, name: str) -> None:
    path = uploads.save(PNG, filename="a.png")
    response = signed.test_client().get(uploads.direct_url(path, download_name=name), buffered=True)
    header = response.headers["Content-Disposition"]
    assert parse_options_header(header)[1]["filename"] == name
    assert header.startswith("attachment")
    assert "Set-Cookie" not in response.headers
    assert response.data == PNG
    assert "Content-Disposition" not in signed.test_client().get(uploads.direct_url(path), buffered=True).headers
    assert uploads.direct_url(path, download_name="") == uploads.direct_url(path)


def test_a_download_name_is_part_of_the_signature(signed: Flask, uploads: Uploads) -> None:
    uploads.authorize(lambda action, key: False)
    path = uploads.save(PNG, filename="a.png")
    link = uploads.direct_url(path, download_name="report.png")
    assert signed.test_client().get(link, buffered=True).status_code == 200
    assert signed.test_client().get(link.replace("report", "virus")).status_code == 404


def test_without_a_secret_key_the_direct_url_is_the_plain_link_and_that_is_logged_once(
    memory: Flask, uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    path = uploads.save(PNG, filename="a.png")
    assert [uploads.direct_url(path), uploads.direct_url(path, expires=60, download_name="b.png")] == [path.url] * 2
    assert caplog.text.count("SECRET_KEY is not set") == 1


def test_expires_is_the_longest_time_that_a_link_of_s3_works(
    make_app: MakeApp, uploads: Uploads, request: pytest.FixtureRequest
) -> None:
    app = make_app(uploads, **settings_of("s3", request))
    with app.app_context():
        path = uploads.save(PNG, filename="a.png")
        links = [uploads.direct_url(path, expires=seconds) for seconds in (1, 60, 604_800)]
        assert [f"X-Amz-Expires={seconds}&" in link for link, seconds in zip(links, (1, 60, 604_800), strict=True)]
        named = uploads.direct_url(path, download_name="Übersicht.png")
    with urllib.request.urlopen(named) as response:
        assert response.read() == PNG
        assert parse_options_header(response.headers["Content-Disposition"])[1]["filename"] == "Übersicht.png"


@pytest.mark.parametrize("expires", [0, -1, 604_801, 1.5, "60", float("nan")])
def test_a_wrong_expires_is_a_value_error(memory: Flask, uploads: Uploads, expires: Any) -> None:
    with pytest.raises(ValueError, match=r"expires is .*\. Use a number of seconds from 1 to 604800\."):
        uploads.direct_url("uploads/a.png", expires=expires)


def test_external_links_have_the_host_of_the_request(make_app: MakeApp, uploads: Uploads) -> None:
    app = make_app(uploads, UPLOADS_BACKEND="memory", SECRET_KEY="throw-away")
    with app.test_request_context(base_url="https://shop.example:8443/app"):
        assert uploads.url("uploads/a b.png") == "/app/uploads/a%20b.png"
        assert uploads.url("uploads/a b.png", external=True) == "https://shop.example:8443/app/uploads/a%20b.png"
        assert upload_url("uploads/a b.png", external=True) == "https://shop.example:8443/app/uploads/a%20b.png"
        assert uploads.direct_url("uploads/a.png").startswith("/app/uploads/a.png?")
        direct = uploads.direct_url("uploads/a.png", external=True)
        assert direct.startswith("https://shop.example:8443/app/uploads/a.png?expires=")
        assert upload_url("../x", external=True) == "https://shop.example:8443/app/uploads/..%2Fx"


def test_external_links_have_the_server_name_outside_of_a_request(make_app: MakeApp, uploads: Uploads) -> None:
    app = make_app(
        uploads,
        UPLOADS_BACKEND="memory",
        SERVER_NAME="shop.example",
        PREFERRED_URL_SCHEME="https",
        APPLICATION_ROOT="/app/",
    )
    with app.app_context():
        assert uploads.url("uploads/a.png") == "/app/uploads/a.png"
        assert uploads.url("uploads/a.png", external=True) == "https://shop.example/app/uploads/a.png"
        assert uploads.direct_url("uploads/a.png", external=True) == "https://shop.example/app/uploads/a.png"


def test_external_links_need_a_server_name_outside_of_a_request(memory: Flask, uploads: Uploads) -> None:
    with pytest.raises(RuntimeError, match=r"Outside of a request, .* Set SERVER_NAME\."):
        uploads.url("uploads/a.png", external=True)
    assert uploads.url("uploads/a.png") == "/uploads/a.png"


def test_the_endpoints_have_documented_names(make_app: MakeApp, uploads: Uploads) -> None:
    app = make_app(uploads, UPLOADS_BACKEND="memory", DOCUMENTS_BACKEND="memory")
    Uploads(app, name="documents")
    with app.test_request_context():
        assert url_for("persistent_uploads.file", path="a/b.png") == "/uploads/a/b.png" == uploads.url("a/b.png")
        assert url_for("persistent_uploads.health") == "/uploads/_health"
        assert url_for("persistent_documents.file", path="a.png") == "/documents/a.png"
        assert url_for("persistent_documents.health") == "/documents/_health"
        assert app.test_client().get(url_for("persistent_uploads.health")).is_json


@pytest.mark.parametrize("bad", ["../x", "https://other.example/a.png", "a\ud800.png", "x" * 9000])
def test_upload_url_links_a_bad_reference_to_a_404(memory: Flask, bad: str) -> None:
    link = render_template_string("{{ upload_url(bad) }}", bad=bad)
    assert memory.test_client().get(link).status_code == 404


def test_links_begin_with_the_root_of_the_app_outside_of_a_request(make_app: MakeApp, uploads: Uploads) -> None:
    app = make_app(uploads, UPLOADS_BACKEND="memory", APPLICATION_ROOT="/shop")
    with app.app_context():
        assert uploads.url("uploads/a.png") == "/shop/uploads/a.png"


def test_upload_url_is_a_global_of_templates(memory: Flask, uploads: Uploads) -> None:
    page = "{{ upload_url('uploads\\\\a b.png') }}|{{ upload_url(none) }}|{{ upload_url('') }}"
    assert render_template_string(page) == "/uploads/a%20b.png||"


def test_signals_are_sent_after_a_file_is_saved_or_deleted(memory: Flask, uploads: Uploads) -> None:
    seen: list[tuple[Any, ...]] = []

    def saved(sender: Flask, *, uploads: Uploads, file: StoredFile) -> None:
        seen.append(("saved", sender, uploads, file))

    def deleted(sender: Flask, *, uploads: Uploads, key: str) -> None:
        seen.append(("deleted", sender, uploads, key))

    with file_saved.connected_to(saved, memory), file_deleted.connected_to(deleted, memory):
        path = uploads.save(b"x", filename="a.txt")
        uploads.delete(path)
    assert seen == [("saved", memory, uploads, path), ("deleted", memory, uploads, path.key)]


def test_one_line_is_logged_for_a_file_without_its_raw_name(
    memory: Flask, uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = uploads.save(b"12345", filename="secret plan\n2026 INFO \x1b[2J\u2028\u202e.txt")
    (line,) = [record.getMessage() for record in caplog.records]
    assert path.key in line
    assert "(5 bytes) to memory" in line
    assert line.isascii()
    assert line.isprintable()


# -- the public names


def test_every_public_name_is_exported() -> None:
    assert all(hasattr(flask_persistent_uploads, name) for name in flask_persistent_uploads.__all__)
    assert {"Backend", "keys", "Problem", "Uploads", "save_uploads", "upload_url"} <= set(
        flask_persistent_uploads.__all__
    )
    assert flask_persistent_uploads.Backend is Backend
    assert flask_persistent_uploads.Problem is Problem
    assert flask_persistent_uploads.keys.check("a/b.png") == "a/b.png"
    assert issubclass(UploadMalformed, flask_persistent_uploads.UploadRejected)


def test_the_function_and_the_method_have_one_docstring_that_names_every_argument() -> None:
    doc = Uploads.save_uploads.__doc__
    assert doc is not None
    assert save_uploads.__doc__ is doc
    method, function = (list(inspect.signature(each).parameters) for each in (Uploads.save_uploads, save_uploads))
    assert [*method[1:], "name"] == function
    for name in function:
        assert f"        ``{name}``  " in doc
