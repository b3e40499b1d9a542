"""Checks a file before it is stored: its size, its type, and whether both are allowed.

The ``Content-Type`` that the client sends with a part is never used.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import puremagic

from .. import content_types
from ..errors import TypeNotAllowed, UploadTooLarge
from ..text import format_bytes

_MAX_NAME = 255  # bytes
_HEAD = 4096  # bytes that are read to detect the type

# Types that the first bytes of a file prove, each with the extension for new keys. If the bytes match several types,
# the first one here counts: an AVIF is an MP4 container too. A ZIP container proves nothing: a DOCX is one as well.
_PROVEN = {
    "image/avif": "avif",
    "image/heic": "heic",
    "image/heif": "heif",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/tiff": "tif",
    "application/pdf": "pdf",
    "video/x-matroska": "mkv",
    "video/webm": "webm",
    "video/quicktime": "mov",
    "audio/mp4": "m4a",
    "video/mp4": "mp4",
    "audio/ogg": "ogg",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
}
# Other names that puremagic uses for these types.
_ALIASES = {"audio/x-wav": "audio/wav", "audio/wave": "audio/wav", "application/ogg": "audio/ogg"}
# Two kinds of container name their content in four bytes. puremagic knows only some of these names.
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"heim": "image/heic",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
_MP4_BRANDS = (b"iso", b"mp4", b"3gp", b"avc", b"dash", b"M4V", b"MSNV", b"mmp4", b"f4v", b"F4V")
# The first bytes of the remaining provable types. puremagic takes 0.2 ms, so it is called only for these.
_FIRST_BYTES = {b"\xff", b"\x89", b"G", b"I", b"M", b"%", b"\x1a", b"O"}
# Types whose bytes may look the same. The extension decides between them.
_INTERCHANGEABLE = ({"video/mp4", "audio/mp4", "video/quicktime"}, {"image/heic", "image/heif"})


@dataclass(frozen=True, slots=True)
class Inspected:
    """A file that may be stored. ``extension`` is the one for its new key, without a dot; it may be empty."""

    filename: str
    content_type: str
    extension: str
    size: int


def inspect(
    stream: IO[bytes], filename: str, *, allow: Sequence[str] = (), max_size: int, field: str | None = None
) -> Inspected:
    """Check a file and leave the stream at its start.

    ``allow`` holds types such as ``image/*``, ``application/pdf`` and ``.csv``; if it is empty, every type is allowed.
    The wildcards for image, audio and video match only what the bytes prove. Raises ``UploadTooLarge`` or
    ``TypeNotAllowed``.
    """
    name = display_name(filename)
    size = stream.seek(0, io.SEEK_END) or stream.tell()  # before Python 3.11, SpooledTemporaryFile.seek returns None
    stream.seek(0)
    if size > max_size:
        raise too_large(name, max_size, field)
    proven = sniff(stream.read(_HEAD))
    stream.seek(0)
    content_type, extension = _resolve_type(name, proven)
    if allow and not any(_matches(pattern, content_type, proven, name) for pattern in allow):
        message = f"The type of '{name}' is not allowed. Allowed types: {', '.join(allow)}."
        raise TypeNotAllowed(message, field=field, filename=name)
    return Inspected(name, content_type, extension, size)


def too_large(name: str, max_size: int, field: str | None) -> UploadTooLarge:
    """Return the error for a file of more than ``max_size`` bytes."""
    message = f"'{name}' is too large. A file may have at most {format_bytes(max_size)}."
    return UploadTooLarge(message, field=field, filename=name)


def too_many(max_files: int) -> UploadTooLarge:
    """Return the error for a form with more than ``max_files`` files."""
    return UploadTooLarge(f"There are too many files. At most {max_files} are allowed at once.")


def sniff(head: bytes) -> str | None:
    """Return the content type that the first bytes prove, or ``None``."""
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _type_of_brand(head[8 : max(12, int.from_bytes(head[:4], "big"))])
    if _is_mp3_frame(head):
        return "audio/mpeg"
    if head[:1] not in _FIRST_BYTES:
        return None
    try:
        found = {match.mime_type for match in puremagic.magic_string(head)}
    except puremagic.PureError:
        return None
    found |= {_ALIASES[name] for name in found & _ALIASES.keys()}
    return next((name for name in _PROVEN if name in found), None)


def _type_of_brand(brands: bytes) -> str | None:
    """Return the type of an ISO base media file (ISO/IEC 14496-12, section 4.3).

    The major brand decides. If it is a general one for pictures, the compatible brands decide.
    """
    names = [brands[:4], *(brands[at : at + 4] for at in range(8, len(brands) - 3, 4))]
    if names[0] in {b"mif1", b"msf1"}:
        return next((_BRANDS[name] for name in names[1:] if name in _BRANDS), "image/heif")
    if names[0] in _BRANDS:
        return _BRANDS[names[0]]
    return "video/mp4" if names[0].startswith(_MP4_BRANDS) else None


def _is_mp3_frame(head: bytes) -> bool:
    """Return whether this is a frame of MPEG audio, layer III, without an ID3 tag (ISO 11172-3, section 2.4.1.3)."""
    return (
        len(head) > 2
        and head[0] == 0xFF
        and head[1] & 0xE6 == 0xE2
        and head[2] & 0xF0 != 0xF0
        and head[2] & 0x0C != 0x0C
    )


def _resolve_type(name: str, proven: str | None) -> tuple[str, str]:
    """Return the content type and the extension, from what the bytes prove and what the name claims.

    The bytes correct a name that claims another provable type (a PNG called photo.jpg) or no type (a camera's "blob").
    If the name claims a provable type but the bytes prove none, or if the bytes contradict a type that cannot be proven
    (a PNG called page.html), the type is unknown.
    """
    claimed, extension = content_types.of_name(name), content_types.extension(name)
    if not re.fullmatch(r"[a-z0-9]{1,16}", extension):
        extension = ""
    if proven is None:
        return (content_types.UNKNOWN if claimed in _PROVEN else claimed), extension
    if proven == claimed or any({proven, claimed} <= types for types in _INTERCHANGEABLE):
        return claimed, extension
    if claimed in _PROVEN or claimed == content_types.UNKNOWN:
        return proven, _PROVEN[proven]
    return content_types.UNKNOWN, extension


def _matches(pattern: str, content_type: str, proven: str | None, name: str) -> bool:
    if pattern.startswith("."):
        claimed = content_types.BY_EXTENSION.get(pattern[1:], content_types.UNKNOWN)
        return content_types.extension(name) == pattern[1:] and content_type == claimed
    kind, _, subtype = pattern.partition("/")
    if subtype != "*":
        return pattern == content_type
    if kind in {"image", "audio", "video"} and proven is None:
        return False
    return content_type.startswith(f"{kind}/")


def display_name(filename: str) -> str:
    """Return the client's filename without folders, control and invisible characters, cut to 255 bytes.

    It is for display only.
    """
    last = filename.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} else " " for c in last)
    name = " ".join(unicodedata.normalize("NFC", kept).split())
    if len(name.encode()) <= _MAX_NAME:
        return name
    stem, dot, suffix = name.rpartition(".")
    end = dot + suffix if stem and len(suffix.encode()) <= 16 else ""
    return name.encode()[: _MAX_NAME - len(end.encode())].decode(errors="ignore") + end
