"""What a browser may show, and under which headers. Any type may be stored; only a short list is shown inline."""

from __future__ import annotations

import re

from .. import content_types

#: Shown in the page. Everything else is saved to disk by the browser, as ``application/octet-stream``: a picture in
#: SVG and a page in HTML can hold scripts, which would run in the name of the site that serves them.
INLINE = frozenset(
    {
        "image/jpeg",
        "image/png",
        "image/gif",
        "image/webp",
        "image/avif",
        "application/pdf",
        "video/mp4",
        "video/webm",
        "audio/mpeg",
        "text/plain",
    }
)

#: Sent with every byte that the app serves itself.
SECURITY_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; sandbox"),
)

_RANDOM = re.compile(r"[0-9a-f]{32}-?|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}[-_]?")


def shown_inline(content_type: str) -> bool:
    return content_type in INLINE


def download_name(key: str) -> str | None:
    """The name under which the browser shall save the file; ``None`` where it is shown inline.

    It is what follows the random part in the last segment of the key, as the client called it.
    """
    if content_types.of_name(key) in INLINE:
        return None
    name = key.rpartition("/")[2]
    rest = _RANDOM.sub("", name, count=1) if _RANDOM.match(name) else name
    return rest if rest.strip(". ") and not rest.startswith(".") else f"download{rest}"
