"""Parses forms strictly and byte for byte. :func:`strict` adds the parser to the request class of an app.

Werkzeug's own parser can append a stray ``\\r`` to the last file (https://github.com/pallets/werkzeug/issues/3285), and
it turns a body that was cut off into an empty form, which looks like success. This parser uses the ``multipart``
library. It answers 400 to a body that cannot be read to its last boundary (RFC 7578, RFC 2046 section 5.1).
"""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, Any, ClassVar, cast

from flask import Request
from multipart import ParserLimitReached, PushMultipartParser
from werkzeug.datastructures import FileStorage, Headers, MultiDict
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.formparser import FormDataParser, default_stream_factory
from werkzeug.http import parse_options_header

from ..errors import BackendFull, BackendUnavailable, UploadMalformed, UploadRejected, UploadTooLarge
from ..text import format_bytes
from .validation import display_name, too_large, too_many

_PIECE = 128 << 10  # bytes that are read from the socket at a time
_MEMORY = 1 << 19  # bytes of files that one request keeps in memory; the rest goes to temporary files
_METHODS_WITH_BODY = {"POST", "PUT", "PATCH"}
_CHARSETS = {"ascii", "us-ascii", "utf-8", "iso-8859-1"}


class StrictRequest(Request):
    """A request whose multipart forms are read by :class:`StrictFormDataParser`."""

    upload_max_size: ClassVar[int] = 0
    upload_max_files: ClassVar[int] = 0

    def make_form_data_parser(self) -> FormDataParser:
        if self.method not in _METHODS_WITH_BODY and not self.content_length:
            return super().make_form_data_parser()  # some clients send the content type without a body
        overridden = type(self)._get_file_stream is not Request._get_file_stream
        return StrictFormDataParser(
            self._get_file_stream if overridden else None,
            self.max_form_memory_size,
            self.max_content_length,
            self.parameter_storage_class,
            max_form_parts=self.max_form_parts,
            max_size=self.upload_max_size,
            max_files=self.upload_max_files,
        )


def strict(request_class: type[Request], *, max_size: int, max_files: int) -> type[Request]:
    """Return a subclass of ``request_class`` with the strict parser.

    ``max_size`` (bytes) limits each file, and ``max_files`` limits their number. For a class that has the strict
    parser already, the larger limits count.
    """
    bases: tuple[type[Request], ...] = (StrictRequest, request_class)
    if issubclass(request_class, StrictRequest):
        bases = (request_class,)
        max_size = max(max_size, request_class.upload_max_size)
        max_files = max(max_files, request_class.upload_max_files)
    limits = {"upload_max_size": max_size, "upload_max_files": max_files, "__module__": request_class.__module__}
    return type(request_class.__name__, bases, limits)


class StrictFormDataParser(FormDataParser):
    """Parses ``multipart/form-data`` with the ``multipart`` library, and other forms as Werkzeug does.

    Raises ``UploadMalformed`` (400) for an incomplete or malformed form, and ``UploadTooLarge`` (413) as soon as the
    form exceeds one of Flask's or the extension's limits.
    """

    def __init__(self, *args: Any, max_size: int, max_files: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.max_size = max_size
        self.max_files = max_files

    def _parse_multipart(
        self, stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str]
    ) -> tuple[IO[bytes], MultiDict[str, str], MultiDict[str, FileStorage]]:
        form = _Form(self, content_length)
        with _translated_errors():
            try:
                _feed(form, stream.read, options.get("boundary", ""))
            except BaseException:
                form.close()
                raise
        return stream, self.cls(form.fields), self.cls(form.files)


def _feed(form: _Form, read: Callable[[int], bytes], boundary: str) -> None:
    """Read the body to its end, and pass the events of the parser to ``form``.

    An empty part may consist of its header alone, with one empty line before the next boundary (RFC 2046, section
    5.1.1, "body-part"). Werkzeug's test client sends empty files like this:

        Content-Disposition: form-data; name="photo"; filename=""
        <empty line>
        --boundary

    The parser requires a second empty line, because it expects a body, even an empty one. So if a boundary follows a
    header directly, this function inserts a line break.
    """
    # The parser's strict mode is off: it refuses the line break after the last boundary if that arrives separately.
    with PushMultipartParser(boundary) as parser:
        empty_part = b"\r\n\r\n--" + parser.boundary
        held = b""  # the end of the last piece, if an empty part may begin there
        while not parser.closed:
            piece = read(_PIECE)
            data = held + piece
            start = 0
            while (found := data.find(empty_part, start)) >= 0:
                form.receive(parser.parse(data[start : found + 2]))
                start = found + 2
                if form.in_header:
                    form.receive(parser.parse(b"\r\n"))
            end = _start_of_match(empty_part, data) if piece else len(data)
            held = data[end:]
            if start < end:
                form.receive(parser.parse(data[start:end] if start or held else data))
            if not piece:
                parser.close()


