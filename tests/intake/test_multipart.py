"""The form parser is byte-exact and strict, keeps to its limits, and otherwise works like Flask's own."""

from __future__ import annotations

import errno
import hashlib
import io
import random
import time
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import pytest
from flask import Flask, Request, request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import HTTPException
from werkzeug.test import EnvironBuilder

from flask_persistent_uploads import BackendError, BackendFull, BackendUnavailable, UploadMalformed, UploadTooLarge
from flask_persistent_uploads.intake.multipart import StrictFormDataParser, StrictRequest, strict

from ..conftest import MakeApp

BOUNDARY = "----WebKitFormBoundaryAbC123"
ENDINGS = (b"", b"\r", b"\n", b"\r\n", b"\r\n--", b"\r\n\r\n", b"\r\n--" + BOUNDARY.encode()[:-1])


def part(name: str, content: bytes, filename: str | None = None, *, more: bytes = b"") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    return head.encode() + b"\r\n" + more + b"\r\n" + content


def body(*parts: bytes, boundary: str = BOUNDARY) -> bytes:
    line = b"--" + boundary.encode()
    return b"".join(line + b"\r\n" + one + b"\r\n" for one in parts) + line + b"--\r\n"


def parse(
    data: bytes, *, boundary: str = BOUNDARY, stream: Any = None, **limits: Any
) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
    parser = StrictFormDataParser(**{"max_size": 1 << 30, "max_files": 50, **limits})
    _, form, files = parser.parse(stream or io.BytesIO(data), "multipart/form-data", len(data), {"boundary": boundary})
    return form, files


def close_all(files: MultiDict[str, FileStorage]) -> None:
    for file in files.listvalues():
        for one in file:
            one.close()


def content_of_length(total: int, ending: bytes) -> bytes:
    """Return content for a file, so that the whole body has ``total`` bytes."""
    frame = len(body(part("f", b"", "a.bin")))
    return random.Random(total).randbytes(total - frame - len(ending)) + ending


@pytest.mark.parametrize("around", [65536, 131072, 196608])
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_byte_arrives_at_any_length_of_the_body(around: int, ending: bytes) -> None:
    for length in range(around - 64, around + 65):
        content = content_of_length(length, ending)
        data = body(part("f", content, "a.bin"))
        assert len(data) == length
        _, files = parse(data)
        assert files["f"].read() == content, (length, ending)
        close_all(files)


class Dribble(io.RawIOBase):
    """A socket that returns pieces of random sizes."""

    def __init__(self, data: bytes, seed: int) -> None:
        self._data, self._random = data, random.Random(seed)

    def read(self, size: int = -1) -> bytes:
        count = min(size, self._random.choice((1, 2, 3, 7, 50, 4096)))
        piece, self._data = self._data[:count], self._data[count:]
        return piece


@pytest.mark.parametrize("seed", range(60))
def test_every_byte_arrives_if_the_body_comes_in_small_pieces(seed: int) -> None:
    rng = random.Random(seed)
    pieces = [b"\r", b"\n", b"-", b"--", b"\r\n", b"--" + BOUNDARY.encode(), BOUNDARY.encode(), b"\r\n\r\n", b"x" * 70]
    contents = [b"x" + b"".join(rng.choices([*pieces[:5], *pieces[6:]], k=rng.randrange(40))) for _ in range(4)]
    contents = [content.replace(b"\r\n--" + BOUNDARY.encode(), b"") for content in contents] + [b""]
    data = body(*(part(f"f{number}", content, "a") for number, content in enumerate(contents)))
    _, files = parse(data, stream=Dribble(data, seed))
    assert [file.read() for file in files.values()] == contents
    close_all(files)


