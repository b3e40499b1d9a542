"""What the other rooms hand to each other: a file that was stored, and what a backend knows of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


class StoredFile(str):
    """The path of a stored file, ``uploads/<key>``: a plain ``str`` to every database driver and to JSON.

    :attr:`key`           its address in the backend
    :attr:`filename`      the client's name for it, cleaned for display
    :attr:`content_type`  what the content is, by its bytes where they tell, else by the extension
    :attr:`size`          in bytes
    :attr:`sha256`        of the content, 64 hex digits
    :attr:`url`           the app's own permanent link, ``/uploads/<key>``
    """

    key: str
    filename: str
    content_type: str
    size: int
    sha256: str
    url: str

    def __new__(
        cls, path: str, *, key: str, filename: str, content_type: str, size: int, sha256: str, url: str
    ) -> StoredFile:
        self = super().__new__(cls, path)
        self.key = key
        self.filename = filename
        self.content_type = content_type
        self.size = size
        self.sha256 = sha256
        self.url = url
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        return (str(self),), vars(self)


@dataclass(frozen=True, slots=True)
class Stat:
    """What a backend knows of a file. ``size`` in bytes, ``modified`` with its time zone.

    ``sha256`` (64 hex digits) where the backend keeps it; ``None`` says nothing about the content.
    """

    key: str
    size: int
    modified: datetime
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """A derived image: the original cropped to fill ``width`` times ``height`` pixels, in the format that suits."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave for a browser to store one file without passing through the app.

    It sends ``fields`` and then the file, in the field ``file``, as ``multipart/form-data`` by POST to ``url``.
    """

    url: str
    fields: Mapping[str, str] = field(repr=False)
