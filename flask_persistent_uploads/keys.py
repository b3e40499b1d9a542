"""Keys: which exist, how new ones are made, and how any spelling of a path leads to one.

A key is a file's address in a backend: the same on every backend, for ever. New keys are plain ASCII; keys of any
spelling that the grammar of :func:`check` lets through stay valid, because databases hold them.
"""

from __future__ import annotations

import json
import re
import secrets
import unicodedata
from urllib.parse import unquote, urlsplit

from .errors import InvalidKey

#: Names that begin so belong to us: unfinished files, and what we keep about a store.
RESERVED = ".uploads"

MAX_SEGMENT_BYTES = 255  # of a file name on every common file system
_LONGEST_REFERENCE = 8192
MAX_KEY_BYTES = 960  # an S3 object name has 1024 bytes, of which we leave 64 to the prefix

_SEGMENT = r"(?!\.{1,2}(?:/|\Z)|(?i:\.uploads))[^\x00-\x1f\x7f-\x9f\\/\ud800-\udfff]+"
_is_key = re.compile(f"{_SEGMENT}(?:/{_SEGMENT})*").fullmatch
_FOLDER = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
_EXTENSION = re.compile(r"[a-z0-9]{1,16}")
_QUERY = re.compile(r"\?[A-Za-z0-9_-]+=[A-Za-z0-9_%&=+-]*$")  # a cache buster, ?t=1700000000


class _Own(str):
    """A reserved key that we made ourselves: no text that comes from outside is one, nor a copy."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


def own(name: str) -> str:
    """The key of what we keep about a store ourselves: :func:`check` lets it through, and nobody else can name it."""
    return _Own(f"{RESERVED}/{name}")


def check(key: str) -> str:
    """Return ``key`` as it is, or raise :class:`InvalidKey`. Every method of every backend calls this first.

    Refused: an empty, ``.`` or ``..`` segment, a leading slash, a backslash, a control character, a name that is
    reserved for us, more than 255 bytes in a segment or 960 in all, and what is not UTF-8.
    """
    if not _is_key(key):
        if isinstance(key, _Own):
            return key
        raise InvalidKey(f"{key!r} is not a key: it has an empty, dotted or reserved segment, or a forbidden sign.")
    if len(key) > MAX_SEGMENT_BYTES // 4:
        _check_length(key)
    return key


def _check_length(key: str) -> None:
    data = key.encode()
    if len(data) > MAX_KEY_BYTES or max(map(len, data.split(b"/"))) > MAX_SEGMENT_BYTES:
        raise InvalidKey(
            f"A key has at most {MAX_KEY_BYTES} bytes, {MAX_SEGMENT_BYTES} between two slashes; this has {len(data)}."
        )


def new(filename: str, *, folder: str = "", extension: str = "", prefix: str = "uploads") -> str:
    """A new key that nobody can guess: ``<folder>/<32 hex digits>-<slug of filename, at most 40>.<extension>``.

    All of it is ``[a-z0-9._-]``, at most 200 characters. Raises :class:`InvalidKey` for a ``folder`` of other signs,
    and for one that begins with ``prefix``, which the path begins with anyhow.
    """
    if folder and (not _FOLDER.fullmatch(folder) or len(folder) > 100 or f"{folder}/".startswith(f"{prefix}/")):
        raise InvalidKey(
            f"{folder!r} is no folder for new files: use a-z, 0-9, '.', '_', '-' and '/', at most 100, "
            f"and do not begin with {prefix!r}."
        )
    stem, _, suffix = filename.rpartition(".")
    suffix = extension or (suffix.lower() if stem else "")
    if not _EXTENSION.fullmatch(suffix):
        stem, suffix = filename, ""
    plain = unicodedata.normalize("NFKD", stem or filename).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-")
    name = secrets.token_hex(16) + (f"-{slug}" if slug else "") + (f".{suffix}" if suffix else "")
    return f"{folder}/{name}" if folder else name


def parse_one(reference: str, *, prefix: str = "uploads", url_prefix: str = "/uploads") -> str:
    """The key that a single path means, in any spelling that a database or a URL may hold.

    ``uploads/x``, ``uploads\\x``, ``/uploads/x?t=1``, ``uploads/uploads/x``, ``https://any.host/uploads/x`` and the
    bare key ``x`` all name the same file. What begins with a slash or a scheme is a URL and percent-decoded; the rest
    is taken as it stands. Raises :class:`InvalidKey`.
    """
    if len(reference) > _LONGEST_REFERENCE:
        raise InvalidKey(f"A path has at most {_LONGEST_REFERENCE} characters; this has {len(reference)}.")
    text = reference.replace("\\", "/")
    if text.startswith("/") or "://" in text:
        text = _end_of_url(text, (f"{url_prefix}/", f"/{prefix}/"))
    elif "?" in text:
        text = _QUERY.sub("", text)
    start = f"{prefix}/"
    while text.startswith(start):
        text = text[len(start) :]
    return check(text)


def _end_of_url(url: str, starts: tuple[str, str]) -> str:
    """What follows the first of ``starts`` that is in the path of a URL, decoded."""
    try:
        path = unquote(urlsplit(url).path, errors="strict").replace("\\", "/")
    except ValueError as error:
        raise InvalidKey("This URL cannot be read.") from error
    found = [(path.index(start), start) for start in starts if start in path]
    if found:
        at, start = min(found)
        return path[at + len(start) :]
    raise InvalidKey(f"This URL has no {starts[0]} in its path, so it names no upload.")


def parse(reference: str, *, prefix: str = "uploads", url_prefix: str = "/uploads") -> list[str]:
    """All keys that a column's value names: one path, a comma-joined list, or a JSON list; ``[]`` for an empty one.

    A comma separates only where another path begins behind it, so that names with commas stay whole. Raises
    :class:`InvalidKey`.
    """
    text = reference.strip()
    if text.startswith("["):
        try:
            parts = json.loads(text)
        except (ValueError, RecursionError):
            parts = [text]
    else:
        begins = "|".join(re.escape(start) for start in (f"{prefix}/", f"{prefix}\\", f"{url_prefix}/"))
        parts = re.split(rf",(?=\s*(?:{begins}|https?://|$))", text)
    if not all(isinstance(part, str) or part is None for part in parts):
        raise InvalidKey("This list holds other things than paths.")
    stripped = (part.strip() for part in parts if part)
    return [parse_one(part, prefix=prefix, url_prefix=url_prefix) for part in stripped if part]