def test_a_body_cut_at_any_offset_is_a_400_and_never_an_empty_form() -> None:
    data = body(part("a", b"1"), part("f", b"content\r\n", "a.bin"), part("b", b"2"))
    complete = len(data) - 2  # the line break after the last boundary is not part of the form
    for length in range(complete):
        with pytest.raises(UploadMalformed):
            parse(data[:length])
    form, files = parse(data[:complete])
    assert (form["a"], form["b"], files["f"].read()) == ("1", "2", b"content\r\n")
    close_all(files)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        body(part("a", b"1"), boundary="other"),
        body(b"no header"),
        body(b"X-Other: 1\r\n\r\nvalue"),
        body(b"Content-Disposition: attachment; name=a\r\n\r\nvalue"),
        body(b'Content-Disposition: form-data; name="f"; filename="\xff.png"\r\n\r\nx'),
        body(part("f", b"xyz", "a", more=b"Content-Length: 2\r\n")),
        body(part("f", b"xyz", "a" * 5000)),
        body(part("f", b"xyz", "a", more=b"X-A: 1\r\n" * 9)),
    ],
    ids=[
        "empty", "garbage", "other boundary", "no header", "no disposition", "wrong disposition",
        "invalid UTF-8", "lying length", "long name", "many headers",
    ],
)  # fmt: skip
def test_a_malformed_form_is_a_400_with_a_reason(data: bytes) -> None:
    with pytest.raises(UploadMalformed) as raised:
        parse(data)
    assert raised.value.code == 400
    assert "form" in str(raised.value.description)


@pytest.mark.parametrize("boundary", ["", "a\nb"])
def test_an_invalid_boundary_is_a_400(boundary: str) -> None:
    with pytest.raises(UploadMalformed):
        parse(body(part("a", b"1")), boundary=boundary)


def test_a_part_may_end_with_its_header_like_an_empty_file_of_flasks_test_client() -> None:
    empty = b"--B\r\n" + part("f", b"", "a.txt") + b"--B\r\n" + part("x", b"1") + b"\r\n--B--\r\n"
    assert b"\r\n\r\n--B\r\n" in empty
    form, files = parse(empty, boundary="B")
    assert (files["f"].read(), files["f"].filename, form["x"]) == (b"", "a.txt", "1")
    close_all(files)


@pytest.mark.parametrize(
    ("data", "complete"),
    [
        (b"\r\n\r\n--B", False),
        (b"preamble\r\n\r\n" + body(part("x", b"1"), boundary="B"), True),
        (body(part("x", b"1"), boundary="B") + b"\r\n\r\n--B", True),
        (body(part("x", b"1"), boundary="B") + b"\r\n\r\n\r\n--B--\r\n", True),
    ],
    ids=["nothing but a boundary", "preamble", "epilogue", "epilogue with a boundary"],
)
def test_a_preamble_and_an_epilogue_are_skipped_without_an_endless_loop(data: bytes, complete: bool) -> None:
    if complete:
        assert parse(data, boundary="B")[0]["x"] == "1"
    else:
        with pytest.raises(UploadMalformed):
            parse(data, boundary="B")


def test_a_long_epilogue_takes_linear_time() -> None:
    data = body(part("x", b"1"), boundary="b") + b"\r\n\r\n--b" * 200_000
    small = body(part("x", b"1"), boundary="b") + b"\r\n\r\n--b" * 20_000
    took = []
    for one in (small, data):
        begun = time.process_time()
        parse(one, boundary="b")
        took.append(time.process_time() - begun)
    assert took[1] < 30 * took[0]


@pytest.mark.parametrize("sign", ["\n", "\r"])
def test_a_line_break_in_a_header_is_a_400_and_never_an_empty_form(sign: str) -> None:
    for head in (f'name="f"; filename="x{sign}y.txt"', f'name="f"; filename="a.txt"\r\nContent-Type: a{sign}b'):
        with pytest.raises(UploadMalformed):
            parse(body(f"Content-Disposition: form-data; {head}\r\n\r\nx".encode()))


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ("form-data; name=\"f\"; filename*=UTF-8''%e2%82%ac.txt", "€.txt"),
        ('form-data; name="f";\tfilename="x.txt"', "x.txt"),
        ('form-data; filename="x.txt"; name="f"', "x.txt"),
    ],
)
def test_every_way_to_write_a_filename_makes_a_file(disposition: str, filename: str) -> None:
    form, files = parse(body(f"Content-Disposition: {disposition}\r\n\r\ncontent".encode()))
    assert (len(form), files["f"].filename, files["f"].read()) == (0, filename, b"content")
    close_all(files)


