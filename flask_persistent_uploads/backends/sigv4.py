"""Presigned S3 URLs by AWS Signature Version 4, with the standard library alone.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html

About 30 times cheaper than the SDK's signer, whose import a view of a file would otherwise pay as well. The tests hold
it equal, byte for byte, to botocore's.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote

MAX_EXPIRES = 604_800  # seconds, the longest that S3 takes


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys to sign with; ``expires_at`` (Unix seconds) where they are temporary and tell."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None


def presign(
    method: str,
    base: str,
    name: str,
    *,
    region: str,
    credentials: Credentials,
    signed_at: int,
    expires_in: int,
    parameters: Iterable[tuple[str, str]] = (),
) -> str:
    """The URL at which ``method`` on the object ``name`` is allowed, for ``expires_in`` seconds from ``signed_at``.

    ``base`` is what stands before the object's name: ``https://bucket.s3.eu-west-1.amazonaws.com/``, or with a path
    ``https://host/bucket/``; its host is signed as it is written. ``parameters`` are further parts of the query, such
    as ``response-content-type``.
    """
    host, root = _split(base)
    date = _amz_date(signed_at)
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    query = [
        *((key, quote(value, safe="-_.~")) for key, value in parameters),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", quote(f"{credentials.access_key_id}/{scope}", safe="-_.~")),
        ("X-Amz-Date", date),
        ("X-Amz-Expires", str(expires_in)),
        ("X-Amz-SignedHeaders", "host"),
    ]
    if credentials.session_token is not None:
        query.append(("X-Amz-Security-Token", quote(credentials.session_token, safe="-_.~")))
    path = quote(name, safe="/-_.~")
    canonical = "&".join([f"{key}={value}" for key, value in sorted(query)])
    request = f"{method}\n{root}{path}\n{canonical}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    to_sign = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = _signing_key(credentials.secret_access_key, date[:8], region)
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    shown = "&".join([f"{key}={value}" for key, value in query])
    return f"{base}{path}?{shown}&X-Amz-Signature={signature}"


@lru_cache(maxsize=64)
def _split(base: str) -> tuple[str, str]:
    """``("host:port", "/root/")`` of a base URL."""
    host, slash, root = base.partition("://")[2].partition("/")
    return host, slash + root


@lru_cache(maxsize=4096)
def _amz_date(moment: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))


@lru_cache(maxsize=64)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
