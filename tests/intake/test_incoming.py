"""Incoming files: taken from a request or given by the app, and refused with the field and the file concerned."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

import pytest
from flask import Flask, Request, request
from werkzeug.datastructures import FileStorage

from flask_persistent_uploads import (
    InvalidKey,
    TypeNotAllowed,
    UploadMalformed,
    UploadRejected,
    Uploads,
    UploadTooLarge,
    content_types,
    save_uploads,
)
from flask_persistent_uploads.config import Settings
from flask_persistent_uploads.intake import incoming
from flask_persistent_uploads.intake.incoming import Incoming, Limits

from ..conftest import PNG, MakeApp

File = tuple[IO[bytes], str]
ANY = Limits("", (), 1000)


def limits(settings: Settings = Settings(max_size=1000), **arguments: Any) -> Limits:  # noqa: B008 - it is frozen
    return Limits.of_call(settings, **{"folder": "", "allow": None, "max_size": None, **arguments})


# -- the arguments of a call


def test_a_call_without_arguments_has_the_limits_of_the_settings() -> None:
    assert limits(Settings(allow=("image/*",), max_size=1000)) == Limits("", ("image/*",), 1000)


@pytest.mark.parametrize(
    ("allow", "types"),
    [
        ("image/*", ("image/*",)),
        (".csv, application/pdf", (".csv", "application/pdf")),
        ([".CSV", " image/png "], (".csv", "image/png")),
        (("image/*",), ("image/*",)),
    ],
)
def test_types_are_a_text_or_a_list(allow: Any, types: tuple[str, ...]) -> None:
    assert limits(Settings(allow=(".txt",)), allow=allow).types == types


@pytest.mark.parametrize(("max_size", "expected"), [(1, 1), (1000, 1000), ("500", 500), ("1kB", 1000)])
def test_a_size_is_a_number_of_bytes_or_a_text(max_size: Any, expected: int) -> None:
    assert limits(max_size=max_size).max_size == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"allow": "jpg"}, "allow is 'jpg'. Use types such as image/*"),
        ({"allow": ["image/*", 5]}, "allow is ['image/*', 5]. Use types such as image/*"),
        ({"allow": 5}, "allow is 5. Use types such as image/*"),
        ({"allow": []}, "allow is empty. Name the types that are allowed, or leave it out to use the setting."),
        ({"allow": " , "}, "allow is empty. Name the types that are allowed, or leave it out to use the setting."),
        ({"max_size": "ten"}, "max_size is 'ten'. Use a size such as 10MB, 500kB or a number of bytes."),
        ({"max_size": 0}, "max_size is 0. Use a size such as 10MB, 500kB or a number of bytes."),
        (
            {"max_size": "1001"},
            "max_size is '1001', which is above UPLOADS_MAX_SIZE, the limit for every form. Raise UPLOADS_MAX_SIZE.",
        ),
    ],
)
def test_a_wrong_argument_is_a_value_error_that_names_it(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^(allow|max_size) is ") as raised:
        limits(**arguments)
    assert str(raised.value).startswith(message)
    assert str(raised.value).endswith(".")


def test_the_limit_of_a_further_uploads_is_named_by_its_own_variable() -> None:
    with pytest.raises(ValueError, match="above DOCUMENTS_MAX_SIZE"):
        limits(Settings(max_size=10, uploads="documents"), max_size=11)


# -- files of a request


@pytest.fixture
def memory(make_app: MakeApp, uploads: Uploads) -> Iterator[Flask]:
    app = make_app(uploads, UPLOADS_BACKEND="memory", UPLOADS_MAX_SIZE="1kB", UPLOADS_MAX_FILES="5")
    with app.app_context():
        yield app


def send(app: Flask, data: dict[str, Any] | bytes, read: Callable[[], Any]) -> Any:
    """Return what ``read`` returns while the app handles a form."""
    content_type = "multipart/form-data; boundary=B" if isinstance(data, bytes) else None
    with app.test_request_context("/", method="POST", data=data, content_type=content_type):
        return read()


def chosen(fields: Any = ()) -> list[tuple[str, str, bytes]]:
    files = incoming.from_request(cast("Any", request)._get_current_object(), fields)
    return [(file.field, file.filename, file.stream.read()) for file in files]


def form() -> dict[str, Any]:
    return {
        "a": (io.BytesIO(b"1"), "1.txt"),
        "b": [(io.BytesIO(b"2"), "2.txt"), (io.BytesIO(b"3"), "3.txt")],
        "c": (io.BytesIO(), ""),
        "d": "a field",
    }


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((), "123"),
        (None, "123"),
        ([], "123"),
        ("a", "1"),
        ("b", "23"),
        (["a", "b"], "123"),
        ({"b": 0, "c": 0}.keys(), "23"),
        ("c", ""),
        ("d", ""),
        ("missing", ""),
    ],
    ids=str,
)
def test_the_chosen_files_of_the_named_fields_are_found_in_order(memory: Flask, fields: Any, expected: str) -> None:
    found = send(memory, form(), lambda: chosen(fields))
    assert [content.decode() for _, _, content in found] == list(expected)
    assert all(filename == f"{content.decode()}.txt" for _, filename, content in found)


def test_an_empty_file_with_a_name_was_chosen(memory: Flask) -> None:
    assert send(memory, {"a": (io.BytesIO(), "empty.txt")}, chosen) == [("a", "empty.txt", b"")]


def test_a_request_class_that_replaced_ours_is_an_error(memory: Flask) -> None:
    memory.request_class = Request
    with pytest.raises(RuntimeError, match="Set it before init_app"):
        send(memory, form(), chosen)


def test_a_closed_file_is_an_error_that_names_its_field(memory: Flask) -> None:
    def read() -> Any:
        request.files["a"].close()
        return chosen()

    with pytest.raises(ValueError, match="The file in 'a' was closed before it was saved"):
        send(memory, {"a": (io.BytesIO(b"1"), "1.txt")}, read)


# -- files that the app gives


class OneWay(io.BytesIO):
    """A stream that can be read once, such as a pipe."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: Any) -> int:
        raise io.UnsupportedOperation