@pytest.mark.parametrize("name", ["filename", "a; filename=b", "my filename"])
def test_a_field_may_be_named_filename(name: str) -> None:
    form, files = parse(body(part(name, b"value")))
    assert (form.to_dict(), len(files)) == ({name: "value"}, 0)


def test_an_unreadable_filename_is_a_400_and_never_a_field() -> None:
    with pytest.raises(UploadMalformed, match="The name of the file in 'f' cannot be read") as raised:
        parse(body(b'Content-Disposition: form-data; name="f"; filename\r\n\r\nx'))
    assert raised.value.field == "f"


def test_fields_and_files_equal_those_of_flasks_own_parser() -> None:
    data = MultiDict(
        [
            ("name", "Zoë"),
            ("tags", "a"),
            ("tags", "b"),
            ("empty", ""),
            ("photo", (io.BytesIO(b"one"), "één.png", "image/png")),
            ("photo", (io.BytesIO(b"two"), 'qu"ote.png')),
        ]
    )
    environ = EnvironBuilder(method="POST", data=data).get_environ()
    content = environ["wsgi.input"].read()
    seen = []
    for request_class in (Request, strict(Request, max_size=1 << 20, max_files=9)):
        environ["wsgi.input"] = io.BytesIO(content)
        with Flask("x").request_context(environ):
            asked = request_class(environ)
            files = [
                (field, file.filename, file.mimetype, file.name, file.read(), dict(file.headers))
                for field, file in asked.files.items(multi=True)
            ]
            seen.append((list(asked.form.items(multi=True)), files, type(asked.files)))
            asked.close()
    assert seen[0] == seen[1]


def test_the_charset_of_a_field_is_respected_and_invalid_text_is_replaced() -> None:
    latin = part("a", b"\xe9", more=b"Content-Type: text/plain; charset=iso-8859-1\r\n")
    form, _ = parse(body(latin, part("b", b"\xff")))
    assert (form["a"], form["b"]) == ("é", "�")


def test_flasks_limits_are_respected() -> None:
    field = body(part("a", b"x" * 1001))
    assert parse(field, max_form_memory_size=1001)[0]["a"] == "x" * 1001
    with pytest.raises(UploadTooLarge, match=r"The field 'a' is too long\. It may have at most 1 kB") as raised:
        parse(field, max_form_memory_size=1000)
    assert raised.value.field == "a"
    many = body(*(part(f"a{number}", b"") for number in range(11)))
    assert len(parse(many, max_form_parts=11)[0]) == 11
    with pytest.raises(UploadTooLarge):
        parse(many, max_form_parts=10)


def test_a_file_is_refused_as_soon_as_it_is_too_large() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            if not self.given:
                self.given = 1
                return b"--" + BOUNDARY.encode() + b"\r\n" + part("f", b"", "big\x1b.bin")
            self.given += size
            return b"x" * size

    stream = Endless()
    with pytest.raises(UploadTooLarge, match=r"'big \.bin' is too large\. A file may have at most 1 MB\.") as raised:
        parse(b"", stream=stream, max_size=1_000_000)
    error = raised.value
    assert (error.code, error.field, error.filename) == (413, "f", "big .bin")
    assert error.data == {"message": error.description, "errors": {"files": {"f": [error.description]}}}
    assert stream.given < 2_000_000


def test_a_form_is_refused_as_soon_as_it_has_too_many_files() -> None:
    def files(count: int) -> bytes:
        return body(*(part("f", b"x", f"{number}.txt") for number in range(count)))

    close_all(parse(files(50))[1])
    with pytest.raises(UploadTooLarge, match="At most 50 are allowed at once"):
        parse(files(51))


