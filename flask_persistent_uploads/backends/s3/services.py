"""Recognizes S3 services by the host of their endpoint.

The table comes from the vendors' own pages, read in November 2026. For a host that is not in it, buckets are addressed
by path, as MinIO expects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Service:
    """A service that speaks S3.

    :attr:`virtual`  whether buckets are addressed by host name (``bucket.host``) instead of by path (``host/bucket``)
    :attr:`region`   the region to sign for, if the host determines it
    """

    virtual: bool
    region: str | None


# For each pattern of a host: whether buckets are addressed by host name, and the region. If the region is None, it is
# the first group of the pattern. If it is empty, the host does not determine it.
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
    """Return the service at an endpoint, or ``None`` if the host is not known."""
    host = urlsplit(endpoint_url).hostname or ""
    for pattern, virtual, region in _HOSTS:
        found = re.fullmatch(pattern, host)
        if found:
            return Service(virtual, found[1] if region is None else region or None)
    return None


def aws_endpoint(region: str) -> str:
    """Return Amazon's own endpoint for a region, in the domain of the region's partition."""
    domain = "amazonaws.com"
    if region.startswith("cn-"):
        domain = "amazonaws.com.cn"
    elif region.startswith("eusc-"):
        domain = "amazonaws.eu"
    return f"https://s3.{region}.{domain}"
