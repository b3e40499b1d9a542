"""Reads references, the spellings of a path that a database or a URL may hold, and returns the keys that they name."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from .errors import InvalidKey
from .keys import check
from .text import parse_json

_MAX_LENGTH = 8192
_QUERY = re.compile(r"\?[A-Za-z0-9_-]+=[A-Za-z0-9_%&=+-]*$")  # a cache buster, ?t=1700000000


def parse_one(reference: str, *, prefix: str = "uploads", url_prefix: str = "/uploads") -> str:
    """Return the key that a single reference names. Raises ``InvalidKey``.

    ``uploads/x``, ``uploads\\x``, ``/uploads/x?t=1``, ``uploads/uploads/x``, ``https://any.host/uploads/x`` and the
    bare key ``x`` all name the same file. Text that begins with a slash or has a scheme is a URL, which is
    percent-decoded. Any other text is taken literally.
    """
    if len(reference) > _MAX_LENGTH:
        raise InvalidKey(f"A path has at most {_MAX_LENGTH} characters. This one has {len(reference)}.")
    text = reference.replace("\\", "/")
    if text.startswith("/") or "://" in text:
        text = _end_of_url(text, (f"{url_prefix}/", f"/{prefix}/"))
    elif "?" in text:
        text = _QUERY.sub("", text)
    start = f"{prefix}/"
    while text.startswith(start):
        text = text[len(start) :]
    return check(text)


def parse(reference: str | None, *, prefix: str = "uploads", url_prefix: str = "/uploads") -> list[str]:
    """Return every key that the value of a column names: one path, a comma-joined list, or a JSON list.

    The list is empty for ``None`` and for an empty value. A comma separates two paths only if a path begins after it,
    so that names with commas stay whole. Raises ``InvalidKey``.
    """
    text = (reference or "").strip()
    if text.startswith("["):
        try:
            parts = parse_json(text)
        except ValueError:
            parts = [text]
    else:
        begins = "|".join(re.escape(start) for start in (f"{prefix}/", f"{prefix}\\", f"{url_prefix}/"))
        parts = re.split(rf",(?=\s*(?:{begins}|https?://|$))", text)
    if not all(isinstance(part, str) or part is None for part in parts):
        raise InvalidKey("This list holds values that are not paths.")
    stripped = (part.strip() for part in parts if part)
    return [parse_one(part, prefix=prefix, url_prefix=url_prefix) for part in stripped if part]


def _end_of_url(url: str, starts: tuple[str, str]) -> str:
    """Return what follows the first of ``starts`` in the path of a URL, decoded."""
    try:
        path = unquote(urlsplit(url).path, errors="strict").replace("\\", "/")
    except ValueError as error:
        raise InvalidKey("This URL cannot be read.") from error
    found = [(path.index(start), start) for start in starts if start in path]
    if not found:
        raise InvalidKey(f"This URL names no upload: its path does not contain {starts[0]}.")
    at, start = min(found)
    return path[at + len(start) :]