@pytest.mark.parametrize("stream", [io.BytesIO(b"content"), OneWay(b"content")], ids=["seekable", "one way"])
def test_a_given_stream_can_be_read_twice_and_stays_open(stream: io.BytesIO) -> None:
    with incoming.seekable(stream, "a.txt", 1000) as found:
        assert (found.filename, found.field) == ("a.txt", "")
        for _ in range(2):
            found.stream.seek(0)
            assert found.stream.read() == b"content"
    assert not stream.closed


@pytest.mark.parametrize(("filename", "expected"), [(None, "own.txt"), ("", "own.txt"), ("given.txt", "given.txt")])
@pytest.mark.parametrize("stream_class", [io.BytesIO, OneWay])
def test_the_name_of_a_file_storage_is_used_unless_another_is_given(
    stream_class: type[io.BytesIO], filename: str | None, expected: str
) -> None:
    with incoming.seekable(FileStorage(stream_class(b"content"), "own.txt"), filename, 1000) as found:
        assert found.filename == expected
        found.stream.seek(0)
        assert found.stream.read() == b"content"


def test_bytes_can_be_given() -> None:
    with incoming.seekable(b"content", "a.txt", 1000) as found:
        assert found.stream.read() == b"content"


def test_no_more_than_one_byte_above_the_limit_is_read_from_a_stream() -> None:
    stream = OneWay(b"x" * 100)
    with incoming.seekable(stream, "a.txt", 10) as found:
        assert found.stream.seek(0, io.SEEK_END) == 11
    assert stream.tell() == 11


# -- checks, and what a refusal tells


