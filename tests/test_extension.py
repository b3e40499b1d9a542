"""``save_uploads`` and the other verbs: stored means stored, all or nothing."""

from __future__ import annotations

import copy
import gc
import hashlib
import io
import json
import logging
import pickle
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from flask import Blueprint, Flask, Request, Response, jsonify, render_template_string, request
from werkzeug.datastructures import FileStorage, MultiDict

import flask_persistent_uploads
from flask_persistent_uploads import (
    BackendFull,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    ConfigError,
    FileMissing,
    InvalidKey,
    StoredFile,
    TypeNotAllowed,
    UploadMalformed,
    Uploads,
    UploadTooLarge,
    file_deleted,
    file_saved,
    save_uploads,
)
from flask_persistent_uploads.backends.base import Backend
from flask_persistent_uploads.backends.memory import MemoryBackend

from .conftest import PNG, MakeApp, settings_of

File = tuple[IO[bytes], str]


@pytest.fixture
def memory(make_app: MakeApp, uploads: Uploads) -> Iterator[Flask]:
    app = make_app(uploads, UPLOADS_BACKEND="memory", UPLOADS_MAX_SIZE="100kB")
    with app.app_context():
        yield app


def post(app: Flask, data: dict[str, Any], view: Callable[[], Any] = save_uploads) -> tuple[Any, Any]:
    """Send a form to a view of one line; what the view returned or raised, and the response."""
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


# -- what comes back


def test_every_file_comes_back_under_its_field_as_the_path_to_keep(app: Flask, uploads: Uploads) -> None:
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


def test_several_files_in_one_field_are_all_kept_in_order(app: Flask, uploads: Uploads) -> None:
    contents = [bytes([number]) * 1000 for number in range(9)]
    paths, _ = post(app, {"photos": [(io.BytesIO(content), f"{n}.bin") for n, content in enumerate(contents)]})
    assert [content_of(uploads, path) for path in paths.getlist("photos")] == contents
    assert len(set(paths.getlist("photos"))) == 9


def test_only_the_fields_that_were_asked_for_are_stored(memory: Flask, uploads: Uploads) -> None:
    form = {"a": (io.BytesIO(b"1"), "a.txt"), "b": (io.BytesIO(b"2"), "b.txt")}
    assert list(post(memory, form, lambda: save_uploads("a", folder="one"))[0]) == ["a"]
    form = {"a": (io.BytesIO(b"1"), "a.txt"), "b": (io.BytesIO(b"2"), "b.txt")}
    assert set(post(memory, form, lambda: save_uploads(["a", "b", "c"], folder="two"))[0]) == {"a", "b"}
    form = {"a": (io.BytesIO(b"1"), "a.txt"), "b": (io.BytesIO(b"2"), "b.txt")}
    assert set(post(memory, form, lambda: save_uploads(request.files, folder="three"))[0]) == {"a", "b"}
    assert [len(stored_keys(uploads, f"{folder}/")) for folder in ("one", "two", "three")] == [1, 2, 2]


def test_an_empty_selection_is_an_empty_result(memory: Flask, uploads: Uploads) -> None:
    paths, response = post(memory, {"photo": (io.BytesIO(b""), ""), "name": "Zoë"})
    assert (len(paths), response.status_code, stored_keys(uploads)) == (0, 200, set())
    assert len(post(memory, {"name": "no file field at all"})[0]) == 0


def test_the_same_name_twice_is_two_files(memory: Flask, uploads: Uploads) -> None:
    paths, _ = post(memory, {"a": [(io.BytesIO(b"1"), "same.txt"), (io.BytesIO(b"2"), "same.txt")]})
    assert [content_of(uploads, path) for path in paths.getlist("a")] == [b"1", b"2"]


def test_a_picture_without_a_proper_name_gets_the_extension_of_its_content(memory: Flask) -> None:
    paths, _ = post(memory, {"a": (io.BytesIO(PNG), "blob"), "b": (io.BytesIO(PNG), "图片.png")})
    assert paths["a"].key.endswith("-blob.png")
    assert paths["b"].key.endswith(".png")
    assert paths["b"].filename == "图片.png"


