"""Names for services that would rewrite or refuse a key: other signs, one to one, and back again.

Cloudinary forbids some signs and turns others into ``_``; ImageKit keeps only letters, digits, ``.``, ``_`` and ``-``.
Either way two keys would end as one file. So every other byte becomes ``_`` and two hex digits, as ``%20`` is in a
URL: ``a/EVENT 3.webp`` is named ``a/EVENT_203.webp``. New keys hardly change, and no two keys have the same name.

These rules are for ever: files that were saved under them are found by them.
"""

from __future__ import annotations

import re

from ..errors import InvalidKey

_OTHER_SIGN = re.compile(rb"[^A-Za-z0-9/-]")
_VERSION_FOLDER = re.compile(r"(?:(?<=/)|\A)v(?=\d+/)")  # Cloudinary reads it as a version of the file
_EXTENSION = re.compile(r"(.*[^/])\.([A-Za-z0-9]{1,16})", re.DOTALL)
_is_name = re.compile(r"(?:[A-Za-z0-9/.-]|_[0-9a-f]{2})+").fullmatch


def escape(key: str, *, extension: bool) -> str:
    """The name of a key: ``[A-Za-z0-9/_-]``, and the one dot before its ``extension`` where that is to stay."""
    if extension and (found := _EXTENSION.fullmatch(key)):
        return f"{_escape(found[1])}.{found[2]}"
    return _escape(key)


def unescape(name: str) -> str:
    """The key that has this name; raises ``InvalidKey`` for what is no name of a key."""
    if not _is_name(name):
        raise InvalidKey(f"{name!r} is not the name of a key.")
    try:
        return re.sub(rb"_(..)", lambda found: bytes.fromhex(found[1].decode()), name.encode()).decode()
    except UnicodeDecodeError as error:
        raise InvalidKey(f"{name!r} is not the name of a key.") from error


def _escape(text: str) -> str:
    name = _OTHER_SIGN.sub(lambda found: b"_%02x" % found[0][0], text.encode()).decode()
    return _VERSION_FOLDER.sub("_76", name)
