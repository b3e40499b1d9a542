"""Files in a dictionary: for tests, and as the shortest example of a backend."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from datetime import datetime, timezone
from threading import Lock
from typing import IO

from .. import keys
from ..errors import FileExists, FileMissing, WrongLength
from ..stored import Stat
from .base import Backend
from .description import Description


class MemoryBackend(Backend):
    """Keeps files until the process ends."""

    name = "memory"
    description = Description(persists=False)

    def __init__(self) -> None:
        self._files: dict[str, tuple[Stat, bytes]] = {}
        self._lock = Lock()

    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        keys.check(key)
        data = stream.read()
        if len(data) != size:
            raise WrongLength(key, expected=size, found=len(data))
        sha256 = hashlib.sha256(data).hexdigest()
        with self._lock:
            if key in self._files and not overwrite:
                raise FileExists(key)
            self._files[key] = Stat(key, size, datetime.now(timezone.utc), sha256), data
        return sha256

    def open(self, key: str) -> IO[bytes]:
        try:
            return io.BytesIO(self._files[keys.check(key)][1])
        except KeyError:
            raise FileMissing(key) from None

    def stat(self, key: str) -> Stat | None:
        found = self._files.get(keys.check(key))
        return found[0] if found else None

    def delete(self, key: str) -> None:
        self._files.pop(keys.check(key), None)

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        for stat, _ in list(self._files.values()):
            if stat.key.startswith(prefix) and not stat.key.startswith(keys.RESERVED):
                yield stat