def test_a_path_is_a_str_wherever_it_goes(memory: Flask, uploads: Uploads) -> None:
    path = uploads.save(b"x", filename="a.txt")
    assert json.loads(json.dumps({"a": path, "b": [path]})) == {"a": str(path), "b": [str(path)]}
    assert ",".join([path, path]) == f"{path},{path}"
    assert hash(path) == hash(str(path))
    for twin in (copy.copy(path), copy.deepcopy(path), pickle.loads(pickle.dumps(path))):
        assert isinstance(twin, StoredFile)
        assert (twin, vars(twin)) == (path, vars(path))


def test_a_form_is_a_plain_dictionary_to_those_who_want_one(memory: Flask) -> None:
    paths, _ = post(memory, {"a": (io.BytesIO(b"1"), "a.txt")})
    assert {**paths} == dict(paths) == {"a": str(paths["a"])}


# -- streams


def test_the_streams_stay_open_and_stand_at_their_start(app: Flask) -> None:
    def view() -> list[str]:
        save_uploads()
        twice = save_uploads()
        return [file.read().decode() for file in request.files.values()] + [twice["a"].sha256]

    seen, _ = post(app, {"a": (io.BytesIO(b"content"), "a.txt")}, view)
    assert seen == ["content", hashlib.sha256(b"content").hexdigest()]


def test_a_stream_that_was_read_before_is_stored_whole(app: Flask, uploads: Uploads) -> None:
    def view() -> Any:
        request.files["a"].read()
        return save_uploads()

    paths, _ = post(app, {"a": (io.BytesIO(b"content"), "a.txt")}, view)
    assert content_of(uploads, paths["a"]) == b"content"


def test_a_closed_file_is_an_error_that_says_so(memory: Flask) -> None:
    def view() -> Any:
        request.files["a"].close()
        return save_uploads()

    memory.testing = False
    memory.config["PROPAGATE_EXCEPTIONS"] = False
    error, _ = post(memory, {"a": (io.BytesIO(b"content"), "a.txt")}, view)
    assert "closed before it was saved" in str(error)


def test_one_file_may_be_saved_from_anywhere(app: Flask, uploads: Uploads, tmp_path: Path) -> None:
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
    """Fails on the n-th save, and on deletions if told."""

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
            raise BackendUnavailable("The store for uploads cannot be reached.", key=key)
        super().delete(key)


def use(app: Flask, backend: Backend) -> None:
    app.extensions["flask_persistent_uploads"]["uploads"].state.backend = backend


def five() -> dict[str, list[File]]:
    return {"f": [(io.BytesIO(b"x"), f"{number}.txt") for number in range(5)]}


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("error", [BackendUnavailable("down"), RuntimeError("a bug")])
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