def test_a_job_has_the_key_and_the_content_type_for_the_backend() -> None:
    picture, page = incoming.jobs(
        [Incoming(io.BytesIO(PNG), "Plan 1.PNG", "photo"), Incoming(io.BytesIO(b"<html>"), "a.html")],
        Settings(),
        Limits("reports", (), 1000),
    )
    assert picture.key.startswith("reports/")
    assert picture.key.endswith("-plan-1.png")
    assert (picture.content_type, picture.inspected.content_type, picture.field) == ("image/png", "image/png", "photo")
    assert (page.content_type, page.inspected.content_type, page.field) == (content_types.UNKNOWN, "text/html", None)


def test_too_many_files_are_refused_before_any_is_inspected() -> None:
    files = [Incoming(io.BytesIO(b"x" * 2000), f"{number}.txt") for number in range(3)]
    with pytest.raises(UploadTooLarge, match=r"There are too many files\. At most 2 are allowed at once\."):
        incoming.jobs(files, Settings(max_files=2), ANY)


@pytest.mark.parametrize("folder", ["../x", "Reports", "uploads"])
def test_a_wrong_folder_is_refused(folder: str) -> None:
    with pytest.raises(InvalidKey):
        incoming.jobs([Incoming(io.BytesIO(b"x"), "a.txt")], Settings(), Limits(folder, (), 1000))


NO_NAME = b'--B\r\nContent-Disposition: form-data; name="photo"; filename=""\r\n\r\ncontent\r\n--B--\r\n'
BAD_NAME = b'--B\r\nContent-Disposition: form-data; name="photo"; filename\r\n\r\ncontent\r\n--B--\r\n'
LONG_FIELD = b'--B\r\nContent-Disposition: form-data; name="photo"\r\n\r\n' + b"x" * 600_000 + b"\r\n--B--\r\n"


@pytest.mark.parametrize(
    ("data", "arguments", "error", "filename"),
    [
        ({"photo": (io.BytesIO(b"x" * 1001), "C:\\big.txt")}, {}, UploadTooLarge, "big.txt"),
        ({"photo": (io.BytesIO(b"xx"), "big.txt")}, {"max_size": 1}, UploadTooLarge, "big.txt"),
        ({"photo": (io.BytesIO(b"<html>"), "a.png")}, {"allow": "image/*"}, TypeNotAllowed, "a.png"),
        (NO_NAME, {}, UploadMalformed, None),
        (BAD_NAME, {}, UploadMalformed, None),
        (LONG_FIELD, {}, UploadTooLarge, None),
    ],
    ids=["too large for the form", "too large for the call", "type", "no name", "unreadable name", "long field"],
)
def test_a_refusal_tells_rest_clients_the_field_and_the_reason(
    memory: Flask, data: Any, arguments: dict[str, Any], error: type[UploadRejected], filename: str | None
) -> None:
    with pytest.raises(error) as raised:
        send(memory, data, lambda: save_uploads(**arguments))
    refusal = raised.value
    assert (refusal.field, refusal.filename) == ("photo", filename)
    assert refusal.data == {
        "message": refusal.description,
        "errors": {"files": {"photo": [refusal.description]}},
    }


def test_a_refusal_of_a_form_as_a_whole_has_a_reason_and_no_field(memory: Flask) -> None:
    many = {"photo": [(io.BytesIO(b"x"), f"{number}.txt") for number in range(6)]}
    for data in (many, NO_NAME[:-5]):
        with pytest.raises(UploadRejected) as raised:
            send(memory, data, save_uploads)
        assert raised.value.field is None
        assert raised.value.data == {"message": raised.value.description}


def test_a_refused_file_that_the_app_gave_has_no_field(memory: Flask, uploads: Uploads) -> None:
    with pytest.raises(UploadTooLarge) as raised:
        uploads.save(b"x" * 1001, filename="a.txt")
    assert (raised.value.field, raised.value.filename) == (None, "a.txt")
