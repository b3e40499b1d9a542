"""What is known of a service that speaks S3 by the host of its endpoint.

From the vendors' own pages, read 2026-11. A host that is not here is addressed by path, as MinIO wants it.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit


class Service(NamedTuple):
    """``virtual``: buckets are addressed by host name. ``region``: the one to sign for, where the host decides it."""

    virtual: bool
    region: str | None


# Host, whether buckets are addressed by host name, and the region: by the host's first group, or this, "" for any.
_HOSTS: tuple[tuple[str, bool, str | None], ...] = (
    (r"s3\.amazonaws\.com", True, ""),
    (r"s3[.-](?!accelerate)([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?", True, None),
    (r"[0-9a-f]+\.(?:[a-z]+\.)?r2\.cloudflarestorage\.com", False, "auto"),
    (r"s3\.([a-z0-9-]+)\.backblazeb2\.com", False, None),
    (r"([a-z0-9]+)\.digitaloceanspaces\.com", True, None),
    (r"fly\.storage\.tigris\.dev|t3\.storage(?:api)?\.dev", True, "auto"),
    (r"s3\.([a-z0-9-]+)\.wasabisys\.com", False, None),
)


def find(endpoint_url: str) -> Service | None:
    """The service at this endpoint, or ``None`` if the host is not known."""
    host = urlsplit(endpoint_url).hostname or ""
    for pattern, virtual, region in _HOSTS:
        found = re.fullmatch(pattern, host)
        if found:
            return Service(virtual, found[1] if region is None else region or None)
    return None


def aws_endpoint(region: str) -> str:
    """Amazon's own endpoint of a region, in its partition's domain."""
    domain = "amazonaws.com"
    if region.startswith("cn-"):
        domain = "amazonaws.com.cn"
    elif region.startswith("eusc-"):
        domain = "amazonaws.eu"
    return f"https://s3.{region}.{domain}"