def test_a_clean_up_that_fails_is_named_and_logged(
    memory: Flask, uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    use(memory, Failing(3, BackendUnavailable("The store went away."), deletes=False))
    raised, response = post(memory, five())
    left = stored_keys(uploads)
    assert len(left) == 2
    assert left < set(raised.orphans)
    assert response.status_code == 503
    assert all(key in raised.description and key in caplog.text for key in left)
    assert raised.description.startswith("The store went away.")


def test_a_silent_backend_is_not_asked_again_and_the_file_in_doubt_is_named(memory: Flask) -> None:
    use(memory, Failing(1, BackendTimeout("No answer in time."), deletes=False))
    raised, response = post(memory, {"f": (io.BytesIO(b"x"), "a.txt")})
    assert (response.status_code, len(raised.orphans)) == (504, 1)


@pytest.mark.parametrize(
    "bad", [{"max_size": 5}, {"allow": ".txt"}, {"allow": ["image/*"]}, {"folder": "../x"}, {"folder": "uploads"}]
)
def test_every_file_is_looked_at_before_any_is_stored(memory: Flask, uploads: Uploads, bad: dict[str, Any]) -> None:
    form = {"a": (io.BytesIO(b"small"), "a.txt"), "b": (io.BytesIO(b"longer than five"), "b.csv")}
    _, response = post(memory, form, lambda: save_uploads(**bad))
    assert response.status_code in {404, 413, 415}
    assert stored_keys(uploads) == set()


def test_a_receiver_that_fails_takes_the_files_with_it(memory: Flask, uploads: Uploads) -> None:
    def receiver(sender: Flask, **_: Any) -> None:
        raise BackendUnavailable("the receiver failed")

    with file_saved.connected_to(receiver, memory):
        assert post(memory, five())[1].status_code == 503
    assert stored_keys(uploads) == set()


@pytest.mark.parametrize("error", [BackendRefused("no"), BackendFull("full")])
def test_what_was_refused_is_not_called_left_behind(
    memory: Flask, error: Any, caplog: pytest.LogCaptureFixture
) -> None:
    use(memory, Failing(1, error, deletes=False))
    raised, _ = post(memory, {"f": (io.BytesIO(b"x"), "a.txt")})
    assert (raised, raised.orphans) == (error, ())
    assert f"an upload to memory failed: {error}" in caplog.text


def test_a_clean_up_that_breaks_in_its_own_way_hides_nothing(memory: Flask, uploads: Uploads) -> None:
    class Breaking(Failing):
        def delete(self, key: str) -> None:
            raise ConnectionResetError

    use(memory, Breaking(3, BackendUnavailable("down")))
    raised, response = post(memory, five())
    assert response.status_code == 503
    assert stored_keys(uploads) < set(raised.orphans)


def test_after_the_first_failure_no_further_file_is_begun(memory: Flask) -> None:
    class Slow(Failing):
        def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
            if self.count == 0:
                self.count = 1
                time.sleep(0.5)
                return MemoryBackend.save(self, key, stream, **options)
            return super().save(key, stream, **options)

    backend = Slow(2, BackendUnavailable("down"), parallel=2)
    use(memory, backend)
    post(memory, {"f": [(io.BytesIO(b"x"), f"{number}.txt") for number in range(10)]})
    assert backend.count <= 4


def test_who_interrupts_the_waiting_stops_the_workers_too(memory: Flask, uploads: Uploads) -> None:
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


def test_what_a_backend_could_not_take_back_is_named_with_what_we_could_not(memory: Flask) -> None:
    class Altering(MemoryBackend):
        parallel = 2
        both = threading.Barrier(2, timeout=10)

        def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
            self.both.wait()
            error = BackendRefused("it altered the file", key=key)
            error.leave_behind([key])
            raise error

    use(memory, Altering())
    _, response = post(memory, {"f": [(io.BytesIO(b"x"), f"{number}.txt") for number in range(2)]})
    assert response.status_code == 502
    assert response.text.count(".txt") == 2


# -- what is refused


def test_sixty_files_are_too_many(memory: Flask, uploads: Uploads) -> None:
    form = {"f": [(io.BytesIO(b"x"), f"{number}.txt") for number in range(60)]}
    _, response = post(memory, form)
    assert (response.status_code, stored_keys(uploads)) == (413, set())
    assert "at most 50 at once" in response.text


def test_a_file_above_the_limit_is_named_with_the_limit(memory: Flask, uploads: Uploads) -> None:
    _, response = post(memory, {"f": (io.BytesIO(b"x" * 100_001), "big.bin")})
    assert (response.status_code, stored_keys(uploads)) == (413, set())
    assert "&#39;big.bin&#39; is too large; at most 100 kB a file are allowed." in response.text
    assert post(memory, {"f": (io.BytesIO(b"x" * 100_000), "big.bin")})[1].status_code == 200


def test_a_wrong_type_with_a_right_extension_is_a_415(memory: Flask, uploads: Uploads) -> None:
    form = {"f": (io.BytesIO(b"<html><script>"), "photo.png")}
    raised, response = post(memory, form, lambda: save_uploads(allow="image/*"))
    assert isinstance(raised, TypeNotAllowed)
    assert (raised.field, raised.filename, response.status_code) == ("f", "photo.png", 415)
    assert "&#39;photo.png&#39; is not of a type that is allowed here: image/*." in response.text
    assert stored_keys(uploads) == set()


def test_a_file_without_a_name_is_a_400(memory: Flask, uploads: Uploads) -> None:
    content = b'--B\r\nContent-Disposition: form-data; name="f"; filename=""\r\n\r\ncontent\r\n--B--\r\n'
    memory.add_url_rule("/raw", view_func=lambda: jsonify(save_uploads()), methods=["POST"])
    response = memory.test_client().post("/raw", data=content, content_type="multipart/form-data; boundary=B")
    assert (response.status_code, stored_keys(uploads)) == (400, set())
    assert "has no name" in response.text


def test_the_settings_bound_what_a_call_may_ask_for(memory: Flask) -> None:
    with pytest.raises(ValueError, match="UPLOADS_MAX_SIZE"):
        post(memory, {"f": (io.BytesIO(b"x"), "a.txt")}, lambda: save_uploads(max_size="2MB"))


@pytest.mark.parametrize("allow", [[], "", " , "])
def test_an_empty_list_of_types_does_not_open_everything(memory: Flask, uploads: Uploads, allow: Any) -> None:
    with pytest.raises(ValueError, match="allow is empty"):
        uploads.save(b"<svg>", filename="x.svg", allow=allow)


def test_an_endless_stream_is_read_no_further_than_the_limit(memory: Flask, uploads: Uploads) -> None:
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


def test_a_request_class_that_was_replaced_is_an_error_and_no_loose_parser(memory: Flask) -> None:
    memory.request_class = Request
    with pytest.raises(RuntimeError, match="set it before"):
        post(memory, five())


def test_a_form_that_broke_off_is_never_an_empty_success(memory: Flask, uploads: Uploads) -> None:
    memory.add_url_rule("/raw", view_func=lambda: jsonify(save_uploads()), methods=["POST"])
    content = b'--B\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\ncontent\r\n--B--\r\n'
    for length in range(1, len(content) - 2):
        response = memory.test_client().post(
            "/raw", data=content[:length], content_type="multipart/form-data; boundary=B"
        )
        assert response.status_code == 400, length
    assert stored_keys(uploads) == set()


def test_error_handlers_of_the_app_answer_without_knowing_us(memory: Flask) -> None:
    memory.register_error_handler(413, lambda error: ({"error": error.description}, error.code))
    _, response = post(memory, {"f": (io.BytesIO(b"xx"), "a.txt")}, lambda: save_uploads(max_size=1))
    assert (response.status_code, response.json) == (
        413,
        {"error": "'a.txt' is too large; at most 1 bytes a file are allowed."},
    )


# -- the other verbs


def test_verbs_take_any_spelling_of_a_path(app: Flask, uploads: Uploads) -> None:
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


def test_delete_takes_a_whole_column(memory: Flask, uploads: Uploads) -> None:
    paths = [uploads.save(b"x", filename=f"{number}.txt") for number in range(5)]
    uploads.delete(",".join(paths[:2]))
    uploads.delete(json.dumps(paths[2:4]))
    assert stored_keys(uploads) == {paths[4].key}
    uploads.delete("")
    with pytest.raises(InvalidKey):
        uploads.delete("../x")


def test_direct_urls_are_todays_links_or_the_apps_own(app: Flask, uploads: Uploads, settings: dict[str, str]) -> None:
    paths = [uploads.save(PNG, filename="a.png") for _ in range(3)]
    links = uploads.direct_urls(paths)
    assert list(links) == paths
    if uploads.backend.name not in {"memory", "local"}:
        assert all(link.startswith("http://127.0.0.1:") for link in links.values())
        assert links[paths[0]] == app.test_client().get(f"/{paths[0]}").headers["Location"]
    else:
        assert list(links.values()) == [path.url for path in paths]


def test_templates_link_by_upload_url(memory: Flask, uploads: Uploads) -> None:
    page = "{{ upload_url('uploads\\\\a b.png') }}|{{ upload_url(none) }}|{{ upload_url('') }}"
    assert render_template_string(page) == "/uploads/a%20b.png||"


def test_signals_tell_of_what_was_saved_and_deleted(memory: Flask, uploads: Uploads) -> None:
    seen: list[tuple[Any, ...]] = []

    def saved(sender: Flask, *, uploads: Uploads, file: StoredFile) -> None:
        seen.append(("saved", sender, uploads, file))

    def deleted(sender: Flask, *, uploads: Uploads, key: str) -> None:
        seen.append(("deleted", sender, uploads, key))

    with file_saved.connected_to(saved, memory), file_deleted.connected_to(deleted, memory):
        path = uploads.save(b"x", filename="a.txt")
        uploads.delete(path)
    assert seen == [("saved", memory, uploads, path), ("deleted", memory, uploads, path.key)]


def test_one_line_is_logged_for_a_file_and_never_its_raw_name(
    memory: Flask, uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = uploads.save(b"12345", filename="secret plan\n2026 INFO \x1b[2J\u2028\u202e.txt")
    (line,) = [record.getMessage() for record in caplog.records]
    assert path.key in line
    assert "(5 bytes) to memory" in line
    assert line.isascii()
    assert line.isprintable()


# -- several, and none


def test_several_in_one_app_keep_apart_by_their_names(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCUMENTS_BACKEND", "memory")
    monkeypatch.setenv("DOCUMENTS_MAX_SIZE", "10")
    uploads, documents = Uploads(), Uploads(name="documents")
    app = make_app(uploads, UPLOADS_BACKEND="memory")
    documents.init_app(app)
    with app.test_request_context():
        photo, cv = uploads.save(PNG, filename="a.png"), documents.save(b"cv", filename="cv.txt")
        assert (photo.split("/")[0], cv.split("/")[0]) == ("uploads", "documents")
        assert (photo.url, cv.url) == (f"/{photo}", f"/{cv}")
        assert render_template_string("{{ upload_url(cv, 'documents') }}", cv=cv) == cv.url
        with pytest.raises(UploadTooLarge):
            documents.save(PNG, filename="a.png")
    client = app.test_client()
    assert client.get(f"/{photo}", buffered=True).data == PNG
    assert client.get(f"/{cv}", buffered=True).data == b"cv"
    assert client.get(f"/uploads/{cv.key}", buffered=True).status_code == 404


def test_save_uploads_of_a_named_one(make_app: MakeApp) -> None:
    app = make_app(Uploads(name="documents"), DOCUMENTS_BACKEND="memory")
    form = {"a": (io.BytesIO(b"1"), "a.txt")}
    paths, _ = post(app, form, lambda: save_uploads(name="documents"))
    assert paths["a"].startswith("documents/")


def test_one_extension_serves_two_apps_that_do_not_mix(make_app: MakeApp) -> None:
    uploads = Uploads()
    one, two = make_app(uploads, UPLOADS_BACKEND="memory"), make_app(uploads, UPLOADS_BACKEND="memory")
    with one.app_context():
        path = uploads.save(PNG, filename="a.png")
    assert one.test_client().get(f"/{path}", buffered=True).status_code == 200
    assert two.test_client().get(f"/{path}", buffered=True).status_code == 404


def test_mistakes_of_the_factory_are_named(make_app: MakeApp) -> None:
    app = make_app(UPLOADS_BACKEND="memory")
    with pytest.raises(ConfigError, match="another name"):
        Uploads(app)
    with Flask("bare").test_request_context(), pytest.raises(RuntimeError, match=r"call Uploads\(app\)"):
        save_uploads()


def test_names_and_places_that_collide_are_refused(make_app: MakeApp) -> None:
    app = make_app(UPLOADS_BACKEND="memory", DOCUMENTS_BACKEND="memory", DOCUMENTS_URL_PREFIX="/uploads")
    with pytest.raises(ConfigError, match="served by the Uploads named 'uploads'"):
        Uploads(app, name="documents")
    with pytest.raises(ValueError, match="is no name"):
        Uploads(name="my.documents")
    own = Flask("tests")
    own.config["UPLOADS_BACKEND"] = "memory"
    own.register_blueprint(Blueprint("uploads", "tests"))
    Uploads(own)


def test_a_route_of_the_app_that_answers_in_our_place_is_named(
    make_app: MakeApp, uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(uploads, UPLOADS_BACKEND="memory")
    app.add_url_rule("/uploads/<filename>", "uploaded_file", lambda filename: "old")
    with app.app_context():
        for _ in range(2):
            uploads.save(PNG, filename="a.png")
    assert caplog.text.count("the app's own route 'uploaded_file' answers /uploads/") == 1


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize(
    ("backend", "more", "remedy"),
    [
        ("cloudinary", {}, "set UPLOADS_CLOUDINARY_PRIVATE=true"),
        ("imagekit", {}, "set UPLOADS_IMAGEKIT_PRIVATE=true"),
        ("s3", {"UPLOADS_PUBLIC_URL": "https://cdn.example"}, "remove UPLOADS_PUBLIC_URL"),
        ("cloudinary", {"UPLOADS_CLOUDINARY_PRIVATE": "1"}, None),
        ("imagekit", {"UPLOADS_IMAGEKIT_PRIVATE": "1"}, None),
        ("s3", {}, None),
    ],
)
def test_a_hook_that_guards_permanent_links_is_warned_of_once(
    request: pytest.FixtureRequest,
    make_app: MakeApp,
    uploads: Uploads,
    caplog: pytest.LogCaptureFixture,
    backend: str,
    more: dict[str, str],
    remedy: str | None,
    guarded: bool,
) -> None:
    app = make_app(uploads, **settings_of(backend, request), **more)
    if guarded:
        uploads.authorize(lambda action, key: True)
    with app.app_context():
        for _ in range(2):
            uploads.save(PNG, filename="a.png")
    assert caplog.text.count("public and do not end") == (1 if guarded and remedy else 0)
    assert not guarded or (remedy or "") in caplog.text


@pytest.mark.parametrize(
    "options", [{"rule": "/uploads/<name>/"}, {"rule": "/uploads/<name>", "redirect_to": "/static/x"}]
)
def test_looking_for_another_route_never_stands_in_the_way_of_a_file(
    make_app: MakeApp, uploads: Uploads, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(uploads, UPLOADS_BACKEND="memory")
    app.add_url_rule(endpoint="old", view_func=lambda name: name, **options)
    assert post(app, {"f": (io.BytesIO(b"x"), "a.txt")})[1].status_code == 200
    assert "the app's own route" in caplog.text


def test_apps_that_are_gone_are_not_kept_by_their_hooks(make_app: MakeApp, uploads: Uploads) -> None:
    apps = []
    for _ in range(5):
        app = make_app(uploads, UPLOADS_BACKEND="memory")
        uploads.authorize(lambda action, key, app=app: app is not None)
        apps.append(weakref.ref(app))
    del app
    gc.collect()
    assert sum(app() is not None for app in apps) <= 1


def test_a_bad_row_is_a_broken_picture_and_no_broken_page(memory: Flask) -> None:
    page = "{{ upload_url('../x') }}|{{ upload_url('https://other.example/a.png') }}"
    first, second = render_template_string(page).split("|")
    assert memory.test_client().get(first).status_code == 404
    assert memory.test_client().get(second).status_code == 404


def test_the_root_of_the_app_counts_outside_of_a_request(make_app: MakeApp, uploads: Uploads) -> None:
    app = make_app(uploads, UPLOADS_BACKEND="memory", APPLICATION_ROOT="/shop")
    with app.app_context():
        assert uploads.url("uploads/a.png") == "/shop/uploads/a.png"


def test_every_public_name_is_exported() -> None:
    assert all(hasattr(flask_persistent_uploads, name) for name in flask_persistent_uploads.__all__)
    assert issubclass(UploadMalformed, flask_persistent_uploads.UploadRejected)
