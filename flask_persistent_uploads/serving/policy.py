"""Decides under which name and headers a file is served. Any type may be stored; browsers show only safe ones."""

from __future__ import annotations

import re

from .. import content_types

#: Sent with every file that the app sends itself.
SECURITY_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; sandbox"),
)

# The random part of a name: 32 hex digits in new keys, a UUID in keys of older apps.
_RANDOM = re.compile(r"[0-9a-f]{32}-?|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}[-_]?")


def download_name(key: str) -> str | None:
    """Return the name under which the browser saves the file; ``None`` if the browser shows it.

    The name is what follows the random part in the last segment of the key: the client's own name for the file.
    """
    if content_types.of_name(key) in content_types.INLINE:
        return None
    name = key.rpartition("/")[2]
    rest = _RANDOM.sub("", name, count=1) if _RANDOM.match(name) else name
    return rest if rest.strip(". ") and not rest.startswith(".") else f"download{rest}"
