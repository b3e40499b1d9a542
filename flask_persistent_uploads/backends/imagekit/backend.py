"""The ImageKit backend: files in ImageKit's media library.

Files are uploaded through ImageKit's SDK; URLs are signed here, without it.
https://imagekit.io/docs/api-reference/upload-file/upload-file
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from ...config import Settings
from ...errors import (
    BackendError,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    FileExists,
    FileMissing,
)
from ...log import logger
from ...stored import Stat
from ...text import parse_json
from .. import remote
from ..base import Backend
from ..description import require
from ..downloads import download
from .errors import not_delivered, translated
from .places import Place, folder_of, key_of, place_of, stat_of, tag_of
from .sdk import API, UPLOAD_API, client
from .settings import DESCRIPTION

if TYPE_CHECKING:
    from imagekitio.types import FileUploadResponse

_PAGE = 1000
_MAX_REMEMBERED = 1000

# ImageKit optimizes pictures when it delivers them. This parameter requests the bytes that were stored.
_ORIGINAL = "tr=orig-true"


class ImageKitBackend(Backend):
    """Keeps the file of a key at the path ``/<prefix>/<key>``, escaped.

    ``url_endpoint`` is the base URL from which files are delivered, such as ``https://ik.imagekit.io/<id>``. With
    ``private``, files are stored as private, and every URL is signed and expires. Without it, URLs are public and
    permanent. Choose it before the first upload. ``base_url`` is another base URL of the API, for tests. ``timeout`` is
    in seconds, for one whole call; an upload may take longer while it makes progress.
    """

    name = "imagekit"
    description = DESCRIPTION
    parallel = 4

    def __init__(
        self,
        *,
        private_key: str,
        url_endpoint: str,
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
        self._client = remote.PerProcess(lambda: client(private_key, base_url or API, timeout=timeout))
        self._uploader = remote.PerProcess(lambda: client(private_key, base_url or UPLOAD_API, timeout=timeout))
        # The ids of files that this process stored, by path: ImageKit's search finds new files only after a while.
        self._ids: dict[str, str] = {}

    @classmethod
    def from_settings(cls, settings: Settings, *, environ: Mapping[str, str], instance_path: Path) -> ImageKitBackend:
        require(settings, cls.description.needs)
        return cls(
            private_key=settings["imagekit_private_key"].reveal(),
            url_endpoint=settings["imagekit_url_endpoint"],
            prefix=settings.prefix,
            private=settings["imagekit_private"],
            base_url=settings["imagekit_base_url"],
            timeout=settings.timeout,
        )

    def __str__(self) -> str:
        access = "private" if self.private else "public"
        return f"imagekit, {self.url_endpoint}, below {self.prefix}/ ({access} URLs)"

    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        place = self._place(key)
        sha256 = remote.read_through(key, stream, size).sha256.hexdigest()
        if size == 0:
            raise remote.empty_file(filename)
        with remote.name_rejected_file(filename):
            response = self._upload(place, remote.StreamTail(stream), size, sha256, overwrite=overwrite)
        if response is not None:
            self._verify(place, response, size)
        if overwrite:
            try:
                self._purge(place)
            except BackendError as error:  # the new file is stored; copies of the old one stay in the CDN for a while
                logger.warning("the CDN may deliver the old content of %a: %s", key, error)
        return sha256

    def open(self, key: str) -> IO[bytes]:
        link = self.url(key, signed_at=int(time.time()), expires_in=3600)
        return self._download(key, link, self.stat)

    def stat(self, key: str) -> Stat | None:
        found = self._find(self._place(key))
        return stat_of(key, found) if found else None

    def delete(self, key: str) -> None:
        """Delete as :meth:`Backend.delete` does.

        Raises ``BackendUnavailable`` if ImageKit delivers the file, but its search does not list it yet.
        """
        place = self._place(key)
        file_id = self._ids.get(place.path)
        deleted = file_id is not None and self._delete(key, file_id)
        if not deleted and (found := self._find(place)):
            deleted = self._delete(key, found["fileId"])
        self._ids.pop(place.path, None)
        self._purge(place)
        if not deleted and self._is_delivered(place):
            raise BackendUnavailable(
                "ImageKit delivers the file, but its search does not list it yet.",
                remedy="Delete the file again in a minute.",
                key=key,
                retry_after=60,
            )

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        folders = [folder_of(prefix[: prefix.rfind("/") + 1], self.prefix)]
        while folders:
            # The whole folder is read before the first entry: if the caller deletes files, later pages would skip some.
            in_folder = list(self._list(folders.pop()))
            folders += [found["folderPath"] for found in in_folder if found.get("type") == "folder"]
            files = [found for found in in_folder if found.get("type") != "folder"]
            for found in files:
                key = key_of(found["filePath"], self.prefix)
                if key is not None and key.startswith(prefix):
                    yield stat_of(key, found)

    def url(
        self, key: str, *, signed_at: int, expires_in: int, method: str = "GET", download_as: str | None = None
    ) -> str:
        attachment = "&ik-attachment=true" if download_as is not None else ""
        return self._signed(f"{self._place(key).path}?{_ORIGINAL}{attachment}", signed_at + expires_in)

    def _place(self, key: str) -> Place:
        return place_of(key, self.prefix)

    def _errors(self, key: str | None) -> AbstractContextManager[None]:
        return translated(key, self.variable)

    # -- saving

    def _upload(
        self, place: Place, body: remote.StreamTail, size: int, sha256: str, *, overwrite: bool
    ) -> FileUploadResponse | None:
        """Upload a file. If the first attempt fails, try a second time.

        Returns ``None`` if the first attempt stored the file and only its response was lost.
        """
        try:
            return self._send(place, body, sha256, overwrite=overwrite)
        except BackendUnavailable as error:
            first = error
        try:
            return remote.second_attempt(first, lambda: self._send(place, body, sha256, overwrite=overwrite))
        except FileExists as error:
            if first.nothing_stored:
                raise
            if not self._is_stored(place, size, sha256, first):
                raise BackendTimeout("ImageKit did not confirm that it stored the file.", key=place.key) from error
            return None

    def _send(self, place: Place, body: remote.StreamTail, sha256: str, *, overwrite: bool) -> FileUploadResponse:
        body.seek(0)
        with self._errors(place.key):
            response = self._uploader.get().files.upload(
                file=(place.name, cast("IO[bytes]", body)),
                file_name=place.name,
                folder=place.folder,
                use_unique_file_name=False,
                overwrite_file=overwrite,
                is_private_file=self.private,
                tags=[tag_of(sha256)],
            )
        if getattr(response, "file_id", None) is None:  # the response is not ImageKit's; the file may be stored
            raise remote.unreachable(place.key)
        return response

    def _is_stored(self, place: Place, size: int, sha256: str, first: BackendUnavailable) -> bool:
        """Return whether the file that exists is the one of the first attempt. Raises ``first`` if in doubt."""
        try:
            found = self._find(place)
            stat = stat_of(place.key, found) if found else None
        except BackendError as error:  # it may claim that nothing was stored, but that is true only of the search
            raise first from error
        return stat is not None and (stat.size, stat.sha256) == (size, sha256)

    def _verify(self, place: Place, response: FileUploadResponse, size: int) -> None:
        file_id = cast("str", response.file_id)
        if (response.file_path, response.size) != (place.path, size):
            raise remote.discard_altered_upload(place.key, "ImageKit", lambda: self._delete(place.key, file_id))
        if len(self._ids) >= _MAX_REMEMBERED:
            self._ids.clear()
        self._ids[place.path] = file_id

    # -- finding and deleting

    def _find(self, place: Place) -> Mapping[str, Any] | None:
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
            assets = self._client.get().assets.with_raw_response
            return parse_json(assets.list(path=folder, limit=_PAGE, **options).read())

        with self._errors(None):
            page = remote.call_with_deadline(self.timeout, ask)
        if not isinstance(page, list) or not all(isinstance(found, dict) for found in page):
            raise remote.unreachable()
        return page

    def _is_delivered(self, place: Place) -> bool:
        """Return whether the file can be downloaded. A unique query bypasses the copies in the CDN."""
        link = self._signed(f"{place.path}?{_ORIGINAL}&now={secrets.token_hex(8)}", int(time.time()) + 60)
        try:
            self._download(place.key, link, lambda key: None).close()
        except (FileMissing, BackendRefused):
            return False
        return True

    def _download(self, key: str, link: str, stat: Callable[[str], Stat | None]) -> IO[bytes]:
        def refused(status: int) -> BackendRefused:
            return not_delivered(status, key, self.variable, signed=self.private)

        return download(key, link, timeout=self.timeout, stat=stat, refused=refused)

    def _delete(self, key: str, file_id: str) -> bool:
        """Delete a file. Return whether it existed."""
        from imagekitio import NotFoundError

        with self._errors(key):
            try:
                remote.call_with_deadline(self.timeout, lambda: self._client.get().files.delete(file_id))
            except NotFoundError:
                return False
        return True

    def _purge(self, place: Place) -> None:
        """Remove the copies in the CDN, which outlive the file. The star matches the queries of all its URLs."""
        with self._errors(place.key):
            create = self._client.get().cache.invalidation.create
            remote.call_with_deadline(self.timeout, lambda: create(url=f"{self.url_endpoint}{place.path}*"))

    def _signed(self, target: str, expires_at: int) -> str:
        if not self.private:
            return f"{self.url_endpoint}{target}"
        text = f"{target[1:]}{expires_at}".encode()
        signature = hmac.new(self._private_key.encode(), text, hashlib.sha1).hexdigest()
        return f"{self.url_endpoint}{target}&ik-t={expires_at}&ik-s={signature}"
