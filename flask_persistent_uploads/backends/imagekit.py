"""Files in ImageKit's media library.

Uploads go through ImageKit's SDK (5.x), imported with the first of them. Urls are signed here, without it.
https://imagekit.io/docs/api-reference/upload-file/upload-file
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

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

if TYPE_CHECKING:
    from imagekitio import ImageKit
    from imagekitio.types import FileUploadResponse

logger = logging.getLogger("flask_persistent_uploads")

API = "https://api.imagekit.io"
UPLOAD_API = "https://upload.imagekit.io"

_LONGEST_NAME = 200
_PAGE = 1000
_LONGEST_TICKET = 3600  # seconds
_MAX_REMEMBERED = 1000
_TAG = "sha256-"

# ImageKit optimises what it delivers: other bytes than were stored, unless it is asked for the original.
_ORIGINAL = "tr=orig-true"


class ImageKitBackend(Backend):
    """Keeps the file of a key at the path ``/<prefix>/<key>``, escaped.

    ``url_endpoint`` is where files are delivered from, such as ``https://ik.imagekit.io/<id>``. ``private``: files are
    stored as private and every url is signed and ends; else urls are public and permanent. Choose it before the first
    upload. ``public_key`` is for uploads from browsers alone; ``base_url`` is another address of the API, as for
    tests. ``timeout`` is in seconds, for one call in all, or one wait of an upload.
    """

    name = "imagekit"
    parallel = 4

    def __init__(
        self,
        *,
        private_key: str,
        url_endpoint: str,
        public_key: str | None = None,
        prefix: str = "uploads",
        private: bool = False,
        base_url: str | None = None,
        timeout: float = 25,
    ) -> None:
        self.url_endpoint = url_endpoint
        self.prefix = prefix
        self.private = private
        self.permanent_urls = not private
        self.timeout = timeout
        self._private_key = private_key
        self._public_key = public_key
        self._base_url = base_url
        self._client = remote.PerProcess(lambda: self._build(API))
        self._uploader = remote.PerProcess(lambda: self._build(UPLOAD_API))
        # Of files stored by this process: ImageKit finds them by a search that may lag behind.
        self._ids: dict[str, str] = {}

    def __str__(self) -> str:
        kept = "private" if self.private else "public"
        return f"imagekit, {self.url_endpoint}, below {self.prefix}/ ({kept} urls)"

    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        place = self._place(key)
        sha256 = remote.read_through(key, stream, size).sha256.hexdigest()
        if size == 0:
            raise TypeNotAllowed(f"'{filename}' is empty, and ImageKit keeps no empty files.", filename=filename)
        body = remote.Rest(stream)
        with remote.naming(filename):
            answer = self._upload_once(place, body, size, sha256, overwrite=overwrite)
        if answer is not None:
            self._verify(place, answer, size)
        if overwrite:
            try:
                self._purge(place)
            except BackendError as error:  # the file is stored; only its older copies live on for a while
                logger.warning("the CDN may deliver %s as it was: %s", ascii(key), error)
        return sha256

    def open(self, key: str) -> IO[bytes]:
        link = self.url(key, signed_at=int(time.time()), expires_in=3600)
        return remote.download(key, link, timeout=self.timeout, stat=self.stat)

    def stat(self, key: str) -> Stat | None:
        found = self._find(self._place(key))
        return _stat(key, found) if found else None

    def delete(self, key: str) -> None:
        """As :meth:`Backend.delete`; ``BackendUnavailable`` while ImageKit does not find a file that it delivers."""
        place = self._place(key)
        file_id = self._ids.get(place.path)
        deleted = file_id is not None and self._delete(key, file_id)
        if not deleted and (found := self._find(place)):
            deleted = self._delete(key, found["fileId"])
        self._ids.pop(place.path, None)
        self._purge(place)
        if not deleted and self._is_delivered(place):
            raise BackendUnavailable(
                "ImageKit does not find the file yet: delete it again later.", key=key, retry_after=60
            )

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        start = f"{self.prefix}/{prefix[: prefix.rfind('/') + 1]}"
        folders = ["/" + _in_parts(names.escape(start, extension=False)).rstrip("/")]
        while folders:
            # All of a folder before the first of it: who deletes what is listed would make the next page skip files.
            in_folder = list(self._list(folders.pop()))
            folders += [found["folderPath"] for found in in_folder if found.get("type") == "folder"]
            files = ((self._key(found["filePath"]), found) for found in in_folder if found.get("type") != "folder")
            yield from [_stat(key, found) for key, found in files if key is not None and key.startswith(prefix)]

    def url(
        self, key: str, *, signed_at: int, expires_in: int, method: str = "GET", download_as: str | None = None
    ) -> str:
        attachment = "&ik-attachment=true" if download_as is not None else ""
        return self._signed(f"{self._place(key).path}?{_ORIGINAL}{attachment}", signed_at + expires_in)

    def variant_url(self, key: str, variant: Variant, *, signed_at: int, expires_in: int) -> str | None:
        kind = content_types.of_name(keys.check(key))
        if not kind.startswith("image/") or kind == "image/svg+xml":
            return None
        what = f"tr=w-{variant.width},h-{variant.height},c-maintain_ratio,f-auto"
        return self._signed(f"{self._place(key).path}?{what}", signed_at + expires_in)

    def sign_upload(
        self, key: str, *, content_type: str, max_size: int, signed_at: int, expires_in: int
    ) -> Ticket | None:
        """As :meth:`Backend.sign_upload`, by the V2 API: all fields are signed, and a ticket works once.

        The size is bounded in whole megabytes, the unit that its checks are documented in.
        https://imagekit.io/docs/api-reference/upload-file/upload-file-v2
        """
        if self._public_key is None:
            return None
        place = self._place(key)
        fields = {
            "fileName": place.name,
            "folder": place.folder,
            "useUniqueFileName": "false",
            "overwriteFile": "false",
            "isPrivateFile": "true" if self.private else "false",
            "checks": f'"file.size" < "{max_size // 1_000_000 + 1}mb"',
        }
        ends = signed_at + min(expires_in, _LONGEST_TICKET)
        token = _jwt({**fields, "iat": signed_at, "exp": ends}, key_id=self._public_key, secret=self._private_key)
        return Ticket(f"{self._base_url or UPLOAD_API}/api/v2/files/upload", {**fields, "token": token})

    # -- where a key is

    def _place(self, key: str) -> _Place:
        return _Place(key, "/" + _in_parts(names.escape(f"{self.prefix}/{keys.check(key)}", extension=True)))

    def _key(self, path: str) -> str | None:
        """The key of a listed file; ``None`` for what we did not store."""
        try:
            key = names.unescape(path[1:].replace("_/", "")).removeprefix(f"{self.prefix}/")
            return key if self._place(key).path == path else None
        except InvalidKey:
            return None

    # -- saving

    def _upload(self, place: _Place, body: remote.Rest, sha256: str, *, overwrite: bool) -> FileUploadResponse:
        body.seek(0)
        with self._errors(place.key):
            answer = self._uploader.get().files.upload(
                file=(place.name, cast("IO[bytes]", body)),
                file_name=place.name,
                folder=place.folder,
                use_unique_file_name=False,
                overwrite_file=overwrite,
                is_private_file=self.private,
                tags=[f"{_TAG}{sha256}"],
            )
        if getattr(answer, "file_id", None) is None:  # not ImageKit's: nobody knows whether the file is stored
            raise remote.unreachable(place.key)
        return answer

    def _upload_once(
        self, place: _Place, body: remote.Rest, size: int, sha256: str, *, overwrite: bool
    ) -> FileUploadResponse | None:
        """Upload, at the second attempt if need be; ``None`` if the first had arrived and only its answer was lost."""
        try:
            return self._upload(place, body, sha256, overwrite=overwrite)
        except BackendUnavailable as error:
            first = error
        try:
            return remote.second_attempt(first, lambda: self._upload(place, body, sha256, overwrite=overwrite))
        except FileExists:
            found = self._find(place)
            stat = _stat(place.key, found) if found else None
            if stat is None or (stat.size, stat.sha256) != (size, sha256):
                raise BackendTimeout("ImageKit did not say whether it stored the file.", key=place.key) from None
            return None

    def _verify(self, place: _Place, answer: FileUploadResponse, size: int) -> None:
        file_id = cast("str", answer.file_id)
        if (answer.file_path, answer.size) != (place.path, size):
            raise remote.take_back(place.key, "ImageKit", lambda: self._delete(place.key, file_id))
        if len(self._ids) >= _MAX_REMEMBERED:
            self._ids.clear()
        self._ids[place.path] = file_id

    # -- finding and deleting

    def _find(self, place: _Place) -> Mapping[str, Any] | None:
        found = self._page(place.folder, search_query=f'name = "{place.name}"')
        return next((file for file in found if file.get("filePath") == place.path), None)

    def _list(self, folder: str) -> Iterator[Mapping[str, Any]]:
        for skip in itertools.count(0, _PAGE):
            page = self._page(folder, type="all", skip=skip, sort="ASC_CREATED")
            yield from page
            if len(page) < _PAGE:
                return

    def _page(self, folder: str, **options: Any) -> list[Mapping[str, Any]]:
        def ask() -> Any:
            return self._client.get().assets.with_raw_response.list(path=folder, limit=_PAGE, **options).json()

        with self._errors(None):
            page = remote.within(self.timeout, ask)
        if not isinstance(page, list) or not all(isinstance(found, dict) for found in page):
            raise remote.unreachable()
        return page

    def _is_delivered(self, place: _Place) -> bool:
        """Whether the file is there, past the search and, by a query of its own, past the copies in the CDN."""
        link = self._signed(f"{place.path}?{_ORIGINAL}&now={secrets.token_hex(8)}", int(time.time()) + 60)
        try:
            remote.download(place.key, link, timeout=self.timeout, stat=lambda key: None).close()
        except (FileMissing, BackendRefused):
            return False
        return True

    def _delete(self, key: str, file_id: str) -> bool:
        """Whether there was such a file."""
        from imagekitio import NotFoundError

        with self._errors(key):
            try:
                remote.within(self.timeout, lambda: self._client.get().files.delete(file_id))
            except NotFoundError:
                return False
        return True

    def _purge(self, place: _Place) -> None:
        """Have the copies in the CDN forgotten, which outlive the file: the star stands for what our urls ask with."""
        with self._errors(place.key):
            create = self._client.get().cache.invalidation.create
            remote.within(self.timeout, lambda: create(url=f"{self.url_endpoint}{place.path}*"))

    # -- signing

    def _signed(self, target: str, expires_at: int) -> str:
        if not self.private:
            return f"{self.url_endpoint}{target}"
        text = f"{target[1:]}{expires_at}".encode()
        signature = hmac.new(self._private_key.encode(), text, hashlib.sha1).hexdigest()
        return f"{self.url_endpoint}{target}&ik-t={expires_at}&ik-s={signature}"

    # -- the client

    def _build(self, address: str) -> ImageKit:
        """A client for one address: left to itself, the SDK takes address and headers from the environment."""
        import httpx
        from imagekitio import ImageKit

        credentials = base64.b64encode(f"{self._private_key}:".encode()).decode()
        return ImageKit(
            private_key=self._private_key,
            base_url=self._base_url or address,
            default_headers={"Authorization": f"Basic {credentials}"},
            # An upload that was stored, but answered 500, would be sent again and be refused as a double.
            max_retries=0,
            timeout=httpx.Timeout(self.timeout, connect=min(3.0, self.timeout / 2)),
        )

    @contextlib.contextmanager
    def _errors(self, key: str | None) -> Iterator[None]:
        """The one place where the SDK's errors become ours."""
        import imagekitio as sdk

        try:
            yield
        except sdk.APITimeoutError as error:
            raise remote.timed_out(key) from error
        except sdk.APIStatusError as error:
            raise _refusal(error, key) from error
        except (sdk.ImageKitError, ValueError) as error:  # or what is no JSON
            raise remote.unreachable(key) from error


