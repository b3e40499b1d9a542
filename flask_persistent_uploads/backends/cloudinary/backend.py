"""The Cloudinary backend: pictures and videos are stored as such, so that Cloudinary can resize them; the rest as raw.

Files are uploaded through Cloudinary's SDK; URLs are signed here, without it.
https://cloudinary.com/documentation/image_upload_api_reference
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from ...config import Settings
from ...errors import BackendRefused, BackendTimeout, BackendUnavailable, FileExists, FileMissing
from ...stored import Stat
from .. import remote
from ..base import Backend
from ..downloads import download
from . import settings as cloudinary_settings
from .assets import KINDS, Asset, asset_of, key_of, listing_prefix, stat_of
from .errors import not_delivered
from .sdk import Client
from .settings import DESCRIPTION

API = "https://api.cloudinary.com"
CHUNK = 6 << 20  # bytes in one request; Cloudinary needs at least 5 MB in every request but the last

# None of these formats can hold a script, as SVG can. Cloudinary detects the format of a picture by its content, so a
# picture with a wrong extension is stored too.
_PICTURES = "avif,bmp,gif,heic,heif,ico,jpg,png,tif,tiff,webp"
# The CDN does not deliver these for new accounts, signed or not; the download endpoint of the API does.
_BLOCKED = frozenset({"pdf", "zip"})


class CloudinaryBackend(Backend):
    """Keeps the file of a key under the public id ``<prefix>/<key>``, escaped.

    With ``private``, files are stored as "authenticated" and every URL expires. Without it, pictures, videos and text
    have public, permanent URLs. Choose it before the first upload: it decides where files are found. ``public_url`` is
    the base URL from which files are delivered, by default ``https://res.cloudinary.com/<cloud>``. ``upload_prefix`` is
    the base URL of the API, for accounts outside the US. ``timeout`` is in seconds, for one whole call; an upload may
    take longer while it makes progress.
    """

    name = "cloudinary"
    description = DESCRIPTION
    parallel = 2  # each upload holds a chunk of its file in memory, and the SDK holds a copy

    def __init__(
        self,
        *,
        cloud_name: str,
        api_key: str,
        api_secret: str,
        prefix: str = "uploads",
        private: bool = False,
        public_url: str | None = None,
        upload_prefix: str = API,
        timeout: float = 25,
    ) -> None:
        self.cloud_name = cloud_name
        self.prefix = prefix
        self.private = private
        self.permanent_urls = not private
        self.timeout = timeout
        self._api_key = api_key
        self._secret = api_secret
        self._api = f"{upload_prefix}/v1_1/{cloud_name}"
        self._delivery = public_url or f"https://res.cloudinary.com/{cloud_name}"
        self._type = "authenticated" if private else "upload"
        account = {
            "cloud_name": cloud_name,
            "api_key": api_key,
            "api_secret": api_secret,
            "oauth_token": None,
            "upload_prefix": upload_prefix,
            "signature_algorithm": "sha256",
            "signature_version": 2,
            "type": self._type,
        }
        self._client = Client(account, timeout=timeout, variable=self.variable)
        self._account_variables: Mapping[str, str] = {}

    @classmethod
    def from_settings(cls, settings: Settings, *, environ: Mapping[str, str], instance_path: Path) -> CloudinaryBackend:
        account = cloudinary_settings.account(settings, environ)
        backend = cls(
            cloud_name=account.cloud_name,
            api_key=account.api_key,
            api_secret=account.api_secret,
            prefix=settings.prefix,
            private=settings["cloudinary_private"],
            public_url=settings["public_url"] or account.public_url,
            upload_prefix=account.upload_prefix or API,
            timeout=settings.timeout,
        )
        backend._account_variables = account.variables
        return backend

    def variable(self, argument: str) -> str:
        return self._account_variables.get(argument) or super().variable(argument)

    def __str__(self) -> str:
        access = "private" if self.private else "public"
        return f"cloudinary, cloud {self.cloud_name}, below {self.prefix}/ ({access} URLs)"

    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        asset = self._asset(key)
        digests = remote.read_through(key, stream, size)
        sha256 = digests.sha256.hexdigest()
        if size == 0:
            raise remote.empty_file(filename)
        with remote.name_rejected_file(filename):
            response, in_doubt = self._upload(asset, stream, size, sha256, overwrite=overwrite)
        if "etag" not in response:  # Cloudinary lost a chunk and stored nothing, or another server responded
            raise remote.unreachable(key)
        same = (response.get("bytes"), response.get("etag")) == (size, digests.md5.hexdigest())
        if response.get("existing") and not in_doubt:
            raise FileExists(key)
        if response.get("existing") and not same:  # the same content would mean that the first attempt stored it
            raise BackendTimeout("Cloudinary did not confirm that it stored the file.", key=key)
        self._verify(asset, response, same=same)
        return sha256

    def open(self, key: str) -> IO[bytes]:
        url = self._download_url(self._asset(key), int(time.time()), 3600, attachment=False)
        return download(
            key,
            url,
            timeout=self.timeout,
            stat=self.stat,
            refused=lambda status: not_delivered(status, key, self.variable),
        )

    def stat(self, key: str) -> Stat | None:
        asset = self._asset(key)
        try:
            return stat_of(key, self._client.resource(key, asset.public_id, asset.kind))
        except FileMissing:
            return None

    def delete(self, key: str) -> None:
        asset = self._asset(key)
        self._destroy(key, asset.public_id, asset.kind, {"ok", "not found"})

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        start = listing_prefix(prefix[: prefix.rfind("/") + 1], self.prefix)
        for kind in KINDS:
            for found in self._list(kind, start):
                key = key_of(found, kind, self.prefix)
                if key is not None and key.startswith(prefix):
                    yield stat_of(key, found)

    def url(
        self, key: str, *, signed_at: int, expires_in: int, method: str = "GET", download_as: str | None = None
    ) -> str:
        """Return a direct url as :meth:`Backend.url` does, but Cloudinary chooses the name and type of a download."""
        asset = self._asset(key)
        if self.private or download_as is not None or asset.extension in _BLOCKED:
            return self._download_url(asset, signed_at, expires_in, attachment=download_as is not None)
        return f"{self._delivery}/{asset.kind}/upload/v1/{asset.public_id}"

    def _asset(self, key: str) -> Asset:
        return asset_of(key, self.prefix)

    def _list(self, kind: str, start: str) -> Iterator[Mapping[str, Any]]:
        more: dict[str, str] = {}
        while True:
            page = self._client.resources(resource_type=kind, prefix=start, max_results=500, **more)
            if "resources" not in page:
                raise remote.unreachable()
            yield from page["resources"]
            if not page.get("next_cursor"):
                return
            more = {"next_cursor": page["next_cursor"]}

    # -- saving

    def _upload(
        self, asset: Asset, stream: IO[bytes], size: int, sha256: str, *, overwrite: bool
    ) -> tuple[Mapping[str, Any], bool]:
        """Return the last response, and whether an attempt that failed may have stored the file."""
        options = self._options(asset, sha256, overwrite=overwrite)
        upload_id, in_doubt = secrets.token_hex(8), False
        response: Mapping[str, Any] = {}
        for start in range(0, size, CHUNK):
            chunk = remote.read_fully(stream, CHUNK)
            if size > CHUNK:
                place = f"bytes {start}-{start + len(chunk) - 1}/{size}"
                options["http_headers"] = {"Content-Range": place, "X-Unique-Upload-Id": upload_id}
            send = partial(self._client.upload, asset.key, chunk, options)
            try:
                response = send()
            except BackendUnavailable as error:
                response = remote.second_attempt(error, send)
                in_doubt = in_doubt or not error.nothing_stored
        return response, in_doubt

    @staticmethod
    def _options(asset: Asset, sha256: str, *, overwrite: bool) -> dict[str, Any]:
        return {
            "public_id": asset.public_id,
            "resource_type": asset.kind,
            "overwrite": overwrite,
            "invalidate": overwrite,
            # Not both: a context holds at most 255 characters (cloudinary.com/documentation/contextual_metadata).
            "context": {"sha256": sha256} if asset.names_key else {"key": asset.key},
            "allowed_formats": _PICTURES if asset.kind == "image" else None,
            "filename": asset.public_id.rpartition("/")[2],
            "upload_preset": None,
            "responsive_width": False,
            "use_fetch_format": False,
            "dpr": None,
        }

    def _verify(self, asset: Asset, response: Mapping[str, Any], *, same: bool) -> None:
        place = (response.get("public_id"), response.get("resource_type"), response.get("type"))
        if place == (asset.public_id, asset.kind, self._type) and same:
            return
        stored = response.get("public_id", asset.public_id), response.get("resource_type", asset.kind)
        delete = partial(self._destroy, asset.key, *stored, {"ok"})
        raise remote.discard_altered_upload(asset.key, "Cloudinary", delete)

    def _destroy(self, key: str, public_id: str, kind: str, accepted: set[str]) -> None:
        if self._client.destroy(key, public_id, kind).get("result") not in accepted:
            raise BackendRefused("Cloudinary did not delete the file.", key=key)

    # -- signing

    def _download_url(self, asset: Asset, signed_at: int, expires_in: int, *, attachment: bool) -> str:
        """Return a URL of the API that delivers the original. It is the only kind that expires on every plan."""
        parameters = {
            "expires_at": str(signed_at + expires_in),
            "public_id": asset.public_id,
            "timestamp": str(signed_at),
            "type": self._type,
            **({"attachment": "true"} if attachment else {}),
        }
        return f"{self._api}/{asset.kind}/download?{urlencode(self._signed(parameters))}"

    def _signed(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """Add the API key and a signature (SHA-256, version 2: an ``&`` in a value does not begin a new parameter)."""
        text = "&".join(f"{name}={value}".replace("&", "%26") for name, value in sorted(parameters.items()))
        signature = hashlib.sha256(f"{text}{self._secret}".encode()).hexdigest()
        return {**parameters, "api_key": self._api_key, "signature": signature}
