"""Presigns S3 URLs by AWS Signature Version 4, with the standard library alone.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html

This is about 30 times faster than the SDK's signer, and a view of a file does not have to import the SDK. The tests
compare the URLs with botocore's, byte for byte.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote

MAX_EXPIRES = 604_800  # seconds; the longest lifetime that S3 accepts


@dataclass(frozen=True, slots=True)
class Credentials:
    """The keys to sign with. ``expires_at`` (Unix seconds) is set if they are temporary and their end is known."""

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
    parameters: tuple[tuple[str, str], ...] = (),
) -> str:
    """Return a URL that allows ``method`` on the object ``name``, for ``expires_in`` seconds from ``signed_at``.

    ``base`` is the part before the object's name, such as ``https://bucket.s3.eu-west-1.amazonaws.com/`` or
    ``https://host/bucket/``. Its host is signed as it is written. ``parameters`` are further parts of the query, such
    as ``response-content-type``. ``signed_at`` is in Unix seconds.
    """
    date = _amz_date(signed_at)
    form = _form(base, region, date[:8], credentials.access_key_id, credentials.session_token, expires_in, parameters)
    path = quote(name)
    request = f"{method}\n{form.root}{path}\n{form.canonical_head}{date}{form.canonical_tail}"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = _signing_key(credentials.secret_access_key, date[:8], region)
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{date}\n{form.scope}\n{digest}".encode(), "sha256").hex()
    return f"{base}{path}?{form.query_head}{date}{form.query_tail}{signature}"


@dataclass(frozen=True, slots=True)
class _Form:
    """The parts of the signed text and of the URL that are the same for all objects on one day."""

    root: str
    scope: str
    canonical_head: str
    canonical_tail: str
    query_head: str
    query_tail: str


@lru_cache(maxsize=1024)
def _form(
    base: str,
    region: str,
    day: str,
    access_key_id: str,
    session_token: str | None,
    expires_in: int,
    parameters: tuple[tuple[str, str], ...],
) -> _Form:
    host, slash, root = base.partition("://")[2].partition("/")
    scope = f"{day}/{region}/s3/aws4_request"
    query = [
        *parameters,
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", f"{access_key_id}/{scope}"),
        ("X-Amz-Date", ""),
        ("X-Amz-Expires", str(expires_in)),
        ("X-Amz-SignedHeaders", "host"),
    ]
    if session_token is not None:
        query.append(("X-Amz-Security-Token", session_token))
    canonical_head, canonical_tail = _around_date(sorted(query))
    query_head, query_tail = _around_date(query)
    return _Form(
        slash + root,
        scope,
        canonical_head,
        f"{canonical_tail}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD",
        query_head,
        f"{query_tail}&X-Amz-Signature=",
    )


def _around_date(query: list[tuple[str, str]]) -> tuple[str, str]:
    """Return the query string before and after the value of ``X-Amz-Date``."""
    joined = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in query)
    head, date, tail = joined.partition("X-Amz-Date=")
    return head + date, tail


@lru_cache(maxsize=4096)
def _amz_date(moment: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))


@lru_cache(maxsize=64)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
