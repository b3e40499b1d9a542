"""Makes reversible names for services that would rewrite or refuse a key.

Cloudinary forbids some characters and turns others into ``_``. ImageKit keeps only letters, digits, ``.``, ``_`` and
``-``. In both, two keys could become one file. So every other byte is written as ``_`` and two hex digits, like ``%20``
in a URL: ``a/EVENT 3.webp`` is named ``a/EVENT_203.webp``. New keys hardly change, and no two keys have the same name.

Never change these rules: stored files are found by the names that the rules gave them.
"""

from __future__ import annotations

import re

from ..errors import InvalidKey

_ESCAPED = re.compile(rb"[^A-Za-z0-9/-]")
_VERSION_FOLDER = re.compile(r"(?:(?<=/)|\A)v(?=\d+/)")  # Cloudinary reads such a folder as the version of a file
_EXTENSION = re.compile(r"(.*[^/])\.([A-Za-z0-9]{1,16})", re.DOTALL)
_is_name = re.compile(r"(?:[A-Za-z0-9/.-]|_[0-9a-f]{2})+").fullmatch


def escape(key: str, *, extension: bool) -> str:
    """Return the name of a key. It consists of ``[A-Za-z0-9/_-]``.

    With ``extension``, the name also keeps the dot before the key's extension.
    """
    if extension and (found := _EXTENSION.fullmatch(key)):
        return f"{_escape(found[1])}.{found[2]}"
    return _escape(key)


def unescape(name: str) -> str:
    """Return the key that has this name. Raises ``InvalidKey`` if no key has it."""
    if not _is_name(name):
        raise InvalidKey(f"{name!r} is not the name of a key.")
    try:
        return re.sub(rb"_(..)", lambda found: bytes.fromhex(found[1].decode()), name.encode()).decode()
    except UnicodeDecodeError as error:
        raise InvalidKey(f"{name!r} is not the name of a key.") from error


def _escape(text: str) -> str:
    name = _ESCAPED.sub(lambda found: b"_%02x" % found[0][0], text.encode()).decode()
    return _VERSION_FOLDER.sub("_76", name)
