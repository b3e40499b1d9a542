"""Files in Cloudinary: pictures and videos as such, so that it can derive others from them, and the rest as raw files.

Uploads go through Cloudinary's SDK, imported with the first of them. All that the SDK would else take from its global
``cloudinary.config()`` is given with each call. Urls are signed here, without it.
https://cloudinary.com/documentation/image_upload_api_reference
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from types import ModuleType
from typing import IO, Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode

from .. import content_types, keys
from ..errors import (
    BackendError,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    FileExists,
    FileMissing,
    InvalidKey,
    TypeNotAllowed,
    UploadRejected,
    UploadTooLarge,
)
from ..stored import Stat, Ticket, Variant
from . import names, remote
from .base import Backend

logger = logging.getLogger("flask_persistent_uploads")

API = "https://api.cloudinary.com"
CHUNK = 6 << 20  # bytes in one request; Cloudinary takes no fewer than 5 MB in any but the last

# Never change a line: files are found by the kind that their extension had when they were saved.
_IMAGES = frozenset(
    ("avif", "bmp", "gif", "heic", "heif", "ico", "jfif", "jpe", "jpeg", "jpg", "png", "tif", "tiff", "webp")
)
_VIDEOS = frozenset(  # and sound, which is the same to Cloudinary
    ("aac", "avi", "flac", "m4a", "m4v", "mkv", "mov", "mp3", "mp4", "ogg", "wav", "webm")
)
_KINDS = ("image", "video", "raw")

_LONGEST_ID = 255
_HEAD = 180  # what is left of the name of a longer one, before its hash
# What it may find in a picture: none of these can hold a script, as SVG can. A picture is told by its content, so one
# whose extension lies, as old ones do, is stored all the same.
_PICTURES = "avif,bmp,gif,heic,heif,ico,jpg,png,tif,tiff,webp"
# What a file of these extensions is found to be, where it is not the extension itself.
_FORMATS = {
    **dict.fromkeys(("jfif", "jpe", "jpeg"), "jpg"),
    **dict.fromkeys(("tif", "tiff"), "tif,tiff"),
    "heif": "heic,heif",
    "m4v": "m4v,mp4",
}
# New accounts do not deliver these from the CDN, signed or not; the download endpoint of the API does.
_BLOCKED = frozenset({"pdf", "zip"})

_SIGNATURE_LASTS = 3600  # seconds that a signed upload is taken, from its timestamp


@dataclass(frozen=True, slots=True)
class Account:
    cloud_name: str
    api_key: str
    api_secret: str = field(repr=False)
    public_url: str | None = None
    upload_prefix: str | None = None


def read_url(url: str) -> Account:
    """What a ``CLOUDINARY_URL`` says; the host behind a slash is one that the account delivers from.

    The cloud keeps its capitals and the rest is percent-decoded, neither of which the SDK does. Raises ``ValueError``
    with what it should be.
    """
    found = re.fullmatch(
        r"cloudinary://([^:@/<>]+):([^@<>]+)@([A-Za-z0-9_-]+)(?:/([A-Za-z0-9.-]*))?(?:\?(.*))?", url.strip()
    )
    if not found:
        raise ValueError("an address such as cloudinary://<api key>:<api secret>@<cloud name>")
    key, secret, cloud_name, host, query = found.groups()
    options = dict(parse_qsl(query or ""))
    elsewhere = options.keys() & {"private_cdn", "secure_distribution", "cname"}
    if elsewhere:
        raise ValueError(
            f"one without {', '.join(sorted(elsewhere))}: where files are delivered is PUBLIC_URL's to say"
        )
    return Account(
        cloud_name,
        unquote(key),
        unquote(secret),
        f"https://{host}" if host else None,
        options.get("upload_prefix", "").rstrip("/") or None,
    )


class CloudinaryBackend(Backend):
    """Keeps the file of a key under the public id ``<prefix>/<key>``, escaped.

    The kind (image, video, raw) follows from the extension alone. The id of a picture or a video has no dot, as what
    follows one in a url is a format to convert it to: without, the original is delivered.

    ``private``: files are stored as "authenticated" and every url ends; else pictures, videos and text have public,
    permanent urls. Choose it before the first upload, for it decides where files are found. ``public_url`` is where
    files are delivered from, if it is not ``https://res.cloudinary.com/<cloud>``; ``upload_prefix`` the address of the
    API for accounts outside the US. ``timeout`` is in seconds, for one call in all; an upload may take longer, as long
    as bytes flow.
    """

    name = "cloudinary"
    parallel = 2  # each holds a part of a file in memory, and the SDK a copy

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
        self._pinned: dict[str, Any] = {
            "cloud_name": cloud_name,
            "api_key": api_key,
            "api_secret": api_secret,
            "oauth_token": None,
            "upload_prefix": upload_prefix,
            "signature_algorithm": "sha256",
            "signature_version": 2,
            "type": self._type,
        }

    def __str__(self) -> str:
        kept = "private" if self.private else "public"
        return f"cloudinary, cloud {self.cloud_name}, below {self.prefix}/ ({kept} urls)"

    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        asset = self._asset(key)
        digests = remote.read_through(key, stream, size)
        if size == 0:
            raise TypeNotAllowed(f"'{filename}' is empty, and Cloudinary keeps no empty files.", filename=filename)
        with remote.naming(filename):
            answer, repeated = self._upload(asset, stream, size, digests.sha256.hexdigest(), overwrite=overwrite)
        if "etag" not in answer:  # nothing was stored: a part got lost there, or somebody else answered
            raise remote.unreachable(key)
        same = (answer.get("bytes"), answer.get("etag")) == (size, digests.md5.hexdigest())
        if answer.get("existing") and not repeated:
            raise FileExists(key)
        if answer.get("existing") and not same:  # else our own first attempt had arrived
            raise BackendTimeout("Cloudinary did not say whether it stored the file.", key=key)
        self._verify(asset, answer, same=same)
        return digests.sha256.hexdigest()

    def open(self, key: str) -> IO[bytes]:
        url = self._download_url(self._asset(key), int(time.time()), 3600, attachment=False)
        return remote.download(key, url, timeout=self.timeout, stat=self.stat)

    def stat(self, key: str) -> Stat | None:
        asset = self._asset(key)
        try:
            found = self._ask(_admin().resource, asset, asset.public_id, resource_type=asset.kind)
        except FileMissing:
            return None
        if "created_at" not in found:
            raise remote.unreachable(key)
        return _stat(key, found)

    def delete(self, key: str) -> None:
        asset = self._asset(key)
        self._destroy(asset, asset.public_id, asset.kind, {"ok", "not found"})

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        folder = prefix[: prefix.rfind("/") + 1]
        start = names.escape(f"{self.prefix}/{folder}", extension=False)[:_HEAD]
        for kind in _KINDS:
            more: dict[str, str] = {}
            while True:
                page = self._ask(
                    _admin().resources, None, resource_type=kind, prefix=start, max_results=500, context=True, **more
                )
                if "resources" not in page:
                    raise remote.unreachable()
                for found in page["resources"]:
                    key = self._key(kind, found)
                    if key is not None and key.startswith(prefix):
                        yield _stat(key, found)
                if not page.get("next_cursor"):
                    break
                more = {"next_cursor": page["next_cursor"]}

    def url(
        self, key: str, *, signed_at: int, expires_in: int, method: str = "GET", download_as: str | None = None
    ) -> str:
        """As :meth:`Backend.url`, but name and type of what is saved are Cloudinary's choice."""
        asset = self._asset(key)
        if self.private or download_as is not None or asset.extension in _BLOCKED:
            return self._download_url(asset, signed_at, expires_in, attachment=download_as is not None)
        return f"{self._delivery}/{asset.kind}/upload/v1/{asset.public_id}"

    def variant_url(self, key: str, variant: Variant, *, signed_at: int, expires_in: int) -> str | None:
        """As :meth:`Backend.variant_url`. A private file's is signed and does not end: there is no other."""
        asset = self._asset(key)
        if asset.kind != "image":
            return None
        what = f"c_fill,h_{variant.height},w_{variant.width}/f_auto,q_auto"
        if not self.private:
            return f"{self._delivery}/image/upload/{what}/v1/{asset.public_id}"
        digest = hashlib.sha256(f"{what}/{asset.public_id}{self._secret}".encode()).digest()
        signature = base64.urlsafe_b64encode(digest).decode()[:32]
        return f"{self._delivery}/image/authenticated/s--{signature}--/{what}/v1/{asset.public_id}"

    def sign_upload(self, key: str, *, content_type: str, max_size: int, signed_at: int, expires_in: int) -> Ticket:
        """As :meth:`Backend.sign_upload`. Neither the size nor the kind of asset is signed by Cloudinary.

        A file that is sent to another kind than the key's has another address, where nothing looks for it.
        """
        asset = self._asset(key)
        fields = {
            "overwrite": "0",
            "public_id": asset.public_id,
            "timestamp": str(signed_at + min(expires_in, _SIGNATURE_LASTS) - _SIGNATURE_LASTS),
            "type": self._type,
        }
        if asset.kind != "raw":
            fields["allowed_formats"] = _FORMATS.get(asset.extension, asset.extension)
        if not _tells_the_key(asset.public_id):
            fields["context"] = "key=" + re.sub(r"([|=])", r"\\\1", key)
        return Ticket(f"{self._api}/{asset.kind}/upload", self._signed(fields))

    # -- where a key is

    def _asset(self, key: str) -> _Asset:
        extension = content_types.extension(keys.check(key))
        kind = "image" if extension in _IMAGES else "video" if extension in _VIDEOS else "raw"
        public_id = names.escape(f"{self.prefix}/{key}", extension=kind == "raw")
        if len(public_id) > _LONGEST_ID:
            # No name has "_-", so this is no other key's; the key itself is then kept beside the file.
            end = f".{extension}" if kind == "raw" and public_id.endswith(f".{extension}") else ""
            public_id = f"{public_id[:_HEAD]}_-{hashlib.sha256(key.encode()).hexdigest()[:40]}{end}"
        return _Asset(key, kind, public_id, extension)

    def _key(self, kind: str, found: Mapping[str, Any]) -> str | None:
        """The key of a listed asset; ``None`` for what we did not store."""
        public_id = found["public_id"]
        try:
            if _tells_the_key(public_id):
                key = names.unescape(public_id).removeprefix(f"{self.prefix}/")
            else:
                key = _context(found).get("key", "")
            asset = self._asset(key)
        except InvalidKey:
            return None
        return key if (asset.kind, asset.public_id) == (kind, public_id) else None

    # -- saving

    def _upload(
        self, asset: _Asset, stream: IO[bytes], size: int, sha256: str, *, overwrite: bool
    ) -> tuple[Mapping[str, Any], bool]:
        """The last answer, and whether a request was repeated: then "it exists" may speak of our own."""
        # Not both, as a context is said to hold 255 characters (cloudinary.com/documentation/contextual_metadata).
        context = {"sha256": sha256} if _tells_the_key(asset.public_id) else {"key": asset.key}
        options = {
            "public_id": asset.public_id,
            "resource_type": asset.kind,
            "overwrite": overwrite,
            "invalidate": overwrite,
            "context": context,
            "allowed_formats": _PICTURES if asset.kind == "image" else None,
            "filename": asset.public_id.rpartition("/")[2],
            "upload_preset": None,
            "responsive_width": False,
            "use_fetch_format": False,
            "dpr": None,
        }
        mark, repeated = secrets.token_hex(8), False
        answer: Mapping[str, Any] = {}
        for start in range(0, size, CHUNK):
            piece = remote.read_fully(stream, CHUNK)
            if size > CHUNK:
                place = f"bytes {start}-{start + len(piece) - 1}/{size}"
                options["http_headers"] = {"Content-Range": place, "X-Unique-Upload-Id": mark}
            try:
                answer = self._send(asset, piece, options)
            except BackendUnavailable as error:
                answer = remote.second_attempt(error, partial(self._send, asset, piece, options))
                repeated = True
        return answer, repeated

    def _send(self, asset: _Asset, piece: bytes, options: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._call(_uploader().upload, asset, piece, **options)

    def _verify(self, asset: _Asset, answer: Mapping[str, Any], *, same: bool) -> None:
        where = (answer.get("public_id"), answer.get("resource_type"), answer.get("type"))
        if where == (asset.public_id, asset.kind, self._type) and same:
            return
        stored = answer.get("public_id", asset.public_id), answer.get("resource_type", asset.kind)
        raise remote.take_back(asset.key, "Cloudinary", lambda: self._destroy(asset, *stored, {"ok"}))

    def _destroy(self, asset: _Asset, public_id: str, kind: str, accepted: set[str]) -> None:
        answer = self._ask(_uploader().destroy, asset, public_id, resource_type=kind, invalidate=True)
        if answer.get("result") not in accepted:
            raise BackendRefused("Cloudinary did not delete the file.", key=asset.key)

    # -- signing

    def _download_url(self, asset: _Asset, signed_at: int, expires_in: int, *, attachment: bool) -> str:
        """A url of the API that hands out the original until it expires: the only one that ends on every plan."""
        parameters = {
            "expires_at": str(signed_at + expires_in),
            "public_id": asset.public_id,
            "timestamp": str(signed_at),
            "type": self._type,
            **({"attachment": "true"} if attachment else {}),
        }
        return f"{self._api}/{asset.kind}/download?{urlencode(self._signed(parameters))}"

    def _signed(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """The parameters with key and signature (SHA-256, version 2: an ``&`` in a value cannot begin another)."""
        text = "&".join(f"{name}={value}".replace("&", "%26") for name, value in sorted(parameters.items()))
        signature = hashlib.sha256(f"{text}{self._secret}".encode()).hexdigest()
        return {**parameters, "api_key": self._api_key, "signature": signature}

    # -- calling

    def _ask(
        self, call: Callable[..., Any], asset: _Asset | None, *arguments: Any, **options: Any
    ) -> Mapping[str, Any]:
        """One call that is no upload, within the timeout."""
        key = asset.key if asset else None
        return remote.within(self.timeout, lambda: self._call(call, asset, *arguments, **options), key)

    def _call(
        self, call: Callable[..., Any], asset: _Asset | None, *arguments: Any, **options: Any
    ) -> Mapping[str, Any]:
        """One call of the SDK. The one place where its errors become ours."""
        from cloudinary import exceptions as sdk

        key = asset.key if asset else None
        try:
            answer = call(*arguments, **options, **self._pinned, timeout=remote.patience(self.timeout))
        except sdk.Error as error:
            raise _refusal(error, key) from error
        except Exception as error:  # for a status that the SDK does not know, such as 502, or JSON of somebody else's
            raise remote.unreachable(key) from error
        if not isinstance(answer, Mapping):
            raise remote.unreachable(key)
        return answer


class _Asset(NamedTuple):
    """Where the file of a key is."""

    key: str
    kind: str
    public_id: str
    extension: str


def _tells_the_key(public_id: str) -> bool:
    """Whether the name was short enough to be kept whole; else the key is in the context beside the file."""
    return "_-" not in public_id


def _sdk() -> None:
    """Import the SDK, with connections of this process alone: its own are global, and would cross a fork.

    They would also try everything four times, and follow redirects with all that a form holds.
    """
    import cloudinary
    import urllib3
    from cloudinary import uploader, utils
    from cloudinary.api_client import call_api

    once_more = urllib3.Retry(total=1, redirect=False, respect_retry_after_header=False)
    options = {**cloudinary.CERT_KWARGS, "maxsize": 64, "retries": once_more}
    for module in (uploader, call_api):
        module._http = utils.get_http_connector(cloudinary.config(), options)


_in_this_process = remote.PerProcess(_sdk)


def _uploader() -> ModuleType:
    _in_this_process.get()
    from cloudinary import uploader

    return uploader  # type: ignore[no-any-return]


def _admin() -> ModuleType:
    _in_this_process.get()
    from cloudinary import api

    return api  # type: ignore[no-any-return]


def _stat(key: str, found: Mapping[str, Any]) -> Stat:
    created = datetime.fromisoformat(found["created_at"].replace("Z", "+00:00"))
    return Stat(key, found["bytes"], created, _context(found).get("sha256"))


def _context(found: Mapping[str, Any]) -> Mapping[str, str]:
    return (found.get("context") or {}).get("custom") or {}


def _refusal(error: Exception, key: str | None) -> BackendError | UploadRejected:
    """Our error for one of the SDK's, which tells the status by its class and the rest by a sentence."""
    from cloudinary import exceptions as sdk

    text = str(error)
    if isinstance(error, sdk.RateLimited):
        return BackendUnavailable(
            "Cloudinary's limit of calls is reached for now.", key=key, retry_after=_seconds_to_wait(text)
        )
    if isinstance(error, sdk.NotFound):
        if key is not None and "resource not found" in text.lower():
            return FileMissing(key)
        return BackendRefused("There is no such place at Cloudinary (404): correct the address of its API.", key=key)
    if isinstance(error, sdk.AuthorizationRequired):
        return BackendRefused(
            "Cloudinary did not take the credentials: correct the cloud name, the API key and the API secret.", key=key
        )
    if isinstance(error, sdk.NotAllowed):
        return BackendRefused("Cloudinary refused (403): its credentials lack a permission.", key=key)
    if isinstance(error, sdk.BadRequest):
        return _bad_request(text, key)
    if remote.is_timeout(error.__context__):
        return remote.timed_out(key)
    return remote.unreachable(key)


def _bad_request(text: str, key: str | None) -> BackendError | UploadRejected:
    small = text.lower()
    if found := re.search(r"file size too large.*maximum is (\d+)", small):
        return UploadTooLarge(f"It is too large for this Cloudinary plan, which takes {int(found[1]):,} bytes.")
    if "megapixel" in small:
        return UploadTooLarge("It has more pixels than this Cloudinary plan takes.")
    if "invalid image" in small or "unsupported" in small or "not allowed" in small:
        return TypeNotAllowed("Cloudinary cannot read it as the picture or video that its name says.")
    if "stale request" in small:
        return BackendRefused("Cloudinary refused (400): the clock of this machine is wrong.", key=key)
    if "quota" in small or "storage limit" in small:
        return remote.full(key)
    logger.error("Cloudinary refused %s: %s", key, text[:200])
    return BackendRefused("Cloudinary refused (400); the log says why.", key=key)


def _seconds_to_wait(text: str) -> int:
    """How long until the moment that ``Try again on 2026-11-21 13:00:00 UTC`` names; an hour at most, as limits are."""
    found = re.search(r"try again on (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) utc", text, re.IGNORECASE)
    if not found:
        return 60
    moment = datetime.fromisoformat(found[1]).replace(tzinfo=timezone.utc)
    return min(max(1, round((moment - datetime.now(timezone.utc)).total_seconds())), 3600)
