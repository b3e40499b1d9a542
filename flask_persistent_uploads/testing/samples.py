"""Keys, contents and streams for tests of backends."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

from .. import content_types

#: Keys found in the databases of older apps. Every backend accepts them unchanged.
ODD_KEYS = (
    "3b53b755-9895-4761-a52c-a521a9d7ec7aEVENT 3.webp",
    "🧩 CHAPTER 01_ (1).pdf",
    "a+b&c=d.png",
    "100% of it.png",
    "what?.png",
    "one, two.png",
    "it's (2) #1 [x] ~ !.png",
    "ÄÖÜ/日本語/e\u0301.txt",
    "no-extension",
    "...",
    "x" * 255,
    "a_20b.png",
    "a b.png",
    "two.png",
    "two.webp",
    "v1/two",
)

#: Keys that differ only in what many services decode, fold or drop. Each names a file of its own.
SIMILAR_KEYS = (
    "a b.png",
    "a+b.png",
    "a%20b.png",
    "a_20b.png",
    "A b.png",
    "two",
    "two.png",
    "two.webp",
    "v1/two",
    "\u00e9.txt",
    "e\u0301.txt",
)

#: Invalid keys. Every method raises ``InvalidKey`` for them.
NOT_KEYS = (
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/./b",
    "../a",
    "a/../b",
    "a\\b",
    "a\0b",
    "a\nb",
    ".uploads/x",
    "x" * 256,
)

# The smallest valid files of their types, because some services inspect what they receive.
_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=="
)
_WEBP = base64.b64decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
_BEGINNINGS = {"png": _PNG, "webp": _WEBP, "pdf": b"%PDF-1.7\n"}


def sample(key: str) -> bytes:
    """Return content that matches the extension of ``key`` and differs from that of every other key."""
    return _BEGINNINGS.get(content_types.extension(key), b"") + key.encode()


class BrokenStream(io.BytesIO):
    """A stream that raises ``RuntimeError`` when it is read beyond its first ``limit`` bytes."""

    def __init__(self, content: bytes, *, limit: int) -> None:
        super().__init__(content)
        self._limit = limit

    def read(self, size: int | None = -1) -> bytes:
        left = self._limit - self.tell()
        if size is None or size < 0 or left <= 0:
            raise RuntimeError("the stream broke")
        return super().read(min(size, left))


class ShortStream(io.BytesIO):
    """A stream that returns at most 1,000 bytes for each sized read, as a socket may."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size if size is None or size < 0 else min(size, 1000))


class ObservedStream(io.BytesIO):
    """A stream that records what ``look`` returns each time it is read."""

    def __init__(self, content: bytes, look: Callable[[], object]) -> None:
        super().__init__(content)
        self.seen: list[object] = []
        self._look = look

    def read(self, size: int | None = -1) -> bytes:
        self.seen.append(self._look())
        return super().read(size)