class _Place(NamedTuple):
    """Where the file of a key is."""

    key: str
    path: str

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def _in_parts(name: str) -> str:
    """Break long parts of a path into folders: ``<200 signs>_/<the rest>``, where "_/" is nothing else's."""
    parts = []
    for part in name.split("/"):
        rest = part
        while len(rest) > _LONGEST_NAME:
            parts.append(f"{rest[: _LONGEST_NAME - 50]}_")
            rest = rest[_LONGEST_NAME - 50 :]
        parts.append(rest)
    return "/".join(parts)


def _stat(key: str, found: Mapping[str, Any]) -> Stat:
    sha256 = next((tag[len(_TAG) :] for tag in found.get("tags") or () if tag.startswith(_TAG)), None)
    try:
        changed = datetime.fromisoformat(found["updatedAt"].replace("Z", "+00:00"))
        return Stat(key, int(found["size"]), changed, sha256)
    except (KeyError, TypeError, ValueError) as error:  # an answer that is not ImageKit's
        raise remote.unreachable(key) from error


def _jwt(payload: Mapping[str, Any], *, key_id: str, secret: str) -> str:
    """A JSON Web Token signed by HMAC-SHA256 (RFC 7519)."""
    head = {"alg": "HS256", "typ": "JWT", "kid": key_id}
    text = b".".join(_base64(json.dumps(part, separators=(",", ":")).encode()) for part in (head, payload))
    return (text + b"." + _base64(hmac.new(secret.encode(), text, hashlib.sha256).digest())).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _refusal(error: Any, key: str | None) -> BackendError | UploadRejected:
    """Our error for an answer of ImageKit that says no."""
    status = error.status_code
    text = str(error.body.get("message", "")) if isinstance(error.body, dict) else ""
    small = text.lower()
    if "already exists" in small and key is not None:
        return FileExists(key)
    if status == 507 or ("storage" in small and ("limit" in small or "quota" in small or "exceed" in small)):
        return remote.full(key)
    if status in {401, 403}:
        return BackendRefused("ImageKit did not take the credentials: correct the private key.", key=key)
    if status == 429:
        wait = error.response.headers.get("X-RateLimit-Reset", "")  # milliseconds
        seconds = -(-int(wait) // 1000) if wait.isdecimal() else 60
        return BackendUnavailable("ImageKit's limit of calls is reached for now.", key=key, retry_after=seconds)
    if status == 413 or "too large" in small or "larger" in small or ("size" in small and "limit" in small):
        return UploadTooLarge("It is too large for this ImageKit plan.")
    if "type" in small and ("not supported" in small or "not allowed" in small):
        return TypeNotAllowed("ImageKit does not take files of its type.")
    if status >= 500:
        return BackendUnavailable(f"The store for uploads is not available now ({status}).", key=key)
    logger.error("ImageKit refused %s: %s", key, text[:200])
    return BackendRefused(f"ImageKit refused ({status}); the log says why.", key=key)
