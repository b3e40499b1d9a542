"""The parsers of settings. Each reads one value, or raises ``ValueError`` with a phrase that completes "Set X to …"."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}

Parser = Callable[[object], Any]


class Secret:
    """A value that only :meth:`reveal` shows. ``repr``, ``str``, formatting and logging do not."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('…')"

    def __reduce__(self) -> str:
        raise TypeError("A Secret cannot be pickled.")


def text(raw: object) -> str:
    return str(raw).strip()


def secret(raw: object) -> Secret:
    return Secret(text(raw))


def size(raw: object) -> int:
    """Read a size in bytes: a number, or one with a unit, such as ``10MB`` (10,000,000), ``500kB`` or ``16MiB``."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmg]i?)?b?", text(raw).lower())
    value = int(float(found[1]) * _UNITS[found[2] or ""]) if found else 0
    if value < 1:
        raise ValueError("a size such as 10MB, 500kB or a number of bytes")
    return value


def boolean(raw: object) -> bool:
    lowered = text(raw).lower()
    if lowered in {"1", "true", "yes", "on"}:
        return True
    if lowered in {"0", "false", "no", "off"}:
        return False
    raise ValueError("true or false")


def folder(raw: object) -> str:
    if "://" in str(raw):
        raise ValueError("a folder, not a URL")
    # The surrogates that are allowed stand for bytes that are not UTF-8 (PEP 383).
    if re.search(r"[\x00-\x1f\x7f\ud800-\udc7f\udd00-\udfff]", text(raw)):
        raise ValueError("a folder without control characters")
    try:
        return str(Path(text(raw)).expanduser())
    except RuntimeError:
        raise ValueError("a folder without '~': the home folder of this user is unknown") from None


def web_address(raw: object) -> str:
    """Read an http(s) URL without its trailing slash. No message repeats it, because it may hold a password."""
    address = re.sub(r"\s", " ", str(raw)).strip().rstrip("/")
    try:
        parts = urlsplit(address)
        port_is_valid = parts.port != 0  # raises ValueError if the port is not a number
    except ValueError:
        raise ValueError("a URL such as https://files.example.com") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL without user and password, which have variables of their own")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_valid or " " in address:
        raise ValueError("a URL that begins with https:// or http://, such as https://files.example.com")
    if parts.query or parts.fragment:
        raise ValueError("a URL without '?' and '#'")
    # Signatures cover the host, so write it as browsers send it: in lower case, without the default port.
    host = parts.netloc.lower().removesuffix({"https": ":443", "http": ":80"}[parts.scheme])
    return f"{parts.scheme}://{host}{parts.path}"


def matching(pattern: str, expected: str) -> Parser:
    """Return a parser for text that ``pattern`` matches as a whole; ``expected`` is the phrase of its error."""

    def parse(raw: object) -> str:
        if not re.fullmatch(pattern, text(raw)):
            raise ValueError(expected)
        return text(raw)

    return parse


def between(low: int, high: int, unit: str) -> Parser:
    """Return a parser for a whole number from ``low`` to ``high``."""

    def parse(raw: object) -> int:
        if not re.fullmatch(r"\d{1,9}", text(raw)) or not low <= int(text(raw)) <= high:
            raise ValueError(f"a whole number of {unit} from {low} to {high}")
        return int(text(raw))

    return parse


def prefix(raw: object) -> str:
    name = text(raw).strip("/")
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*", name) or len(name) > 63:
        raise ValueError("a name such as uploads or media/files: letters, digits, '.', '_' and '-', at most 63")
    return name


def url_prefix(raw: object) -> str:
    return f"/{prefix(raw)}"


def allow_list(raw: object) -> tuple[str, ...]:
    """Read types such as ``image/*``, ``application/pdf`` and ``.csv``: a list, or one text with commas."""
    items = raw.split(",") if isinstance(raw, str) else raw
    if isinstance(items, (list, tuple, set, frozenset)):
        allowed = tuple(str(item).strip().lower() for item in items if str(item).strip())
        if all(re.fullmatch(r"\.[a-z0-9]+|[a-z]+/(\*|[a-z0-9.+-]+)", item) for item in allowed):
            return allowed
    raise ValueError("types such as image/*, application/pdf or .csv, separated by commas")


def s3_or_local(raw: object) -> str:
    return "s3" if boolean(raw) else "local"
