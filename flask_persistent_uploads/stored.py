"""Values that apps and backends exchange: a stored file, and what a backend knows about a file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


class StoredFile(str):
    """The path of a stored file, ``uploads/<key>``: a plain ``str`` to every database driver and to JSON.

    :attr:`key`           its address in the backend
    :attr:`filename`      the client's name for it, cleaned, for display only
    :attr:`content_type`  the type that its bytes prove, or else the one that its extension claims
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
    """What a backend knows about a file.

    :attr:`size`     in bytes
    :attr:`modified` with a time zone
    :attr:`sha256`   of the content, 64 hex digits; ``None`` if the backend does not keep it
    """

    key: str
    size: int
    modified: datetime
    sha256: str | None = None