def test_empty_selections_do_not_count_as_files() -> None:
    chosen = [part("f", b"x", "a.txt")]
    none_chosen = [b'Content-Disposition: form-data; name="g"; filename=""\r\n\r\n'] * 5
    _, files = parse(body(*none_chosen, *chosen), max_files=1)
    assert [file.filename for _, file in files.items(multi=True)] == ["", "", "", "", "", "a.txt"]
    close_all(files)


def test_many_small_files_do_not_fill_the_memory() -> None:
    _, files = parse(body(*(part("f", b"x" * 200_000, f"{number}") for number in range(40))))
    streams = [file.stream for file in files.getlist("f")]
    in_memory = [stream for stream in streams if isinstance(stream, SpooledTemporaryFile) and not stream._rolled]  # type: ignore[attr-defined]
    assert len(streams) == 40
    assert len(in_memory) * 200_000 <= 1 << 20
    close_all(files)


def test_the_apps_own_request_class_keeps_its_behaviour() -> None:
    kept: list[io.BytesIO] = []

    class Own(Request):
        answer = 42

        def _get_file_stream(
            self,
            total_content_length: int | None,
            content_type: str | None,
            filename: str | None = None,
            content_length: int | None = None,
        ) -> IO[bytes]:
            kept.append(io.BytesIO())
            return kept[-1]

    made = strict(Own, max_size=1000, max_files=5)
    with Flask("x").app_context():
        asked: Any = made(EnvironBuilder(method="POST", data={"f": (io.BytesIO(b"content"), "a.txt")}).get_environ())
        assert asked.answer == 42
        assert asked.files["f"].stream is kept[0]
        assert kept[0].getvalue() == b"content"
        asked.close()


def test_two_uploads_in_one_app_share_the_larger_limits() -> None:
    once = strict(Request, max_size=10, max_files=7)
    twice = strict(once, max_size=20, max_files=3)
    assert issubclass(twice, StrictRequest)
    assert (twice.upload_max_size, twice.upload_max_files) == (20, 7)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, BackendFull),
        (errno.EDQUOT, BackendFull),
        (errno.EMFILE, BackendUnavailable),
        (errno.ECONNRESET, UploadMalformed),
    ],
)
def test_each_system_error_while_the_form_is_read_has_its_status(number: int, expected: type[HTTPException]) -> None:
    class Failing(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(number, "failed")

    with pytest.raises(expected) as raised:
        parse(b"", stream=Failing())
    if isinstance(raised.value, BackendError):
        assert raised.value.nothing_stored
        assert raised.value.remedy


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("DELETE", 200), ("OPTIONS", 200), ("POST", 400)])
def test_a_request_without_a_body_may_have_the_content_type_of_a_form(
    make_app: MakeApp, method: str, status: int
) -> None:
    app = make_app(UPLOADS_BACKEND="memory")
    app.before_request(lambda: ({"form": len(request.form)}, 200))
    environ = EnvironBuilder(method=method, content_type="multipart/form-data; boundary=b").get_environ()
    environ |= {"wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"}
    assert app.test_client().open(environ).status_code == status


def test_other_bodies_are_read_by_flask(make_app: MakeApp) -> None:
    app = make_app(UPLOADS_BACKEND="memory")
    app.add_url_rule("/", view_func=lambda: dict(request.form) or request.get_json(), methods=["POST"])
    client = app.test_client()
    assert client.post("/", data={"a": "1"}).json == {"a": "1"}
    assert client.post("/", json={"b": 2}).json == {"b": 2}


def test_the_files_of_a_request_are_closed_with_it(make_app: MakeApp) -> None:
    app = make_app(UPLOADS_BACKEND="memory")
    seen: list[IO[bytes]] = []

    def view() -> str:
        seen.append(request.files["f"].stream)
        return hashlib.sha256(seen[0].read()).hexdigest()

    app.add_url_rule("/", view_func=view, methods=["POST"])
    form = body(part("f", b"x" * 3_000_000, "a.bin"))
    answer = app.test_client().post("/", data=form, content_type=f"multipart/form-data; boundary={BOUNDARY}")
    assert answer.text == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert seen[0].closed