def _start_of_match(pattern: bytes, data: bytes) -> int:
    """Return where the longest suffix of ``data`` that is a prefix of ``pattern`` begins; else ``len(data)``."""
    at = data.find(pattern[:1], max(0, len(data) - len(pattern) + 1))
    while at >= 0 and not pattern.startswith(data[at:]):
        at = data.find(pattern[:1], at + 1)
    return at if at >= 0 else len(data)


class _Form:
    """The fields and files received so far, and the part that is being received."""

    def __init__(self, limits: StrictFormDataParser, content_length: int | None) -> None:
        self.fields: list[tuple[str, str]] = []
        self.files: list[tuple[str, FileStorage]] = []
        #: Whether the header of the next part is being received.
        self.in_header = True
        self._limits = limits
        self._content_length = content_length
        self._parts = 0
        self._memory = _MEMORY
        self._part: Any = None
        self._target: IO[bytes] = io.BytesIO()
        self._part_max_size = 0

    def receive(self, events: Iterator[Any]) -> None:
        """Process the parser's events: the header of a part, pieces of its body, and ``None`` for its end."""
        for event in events:
            if event is None:
                self._end_part()
            elif isinstance(event, (bytes, bytearray)):
                if self._part.bytes_received > self._part_max_size:
                    raise self._too_large()
                self._target.write(event)
            else:
                self._begin_part(event)

    def close(self) -> None:
        for _, file in self.files:
            file.close()
        self._target.close()

    def _begin_part(self, part: Any) -> None:
        self.in_header = False
        self._parts += 1
        if self._limits.max_form_parts is not None and self._parts > self._limits.max_form_parts:
            raise UploadTooLarge(f"The form has too many parts. At most {self._limits.max_form_parts} are allowed.")
        self._part = part
        if part.filename is None:
            part.filename = _other_filename(part)
        if part.filename is None:
            allowed = self._limits.max_form_memory_size
            self._part_max_size = allowed if allowed is not None else 1 << 62
            self._target = io.BytesIO()
            return
        if part.filename and sum(bool(file.filename) for _, file in self.files) >= self._limits.max_files:
            raise too_many(self._limits.max_files)
        self._part_max_size = self._limits.max_size
        self._target = self._new_file(part)

    def _new_file(self, part: Any) -> IO[bytes]:
        if self._limits.stream_factory is not default_stream_factory:
            return self._limits.stream_factory(
                total_content_length=self._content_length,
                filename=part.filename,
                content_type=part.content_type,
                content_length=0,
            )
        # At least 1: for SpooledTemporaryFile 0 means that nothing ever goes to disk.
        return cast("IO[bytes]", SpooledTemporaryFile(max_size=max(1, self._memory), mode="w+b"))

    def _end_part(self) -> None:
        self.in_header = True
        part, target = self._part, self._target
        if part.filename is None:
            charset = (part.charset or "").lower()
            data = cast("io.BytesIO", target).getvalue()
            self.fields.append((part.name, data.decode(charset if charset in _CHARSETS else "utf-8", "replace")))
        else:
            if part.size <= self._memory:
                self._memory -= part.size
            target.seek(0)
            self.files.append(
                (part.name, FileStorage(target, part.filename, part.name, headers=Headers(part.headerlist)))
            )

    def _too_large(self) -> UploadTooLarge:
        part = self._part
        if part.filename is not None:
            return too_large(display_name(part.filename), self._part_max_size, part.name)
        message = f"The field '{part.name}' is too long. It may have at most {format_bytes(self._part_max_size)}."
        return UploadTooLarge(message, field=part.name)


def _other_filename(part: Any) -> str | None:
    """Return a filename that is written as the parser cannot read it, such as with ``filename*=`` (RFC 5987).

    Returns ``None`` if the part has no filename: it is a field then.
    """
    disposition = part["Content-Disposition"]
    if not re.search(r";\s*filename", re.sub(r'"(?:\\.|[^"\\])*"', '""', disposition)):
        return None
    filename = parse_options_header(disposition)[1].get("filename")
    if filename is None:
        raise UploadMalformed(f"The name of the file in '{part.name}' cannot be read.", field=part.name)
    return filename


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Translate errors of the parser, of Werkzeug and of the operating system into HTTP errors."""
    try:
        yield
    except ParserLimitReached as error:
        raise UploadMalformed("The header of a form part is too long. A file name may be too long.") from error
    except (ValueError, ClientDisconnected) as error:
        message = "The form is incomplete or malformed. Nothing was stored. Please send it again."
        raise UploadMalformed(message) from error
    except UploadRejected:
        raise
    except RequestEntityTooLarge as error:
        raise UploadTooLarge("The request is too large.") from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            message = "The disk for temporary files is full. Nothing was stored."
            raise BackendFull(message, remedy="Free space there, or set TMPDIR to another folder.") from error
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            message = "Too many files are open. Nothing was stored."
            remedy = "Raise the limit for open files (ulimit -n)."
            raise BackendUnavailable(message, remedy=remedy, nothing_stored=True) from error
        raise UploadMalformed("The form was cut off. Nothing was stored. Please send it again.") from error
