"""The form parser: strict and byte-exact, laid over an app's request class by :func:`strict`.

Werkzeug's own parser can append a stray ``\\r`` to the last file (https://github.com/pallets/werkzeug/issues/3285), and
turns a body that broke off into an empty form that looks like success. This one stands on the ``multipart`` library:
what cannot be read to its last boundary is a 400 (RFC 7578, RFC 2046 section 5.1).
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
from .validation import display_name, human_size

_PIECE = 128 << 10  # bytes read from the socket at once
_MEMORY = 1 << 19  # bytes of files that one request keeps in memory; the rest goes to temporary files
_WITH_BODY = {"POST", "PUT", "PATCH"}
_CHARSETS = {"ascii", "us-ascii", "utf-8", "iso-8859-1"}


class StrictRequest(Request):
    """A request whose multipart forms are read by :class:`StrictFormDataParser`."""

    upload_max_size: ClassVar[int] = 0
    upload_max_files: ClassVar[int] = 0

    def make_form_data_parser(self) -> FormDataParser:
        if self.method not in _WITH_BODY and not self.content_length:
            return super().make_form_data_parser()  # a header that a client sends with every request, and no body
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
    """``request_class`` with the strict parser, and with at least these limits for all files of a form."""
    bases: tuple[type[Request], ...] = (StrictRequest, request_class)
    if issubclass(request_class, StrictRequest):
        bases = (request_class,)
        max_size = max(max_size, request_class.upload_max_size)
        max_files = max(max_files, request_class.upload_max_files)
    limits = {"upload_max_size": max_size, "upload_max_files": max_files, "__module__": request_class.__module__}
    return type(request_class.__name__, bases, limits)


class StrictFormDataParser(FormDataParser):
    """Parses ``multipart/form-data`` with the ``multipart`` library; the rest is Werkzeug's.

    Raises :class:`UploadMalformed` (400) for what is incomplete or malformed, and :class:`UploadTooLarge` (413) beyond
    Flask's own limits or the extension's, as soon as they are passed.
    """

    def __init__(self, *args: Any, max_size: int, max_files: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.max_size = max_size
        self.max_files = max_files

    def _parse_multipart(
        self, stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str]
    ) -> tuple[IO[bytes], MultiDict[str, str], MultiDict[str, FileStorage]]:
        form = _Form(self, content_length)
        with _errors():
            try:
                _feed(form, stream.read, options.get("boundary", ""))
            except BaseException:
                form.close()
                raise
        return stream, self.cls(form.fields), self.cls(form.files)


def _feed(form: _Form, read: Callable[[int], bytes], boundary: str) -> None:
    """Read the body to its end, and hand what the parser finds in it to ``form``.

    A part without a body may end where its head does (RFC 2046, the grammar of "body-part"), as Werkzeug's test client
    sends an empty file. The parser wants a line break more there, and is given it.
    """
    # Not in the parser's own strict mode: that one refuses the line break behind the last boundary where it happens
    # to come with the next piece.
    with PushMultipartParser(boundary) as parser:
        bodiless = b"\r\n\r\n--" + parser.boundary
        held = b""
        while not parser.closed:
            piece = read(_PIECE)
            data = held + piece
            start = 0
            while (at := data.find(bodiless, start)) >= 0:
                form.receive(parser.parse(data[start : at + 2]))
                start = at + 2
                if form.in_head:
                    form.receive(parser.parse(b"\r\n"))
            end = _begun(bodiless, data) if piece else len(data)
            held = data[end:]
            if start < end:
                form.receive(parser.parse(data[start:end] if start or held else data))
            if not piece:
                parser.close()


def _begun(pattern: bytes, data: bytes) -> int:
    """Where a ``pattern`` begins that the end of ``data`` may have cut; ``len(data)`` if nowhere."""
    at = data.find(pattern[:1], max(0, len(data) - len(pattern) + 1))
    while at >= 0 and not pattern.startswith(data[at:]):
        at = data.find(pattern[:1], at + 1)
    return at if at >= 0 else len(data)


class _Form:
    """What was received so far, and the part that is being received."""

    def __init__(self, limits: StrictFormDataParser, content_length: int | None) -> None:
        self.fields: list[tuple[str, str]] = []
        self.files: list[tuple[str, FileStorage]] = []
        self._limits = limits
        self._content_length = content_length
        self._parts = 0
        self._memory = _MEMORY
        self._part: Any = None
        self.in_head = True
        self._target: IO[bytes] = io.BytesIO()
        self._limit = 0

    def receive(self, events: Iterator[Any]) -> None:
        """Take what the parser found: the head of a part, pieces of its content, and ``None`` for its end."""
        for event in events:
            if event is None:
                self._end()
            elif isinstance(event, (bytes, bytearray)):
                if self._part.bytes_received > self._limit:
                    raise self._too_large()
                self._target.write(event)
            else:
                self._begin(event)

    def close(self) -> None:
        for _, file in self.files:
            file.close()
        self._target.close()

    def _begin(self, part: Any) -> None:
        self.in_head = False
        self._parts += 1
        if self._limits.max_form_parts is not None and self._parts > self._limits.max_form_parts:
            raise UploadTooLarge(f"The form has too many parts; at most {self._limits.max_form_parts} are allowed.")
        self._part = part
        if part.filename is None:
            part.filename = _other_filename(part["Content-Disposition"])
        if part.filename is None:
            allowed = self._limits.max_form_memory_size
            self._limit = allowed if allowed is not None else 1 << 62
            self._target = io.BytesIO()
            return
        if part.filename and sum(bool(file.filename) for _, file in self.files) >= self._limits.max_files:
            raise UploadTooLarge(f"There are too many files; at most {self._limits.max_files} at once are allowed.")
        self._limit = self._limits.max_size
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

    def _end(self) -> None:
        self.in_head = True
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
        if part.filename is None:
            return UploadTooLarge(
                f"The field '{part.name}' is too long; at most {human_size(self._limit)} are allowed."
            )
        name = display_name(part.filename)
        return UploadTooLarge(
            f"'{name}' is too large; at most {human_size(self._limit)} a file are allowed.",
            field=part.name,
            filename=name,
        )


def _other_filename(disposition: str) -> str | None:
    """A file name in a spelling that the parser passes over, as ``filename*=`` (RFC 5987); ``None`` for a field."""
    if not re.search(r";\s*filename", re.sub(r'"(?:\\.|[^"\\])*"', '""', disposition)):
        return None
    filename = parse_options_header(disposition)[1].get("filename")
    if filename is None:
        raise UploadMalformed("A file of the form has a name that cannot be read.")
    return filename


@contextmanager
def _errors() -> Iterator[None]:
    """What goes wrong while a form is read, as the status that says so."""
    try:
        yield
    except ParserLimitReached as error:
        raise UploadMalformed("The head of a part of the form is too long, as a file name may be.") from error
    except (ValueError, ClientDisconnected) as error:
        raise UploadMalformed(
            "The form is incomplete or malformed; nothing of it was kept. Please send it again."
        ) from error
    except UploadRejected:
        raise
    except RequestEntityTooLarge as error:
        raise UploadTooLarge("The request is too large.") from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise BackendFull("The disk for temporary files is full; nothing was stored.") from error
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            raise BackendUnavailable("Too many files are open now; nothing was stored.") from error
        raise UploadMalformed("The form broke off; nothing of it was kept. Please send it again.") from error
