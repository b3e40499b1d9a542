"""The S3 backend. boto3 stores and reads files; :mod:`.sigv4` signs direct urls without it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from ... import content_types, keys
from ...config import Settings
from ...errors import InvalidKey
from ...stored import Stat
from .. import remote
from ..base import Backend
from ..description import plain, require
from . import saving, services
from . import settings as s3_settings
from .client import Boto3, Connection
from .errors import http_status, translated
from .sigv4 import MAX_EXPIRES, Credentials, presign

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CACHE_CONTROL = "private, max-age=31536000, immutable"  # the content of a key never changes


class S3Backend(Backend):
    """Keeps the file of a key as the object ``<prefix>/<key>``. It never sends an ACL and never creates a bucket.

    Without ``access_key_id``, boto3 looks for credentials in a profile, a role or the instance metadata.
    ``public_endpoint_url`` is the endpoint for browsers, if it is another one. ``public_url`` is the base URL of a
    public bucket or CDN: links to files that browsers show then begin with it and have no signature. ``timeout`` is in
    seconds, for one whole call; an upload may take longer while it makes progress.
    """

    name = "s3"
    description = s3_settings.DESCRIPTION
    parallel = 8

    def __init__(
        self,
        *,
        bucket: str,
        region: str | None = None,
        endpoint_url: str | None = None,
        public_endpoint_url: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        session_token: str | None = None,
        prefix: str = "uploads",
        public_url: str | None = None,
        timeout: float = 25,
    ) -> None:
        service = services.find(endpoint_url) if endpoint_url is not None else None
        self.bucket = bucket
        self.region = (service and service.region) or region or "us-east-1"
        self._endpoint_url = endpoint_url or services.aws_endpoint(self.region)
        self.prefix = prefix
        self.public_url = public_url
        self.permanent_urls = public_url is not None
        self.timeout = timeout
        # The service's wildcard certificate does not cover a bucket with a dot in its name.
        self._virtual = (endpoint_url is None or (service is not None and service.virtual)) and "." not in bucket
        self.api_url = self._base_url(self._endpoint_url)
        self._base = self._base_url(public_endpoint_url) if public_endpoint_url else self.api_url
        given = None if access_key_id is None else Credentials(access_key_id, secret_access_key or "", session_token)
        self._boto3 = Boto3(Connection(self._endpoint_url, self.region, self._virtual, given, timeout, self.variable))

    @classmethod
    def from_settings(cls, settings: Settings, *, environ: Mapping[str, str], instance_path: Path) -> S3Backend:
        problems = s3_settings.problems(settings, environ) if settings.is_set("s3_bucket") else ()
        require(settings, cls.description.needs, problems)
        return cls(
            bucket=settings["s3_bucket"],
            region=settings["s3_region"],
            endpoint_url=settings["s3_endpoint_url"],
            public_endpoint_url=settings["s3_public_endpoint_url"],
            access_key_id=settings["s3_access_key_id"],
            secret_access_key=plain(settings["s3_secret_access_key"]),
            session_token=s3_settings.session_token(settings),
            prefix=settings.prefix,
            public_url=settings["public_url"],
            timeout=settings.timeout,
        )

    def __str__(self) -> str:
        host = urlsplit(self._endpoint_url).netloc.rpartition("@")[2]
        return f"s3, bucket {self.bucket} at {host} ({self.region}), below {self.prefix}/"

    def client(self) -> S3Client:
        """Return boto3's client of this process, for operations on the bucket itself."""
        return self._boto3.client()

    def errors(self, key: str | None = None) -> AbstractContextManager[None]:
        """Translate boto3's errors into those of this package."""
        return translated(key, self.variable)

    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        options = {"Key": self._object(key), "ContentType": content_type, "CacheControl": _CACHE_CONTROL}
        if content_type == content_types.UNKNOWN:
            options["ContentDisposition"] = content_types.attachment(filename)
        with self.errors(key):
            target = saving.Target(self.client(), self.bucket, key, options, lambda: self._head(key), overwrite)
            return saving.save(target, stream, size)

    def open(self, key: str) -> IO[bytes]:
        with self.errors(key):
            response = self._call("get_object", Key=self._object(key))
        return io.BufferedReader(remote.Download(response["Body"], lambda: self.errors(key)), remote.PIECE)

    def stat(self, key: str) -> Stat | None:
        with self.errors(key):
            response = self._head(key)
        if response is None:
            return None
        return Stat(key, response["ContentLength"], response["LastModified"], response["Metadata"].get("sha256"))

    def delete(self, key: str) -> None:
        with self.errors(key):
            self._call("delete_object", Key=self._object(key))

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        root = f"{self.prefix}/"
        next_page: dict[str, str] = {}
        while True:
            with self.errors():
                page = self._call("list_objects_v2", Prefix=root + prefix, **next_page)
            for item in page.get("Contents", ()):
                with contextlib.suppress(InvalidKey):  # a "folder", or an object that this package did not store
                    yield Stat(keys.check(item["Key"][len(root) :]), item["Size"], item["LastModified"])
            if not page.get("IsTruncated"):
                return
            next_page = {"ContinuationToken": page["NextContinuationToken"]}

    def url(
        self, key: str, *, signed_at: int, expires_in: int, method: str = "GET", download_as: str | None = None
    ) -> str:
        name = self._object(key)
        if self.public_url is not None and download_as is None:
            return f"{self.public_url}/{quote(name)}"
        return presign(
            method,
            self._base,
            name,
            region=self.region,
            credentials=self._boto3.credentials(),
            signed_at=signed_at,
            expires_in=min(expires_in, MAX_EXPIRES),
            parameters=_response_headers(content_types.of_name(key), download_as) if method in {"GET", "HEAD"} else (),
        )

    def valid_until(self) -> float | None:
        return self._boto3.credentials().expires_at

    def _head(self, key: str) -> Any:
        """Return boto3's description of an object, or ``None`` if it does not exist.

        A response to HEAD has no body, so it does not tell why it was refused. A second request gets the reason.
        """
        from botocore.exceptions import ClientError

        try:
            return self._call("head_object", Key=self._object(key))
        except ClientError as error:
            if http_status(error) == 403:
                self._call("get_object", Key=self._object(key))["Body"].close()
            if http_status(error) != 404:
                raise
            self._call("list_objects_v2", MaxKeys=1)  # raises if the bucket is missing too
            return None

    def _call(self, operation: str, **parameters: Any) -> Any:
        """Call an operation of boto3's client that sends no file, within the timeout."""
        return remote.call_with_deadline(
            self.timeout, lambda: getattr(self.client(), operation)(Bucket=self.bucket, **parameters)
        )

    def _object(self, key: str) -> str:
        return f"{self.prefix}/{keys.check(key)}"

    def _base_url(self, endpoint_url: str) -> str:
        scheme, _, host = endpoint_url.partition("://")
        return f"{scheme}://{self.bucket}.{host}/" if self._virtual else f"{scheme}://{host}/{self.bucket}/"


@lru_cache(maxsize=1024)
def _response_headers(content_type: str, download_as: str | None) -> tuple[tuple[str, str], ...]:
    """Return the parameters that set the headers of the response. They are signed, so nobody can change them."""
    if download_as is not None:
        disposition, content_type = content_types.attachment(download_as), content_types.UNKNOWN
    else:
        disposition = "inline"
        content_type += "; charset=utf-8" if content_type.startswith("text/") else ""
    return (
        ("response-cache-control", _CACHE_CONTROL),
        ("response-content-disposition", disposition),
        ("response-content-type", content_type),
    )
