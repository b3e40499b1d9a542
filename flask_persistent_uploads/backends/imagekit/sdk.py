"""Builds clients of ImageKit's SDK (5.x) that do not depend on the environment."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagekitio import ImageKit

API = "https://api.imagekit.io"
UPLOAD_API = "https://upload.imagekit.io"


def client(private_key: str, address: str, *, timeout: float) -> ImageKit:
    """Return a client for one address. ``timeout`` is in seconds, for one read.

    Without these arguments, the SDK would take the address and the headers from the environment.
    """
    import httpx
    from imagekitio import ImageKit

    credentials = base64.b64encode(f"{private_key}:".encode()).decode()
    return ImageKit(
        private_key=private_key,
        base_url=address,
        default_headers={"Authorization": f"Basic {credentials}"},
        # The SDK would repeat an upload that was stored but answered 500, and ImageKit would refuse the second one.
        max_retries=0,
        timeout=httpx.Timeout(timeout, connect=min(3.0, timeout / 2)),
    )
