"""Signs direct urls into the app itself, for backends whose files the app sends: permanent links with a signed query.

The signature covers the name of the ``Uploads``, the key, the expiry and the download name. It replaces the authorize
hook, as the signature of a link into S3 does. A query whose signature is wrong or has expired is ignored, like any
other query.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from flask import Flask
from itsdangerous import Signer

_SALT = "flask_persistent_uploads.direct_url"


@dataclass(frozen=True, slots=True)
class SignedQuery:
    """What a valid query allows: to read the file until ``ends_at`` (Unix seconds), and under which name to save it."""

    ends_at: int
    download_name: str | None


def sign(app: Flask, uploads: str, key: str, *, ends_at: int, download_name: str | None) -> str | None:
    """Return the query string that allows reading until ``ends_at`` (Unix seconds).

    Returns ``None`` if the app has no ``SECRET_KEY``.
    """
    signer = _signer(app)
    if signer is None:
        return None
    parameters = {"expires": str(ends_at)}
    if download_name:
        parameters["download"] = download_name
    signature = signer.get_signature(_signed_text(uploads, key, parameters)).decode()
    return urlencode({**parameters, "signature": signature})


def verify(app: Flask, uploads: str, key: str, query: Mapping[str, str], *, moment: float) -> SignedQuery | None:
    """Return what a query allows at this ``moment`` (Unix seconds); ``None`` if it is not valid."""
    signer = _signer(app)
    parameters = {name: query[name] for name in ("expires", "download") if name in query}
    text = _signed_text(uploads, key, parameters)
    if signer is None or not signer.verify_signature(text, query.get("signature", "")):
        return None
    ends_at = int(parameters["expires"])  # the signature proves that it is there, and a number
    return SignedQuery(ends_at, parameters.get("download")) if moment < ends_at else None


def _signer(app: Flask) -> Signer | None:
    if not app.secret_key:
        return None
    keys = [*(app.config.get("SECRET_KEY_FALLBACKS") or ()), app.secret_key]  # the last one signs, all of them verify
    return Signer(keys, salt=_SALT, key_derivation="hmac", digest_method=hashlib.sha256)


def _signed_text(uploads: str, key: str, parameters: Mapping[str, str]) -> str:
    return json.dumps([uploads, key, parameters])
