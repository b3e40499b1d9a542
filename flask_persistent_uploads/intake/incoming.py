"""Takes files from a request or from the app, checks them, and makes a job for a backend from each."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

from flask import Request
from werkzeug.datastructures import FileStorage

from .. import content_types, keys, parsers
from ..config import Settings
from ..errors import UploadMalformed
from . import validation
from .batch import Job
from .multipart import StrictRequest

_PIECE = 1 << 20  # bytes that are read at a time


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file to store. ``field`` is the form field that it came in; empty for a file that the app passes."""

    stream: IO[bytes]
    filename: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """The arguments of one call of ``save_uploads``, with the settings as defaults.

    :attr:`folder`    the folder of the new keys
    :attr:`types`     the allowed types; if empty, every type is allowed
    :attr:`max_size`  the largest size of one file, in bytes
    """

    folder: str
    types: Sequence[str]
    max_size: int

    @classmethod
    def of_call(
        cls, settings: Settings, *, folder: str, allow: str | Sequence[str] | None, max_size: int | str | None
    ) -> Limits:
        """Read the arguments of a call. Raises a ``ValueError`` that names the wrong argument."""
        return cls(folder, _types(settings, allow), _max_size(settings, max_size))


def from_request(request: Request, fields: str | Iterable[str] | None) -> list[Incoming]:
    """Return the files of a request in these form fields, or in all of them. Leave out fields without a chosen file.

    Raises ``UploadMalformed`` for a file without a name.
    """
    if not isinstance(request, StrictRequest):
        raise RuntimeError("app.request_class was replaced after init_app. Set it before init_app.")  # noqa: TRY004
    wanted: Collection[str] = {fields} if isinstance(fields, str) else set(fields or ())
    return [
        Incoming(file.stream, file.filename or "", field)
        for field, file in request.files.items(multi=True)
        if (not wanted or field in wanted) and _is_chosen(file, field)
    ]


@contextmanager
def seekable(file: IO[bytes] | bytes | FileStorage, filename: str | None, max_size: int) -> Iterator[Incoming]:
    """Yield a file that the app passes, with a stream that can be read twice.

    A stream that is not seekable is copied to a temporary file, up to one byte more than ``max_size``: enough to refuse
    a larger file.
    """
    if isinstance(file, FileStorage):
        stream, filename = file.stream, filename or file.filename
    else:
        stream = io.BytesIO(file) if isinstance(file, bytes) else file
    if getattr(stream, "seekable", lambda: True)():
        yield Incoming(stream, filename or "")
        return
    with TemporaryFile() as copy:
        left = max_size + 1
        while left > 0 and (piece := stream.read(min(left, _PIECE))):
            left -= copy.write(piece)
        yield Incoming(copy, filename or "")


def jobs(files: Sequence[Incoming], settings: Settings, limits: Limits) -> list[Job]:
    """Check every file and choose its key.

    Raises ``UploadTooLarge`` or ``TypeNotAllowed``, and ``InvalidKey`` for a folder that is not valid.
    """
    if len(files) > settings.max_files:
        raise validation.too_many(settings.max_files)
    return [_job(file, settings, limits) for file in files]


def _job(file: Incoming, settings: Settings, limits: Limits) -> Job:
    field = file.field or None
    inspected = validation.inspect(
        file.stream, file.filename, allow=limits.types, max_size=limits.max_size, field=field
    )
    key = keys.new(inspected.filename, folder=limits.folder, extension=inspected.extension, prefix=settings.prefix)
    inline = inspected.content_type in content_types.INLINE
    return Job(key, file.stream, inspected, inspected.content_type if inline else content_types.UNKNOWN, field)


def _is_chosen(file: FileStorage, field: str) -> bool:
    """Return whether the user chose a file. If not, browsers send an empty part with an empty filename."""
    if file.stream.closed:
        raise ValueError(f"The file in {field!r} was closed before it was saved. Close it afterwards.")
    if file.filename:
        return True
    file.stream.seek(0)
    if file.stream.read(1):
        raise UploadMalformed(f"The file in '{field}' has no name.", field=field)
    return False


def _types(settings: Settings, allow: str | Sequence[str] | None) -> Sequence[str]:
    if allow is None:
        return settings.allow
    try:
        types = parsers.allow_list(allow)
    except ValueError as error:
        raise ValueError(f"allow is {allow!r}. Use {error}.") from None
    if not types:
        raise ValueError("allow is empty. Name the types that are allowed, or leave it out to use the setting.")
    return types


def _max_size(settings: Settings, max_size: int | str | None) -> int:
    if max_size is None:
        return settings.max_size
    try:
        limit = parsers.size(max_size)
    except ValueError as error:
        raise ValueError(f"max_size is {max_size!r}. Use {error}.") from None
    if limit > settings.max_size:
        name = settings.variable("max_size")
        raise ValueError(f"max_size is {max_size!r}, which is above {name}, the limit for every form. Raise {name}.")
    return limit
