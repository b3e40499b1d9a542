"""What is known of a file before it is stored: its size, its type, and whether both are allowed.

The client's own word, the ``Content-Type`` of the part, is never asked.
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

_LONGEST_NAME = 255  # bytes
_HEAD = 4096  # bytes that the type is told by

# Types that their first bytes prove, each with the extension of its new keys. Where more than one is recognised the
# earlier counts: an AVIF is an MP4 container too. A container such as ZIP proves nothing, a DOCX is one as well.
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
_SAME = {"audio/x-wav": "audio/wav", "audio/wave": "audio/wav", "application/ogg": "audio/ogg"}
# Two containers say by a name of four bytes what they hold, which the library knows in part.
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
# What the other provable types begin with: to ask the library costs 0.2 ms, which most files need not pay.
_FIRST_BYTES = {b"\xff", b"\x89", b"G", b"I", b"M", b"%", b"\x1a", b"O"}
_ALIKE = ({"video/mp4", "audio/mp4", "video/quicktime"}, {"image/heic", "image/heif"})


@dataclass(frozen=True, slots=True)
class Inspected:
    """A file that may be stored. ``extension`` is the one for its new key, without a dot, empty for none."""

    filename: str
    content_type: str
    extension: str
    size: int


def inspect(
    stream: IO[bytes], filename: str, *, allow: Sequence[str] = (), max_size: int, field: str | None = None
) -> Inspected:
    """Look at a file and leave the stream at its start.

    ``allow``: types such as ``image/*``, ``application/pdf``, ``.csv``; none means any. A wildcard of image, audio or
    video matches only what the bytes prove. Raises :class:`UploadTooLarge` or :class:`TypeNotAllowed`.
    """
    name = display_name(filename)
    size = stream.seek(0, io.SEEK_END) or stream.tell()
    stream.seek(0)
    if size > max_size:
        raise UploadTooLarge(
            f"'{name}' is too large; at most {human_size(max_size)} a file are allowed.", field=field, filename=name
        )
    proven = sniff(stream.read(_HEAD))
    stream.seek(0)
    content_type, extension = _agreed(name, proven)
    if allow and not any(_matches(pattern, content_type, proven, name) for pattern in allow):
        raise TypeNotAllowed(
            f"'{name}' is not of a type that is allowed here: {', '.join(allow)}.", field=field, filename=name
        )
    return Inspected(name, content_type, extension, size)


def sniff(head: bytes) -> str | None:
    """The content type that the first bytes prove, or ``None``."""
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
    found |= {_SAME[name] for name in found & _SAME.keys()}
    return next((name for name in _PROVEN if name in found), None)


def _type_of_brand(brands: bytes) -> str | None:
    """What an ISO base media file is, by its major brand, or for a general one by those it is compatible with."""
    names = [brands[:4], *(brands[at : at + 4] for at in range(8, len(brands) - 3, 4))]
    if names[0] in {b"mif1", b"msf1"}:
        return next((_BRANDS[name] for name in names[1:] if name in _BRANDS), "image/heif")
    if names[0] in _BRANDS:
        return _BRANDS[names[0]]
    return "video/mp4" if names[0].startswith(_MP4_BRANDS) else None


def _is_mp3_frame(head: bytes) -> bool:
    """A frame of MPEG audio, layer III, without a tag before it (ISO 11172-3, section 2.4.1.3)."""
    return (
        len(head) > 2
        and head[0] == 0xFF
        and head[1] & 0xE6 == 0xE2
        and head[2] & 0xF0 != 0xF0
        and head[2] & 0x0C != 0x0C
    )


def _agreed(name: str, proven: str | None) -> tuple[str, str]:
    """Content type and extension, of what the bytes prove and what the name claims.

    A name is corrected where it claims another provable type (a PNG called photo.jpg) or none (a camera's "blob"). A
    claim that could have been proven and was not leaves the type unknown.
    """
    claimed, extension = content_types.of_name(name), content_types.extension(name)
    if not re.fullmatch(r"[a-z0-9]{1,16}", extension):
        extension = ""
    if proven is None:
        return (content_types.UNKNOWN if claimed in _PROVEN else claimed), extension
    if proven == claimed or any({proven, claimed} <= alike for alike in _ALIKE):
        return claimed, extension
    if claimed in _PROVEN or claimed == content_types.UNKNOWN:
        return proven, _PROVEN[proven]
    return content_types.UNKNOWN, extension


def _matches(pattern: str, content_type: str, proven: str | None, name: str) -> bool:
    if pattern.startswith("."):
        claimed = content_types.BY_EXTENSION.get(pattern[1:], content_types.UNKNOWN)
        return content_types.extension(name) == pattern[1:] and content_type == claimed
    kind, _, wildcard = pattern.partition("/")
    if wildcard != "*":
        return pattern == content_type
    known = proven and content_type if kind in {"image", "audio", "video"} else content_type
    return bool(known) and str(known).startswith(f"{kind}/")


def display_name(filename: str) -> str:
    """The client's name without folders, control and invisible characters, at most 255 bytes; for display only."""
    last = filename.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} else " " for c in last)
    name = " ".join(unicodedata.normalize("NFC", kept).split())
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    stem, dot, suffix = name.rpartition(".")
    end = dot + suffix if stem and len(suffix.encode()) <= 16 else ""
    return name.encode()[: _LONGEST_NAME - len(end.encode())].decode(errors="ignore") + end


def human_size(size: int) -> str:
    """``10 MB`` for 10 000 000 bytes."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size} bytes"
