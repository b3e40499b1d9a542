"""Checks keys and makes new ones.

A key is a file's address in a backend. It is the same on every backend and never changes. New keys are plain ASCII.
Older keys of any spelling that :func:`check` accepts stay valid, because databases hold them.
"""

from __future__ import annotations

import re
import secrets
import unicodedata

from .errors import InvalidKey

#: Names that begin with this are reserved for unfinished files and for what the extension keeps about a store.
RESERVED = ".uploads"

MAX_SEGMENT_BYTES = 255  # the longest file name on every common file system
MAX_KEY_BYTES = 960  # an S3 object name has at most 1024 bytes, of which 64 are left for the prefix

_SEGMENT = r"(?!\.{1,2}(?:/|\Z)|(?i:\.uploads))[^\x00-\x1f\x7f-\x9f\\/\ud800-\udfff]+"
_is_key = re.compile(f"{_SEGMENT}(?:/{_SEGMENT})*").fullmatch
_FOLDER = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
_EXTENSION = re.compile(r"[a-z0-9]{1,16}")


class _ReservedKey(str):
    """A reserved key that this package made. Text from outside is never one, and neither is a copy."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


def reserved_key(name: str) -> str:
    """Return the key under which the extension keeps something about a store. No path or URL can name it."""
    return _ReservedKey(f"{RESERVED}/{name}")


#: The key of the store's marker.
STORE_MARKER = reserved_key("store.json")


def check(key: str) -> str:
    """Return ``key`` unchanged, or raise ``InvalidKey``. Every method of every backend calls this first.

    Refuses an empty, ``.`` or ``..`` segment, a leading slash, a backslash, a control character, a reserved name, more
    than 255 bytes in a segment or 960 in all, and text that cannot be encoded as UTF-8.
    """
    if not _is_key(key):
        if isinstance(key, _ReservedKey):
            return key
        raise InvalidKey(
            f"{key!r} is not a key. It has an empty, '.', '..' or reserved segment, or a character that is not allowed."
        )
    if len(key) > MAX_SEGMENT_BYTES // 4:  # a character has at most 4 bytes in UTF-8
        _check_length(key)
    return key


def _check_length(key: str) -> None:
    data = key.encode()
    if len(data) > MAX_KEY_BYTES or max(map(len, data.split(b"/"))) > MAX_SEGMENT_BYTES:
        raise InvalidKey(
            f"A key has at most {MAX_KEY_BYTES} bytes, and {MAX_SEGMENT_BYTES} between two slashes. "
            f"This one has {len(data)}."
        )


def new(filename: str, *, folder: str = "", extension: str = "", prefix: str = "uploads") -> str:
    """Return a new key that nobody can guess: ``<folder>/<32 hex digits>-<slug of the filename>.<extension>``.

    It consists of ``a-z``, ``0-9``, ``.``, ``_``, ``-`` and ``/`` and has at most 200 characters, 40 of them for the
    slug. Raises ``InvalidKey`` if ``folder`` has other characters or more than 100 of them, if a folder does not begin
    with ``a-z`` or ``0-9``, and if ``folder`` begins with ``prefix``, because every path begins with that already.
    """
    if folder and (not _FOLDER.fullmatch(folder) or len(folder) > 100 or f"{folder}/".startswith(f"{prefix}/")):
        raise InvalidKey(
            f"{folder!r} is not a folder for new files.",
            remedy="Use a-z, 0-9, '.', '_', '-' and '/', at most 100 characters. "
            f"Begin each folder with a-z or 0-9, and leave out {prefix!r} at the start.",
        )
    stem, _, suffix = filename.rpartition(".")
    suffix = extension or (suffix.lower() if stem else "")
    if not _EXTENSION.fullmatch(suffix):
        stem, suffix = filename, ""
    plain = unicodedata.normalize("NFKD", stem or filename).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-")
    name = secrets.token_hex(16) + (f"-{slug}" if slug else "") + (f".{suffix}" if suffix else "")
    return f"{folder}/{name}" if folder else name
