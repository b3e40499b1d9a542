"""Files in an S3 bucket, or in one of the many services that speak the same language.

Uploads go through boto3, imported with the first of them. Direct urls are signed by :mod:`.sigv4`, without it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

from .. import content_types, keys
from ..errors import (
    BackendError,
    BackendRefused,
    BackendUnavailable,
    FileExists,
    FileMissing,
    InvalidKey,
    WrongLength,
)
from ..stored import Stat
from . import remote, s3_services
from .base import Backend
from .sigv4 import MAX_EXPIRES, Credentials, presign

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ONE_REQUEST = 16 << 20  # bytes; above, a file goes up in parts
_PART = 6 << 20  # bytes, near the smallest that S3 takes (5 MiB), so that the two in flight stay small
_MAX_PARTS = 10_000

_CACHE = "private, max-age=31536000, immutable"  # what lies under a key never changes

_REFUSALS = {
    "AccessDenied": "its credentials lack a permission (s3:GetObject, s3:PutObject and s3:DeleteObject on the objects, "
    "s3:ListBucket on the bucket itself)",
    "AllAccessDisabled": "the account is disabled",
    "InvalidAccessKeyId": "the access key is not known there; correct UPLOADS_S3_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret does not fit the access key; correct UPLOADS_S3_SECRET_ACCESS_KEY",
    "ExpiredToken": "the temporary credentials have ended; renew UPLOADS_S3_SESSION_TOKEN and both keys",
    "InvalidToken": "the session token does not fit; correct UPLOADS_S3_SESSION_TOKEN",
    "RequestTimeTooSkewed": "the clock of this machine is wrong by more than 15 minutes",
    "NoSuchBucket": "there is no such bucket; make it, or correct UPLOADS_S3_BUCKET",
    "InvalidBucketName": "a bucket's name has 3 to 63 lower-case letters, digits and '-'; correct UPLOADS_S3_BUCKET",
    "404": "this address answers, but not as S3 does; correct UPLOADS_S3_ENDPOINT_URL",
    "PermanentRedirect": "the bucket is in another region; correct UPLOADS_S3_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region; correct UPLOADS_S3_REGION",
    "BadDigest": "the content was altered on its way; nothing was stored",
}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"}
_SLOW = {"SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "TooManyRequests", "RequestTimeout"}


class S3Backend(Backend):
    """Keeps the file of a key as the object ``<prefix>/<key>``. No ACL is ever sent and no bucket ever made.

    Without ``access_key_id`` boto3's own chain of credentials is asked (profiles, roles, instance metadata).
    ``public_endpoint_url`` is the endpoint as browsers reach it. With ``public_url``, the base URL of a public bucket
    or CDN, what is shown inline is linked there, unsigned. ``timeout`` is in seconds, for one call in all; an upload
    may take longer, as long as bytes flow.
    """

    name = "s3"
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
        service = s3_services.find(endpoint_url) if endpoint_url is not None else None
        self.bucket = bucket
        self.region = (service and service.region) or region or "us-east-1"
        self._endpoint_url = endpoint_url or s3_services.aws_endpoint(self.region)
        self.prefix = prefix
        self.public_url = public_url
        self.permanent_urls = public_url is not None
        self.timeout = timeout
        # A bucket with a dot is not covered by the service's wildcard certificate.
        self._virtual = (endpoint_url is None or (service is not None and service.virtual)) and "." not in bucket
        self.api_url = self._base_url(self._endpoint_url)
        self._base = self._base_url(public_endpoint_url) if public_endpoint_url else self.api_url
        self._static = (
            Credentials(access_key_id, secret_access_key or "", session_token) if access_key_id is not None else None
        )
        self._session_and_client = remote.PerProcess(self._build)

    def __str__(self) -> str:
        host = urlsplit(self._endpoint_url).netloc.rpartition("@")[2]
        return f"s3, bucket {self.bucket} at {host} ({self.region}), below {self.prefix}/"

    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        options: dict[str, Any] = {"Key": self._object(key), "ContentType": content_type, "CacheControl": _CACHE}
        if content_type == content_types.UNKNOWN:
            options["ContentDisposition"] = content_types.attachment(filename)
        with self.errors(key):
            if size > ONE_REQUEST:
                return self._save_in_parts(key, stream, size, options, overwrite=overwrite)
            return self._save_at_once(key, stream, size, options, overwrite=overwrite)

    def open(self, key: str) -> IO[bytes]:
        with self.errors(key):
            answer = self._ask("get_object", Key=self._object(key))
        return io.BufferedReader(remote.Download(answer["Body"], lambda: self.errors(key)), remote.PIECE)

    def stat(self, key: str) -> Stat | None:
        with self.errors(key):
            answer = self._head(key)
        if answer is None:
            return None
        return Stat(key, answer["ContentLength"], answer["LastModified"], answer["Metadata"].get("sha256"))

    def delete(self, key: str) -> None:
        with self.errors(key):
            self._ask("delete_object", Key=self._object(key))

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        root = f"{self.prefix}/"
        more: dict[str, str] = {}
        while True:
            with self.errors(None):
                page = self._ask("list_objects_v2", Prefix=root + prefix, **more)
            for item in page.get("Contents", ()):
                with contextlib.suppress(InvalidKey):  # a "folder", or another program's object
                    yield Stat(keys.check(item["Key"][len(root) :]), item["Size"], item["LastModified"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

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
            credentials=self._credentials(),
            signed_at=signed_at,
            expires_in=min(expires_in, MAX_EXPIRES),
            parameters=_answer_headers(content_types.of_name(key), download_as) if method in {"GET", "HEAD"} else (),
        )

    def valid_until(self) -> float | None:
        return self._credentials().expires_at

    def _head(self, key: str) -> Any:
        from botocore.exceptions import ClientError

        try:
            return self._ask("head_object", Key=self._object(key))
        except ClientError as error:
            if _status(error) == 403:  # an answer to HEAD has no body to say why: this has, and raises
                self._ask("get_object", Key=self._object(key))["Body"].close()
            if _status(error) != 404:
                raise
            # Without a body this may mean the bucket as well, which is broken, not "not there": this would raise.
            self._ask("list_objects_v2", MaxKeys=1)
            return None

    def _object(self, key: str) -> str:
        return f"{self.prefix}/{keys.check(key)}"

    def _base_url(self, endpoint_url: str) -> str:
        scheme, _, host = endpoint_url.partition("://")
        return f"{scheme}://{self.bucket}.{host}/" if self._virtual else f"{scheme}://{host}/{self.bucket}/"

    # -- saving

    def _save_at_once(self, key: str, stream: IO[bytes], size: int, options: dict[str, Any], *, overwrite: bool) -> str:
        # Content-MD5, because every S3 service checks it; x-amz-checksum-* is refused by some (Backblaze B2).
        digests, body = remote.read_through(key, stream, size), remote.Rest(stream)
        mark = {"sha256": digests.sha256.hexdigest()}

        def put(condition: dict[str, Any]) -> None:
            body.seek(0)
            self.client().put_object(
                Bucket=self.bucket,
                Body=cast("IO[bytes]", body),
                ContentMD5=_base64(digests.md5),
                Metadata=mark,
                **options,
                **condition,
            )

        self._once(key, mark, put, overwrite=overwrite)
        return mark["sha256"]

    def _save_in_parts(
        self, key: str, stream: IO[bytes], size: int, options: dict[str, Any], *, overwrite: bool
    ) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        client, mark = self.client(), {"upload": secrets.token_hex(16)}
        upload: dict[str, Any] = {"Bucket": self.bucket, "Key": options["Key"]}
        created = client.create_multipart_upload(Bucket=self.bucket, Metadata=mark, **options)
        upload["UploadId"] = created["UploadId"]
        try:
            parts, sha256 = self._send_parts(client, upload, key, stream, size)

            def complete(condition: dict[str, Any]) -> None:
                client.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload, **condition)

            self._once(key, mark, complete, overwrite=overwrite)
        except BaseException:
            with contextlib.suppress(BotoCoreError, ClientError):  # what broke is raised; a lifecycle rule sweeps
                client.abort_multipart_upload(**upload)
            raise
        return sha256

    def _send_parts(
        self, client: S3Client, upload: dict[str, Any], key: str, stream: IO[bytes], size: int
    ) -> tuple[list[Any], str]:
        """The parts, and the SHA-256 of what they hold: two in flight, so that memory stays flat."""

        def send(number: int, piece: bytes) -> dict[str, Any]:
            md5 = _base64(hashlib.md5(piece, usedforsecurity=False))
            return {
                "PartNumber": number,
                "ETag": client.upload_part(PartNumber=number, Body=piece, ContentMD5=md5, **upload)["ETag"],
            }

        length = max(_PART, -(-size // _MAX_PARTS))
        parts: list[Any] = []
        flying: deque[Future[dict[str, Any]]] = deque()
        sha256, found = hashlib.sha256(), 0
        with ThreadPoolExecutor(max_workers=2) as pool:
            for number in itertools.count(1):
                if len(flying) == 2:
                    parts.append(flying.popleft().result())
                piece = remote.read_fully(stream, length)
                if not piece:
                    break
                flying.append(pool.submit(send, number, piece))
                sha256.update(piece)
                found += len(piece)
            parts.extend(future.result() for future in flying)
        if found != size:
            raise WrongLength(key, expected=size, found=found)
        return parts, sha256.hexdigest()

    def _once(self, key: str, mark: dict[str, str], put: Callable[[dict[str, Any]], None], *, overwrite: bool) -> None:
        """Run ``put`` so that it replaces nothing unless told, also where an answer got lost and it ran twice.

        ``mark`` is metadata by which we know our own object again.
        """
        from botocore.exceptions import ClientError

        try:
            put({} if overwrite else {"IfNoneMatch": "*"})
        except ClientError as error:
            status, repeated = _status(error), error.response["ResponseMetadata"].get("RetryAttempts", 0) > 0
            if status == 501 and not overwrite:  # a service without conditional writes
                if self.stat(key) is not None:
                    raise FileExists(key) from None
                put({})
            elif status in {404, 412} and repeated and self._bears(key, mark):
                return  # our own first attempt had arrived; only its answer was lost
            elif status == 412:
                raise FileExists(key) from None
            else:
                raise

    def _bears(self, key: str, mark: dict[str, str]) -> bool:
        answer = self._head(key)
        return answer is not None and bool(mark.items() <= answer["Metadata"].items())

    # -- the client

    def _ask(self, operation: str, **parameters: Any) -> Any:
        """One call that is no upload, within the timeout."""
        return remote.within(self.timeout, lambda: getattr(self.client(), operation)(Bucket=self.bucket, **parameters))

    def client(self) -> S3Client:
        """boto3's client of this process, for what a backend does not do itself."""
        return self._session_and_client.get()[1]

    def _build(self) -> tuple[Any, S3Client]:
        import boto3
        from botocore.config import Config

        connect = min(3.0, self.timeout / 8)
        config = Config(
            signature_version="s3v4",
            connect_timeout=connect,
            # Two attempts and the pause between them (at most 1 s) end within the timeout.
            read_timeout=max(0.5, (self.timeout - 1) / 2 - connect),
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=64,
            tcp_keepalive=True,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={
                "addressing_style": "virtual" if self._virtual else "path",
                "us_east_1_regional_endpoint": "regional",
                # Content-MD5 is signed and says the same: one digest less to compute.
                "payload_signing_enabled": False,
            },
        )
        given = self._static
        session = boto3.session.Session(
            aws_access_key_id=given.access_key_id if given else None,
            aws_secret_access_key=given.secret_access_key if given else None,
            aws_session_token=given.session_token if given else None,
            region_name=self.region,
        )
        client = session.client("s3", endpoint_url=self._endpoint_url, config=config)
        client.meta.events.register_first("needs-retry.s3", self._refuse_other_region)
        return session, client

    def _refuse_other_region(self, response: Any = None, **_: Any) -> None:
        """boto3 would quietly follow the bucket to its region, while every direct url names the wrong one."""
        if response is None or response[0].status_code not in {301, 307, 400}:
            return
        region = response[0].headers.get("x-amz-bucket-region")
        if region and region != self.region:
            raise BackendRefused(f"The bucket is in the region {region}, not {self.region}: correct UPLOADS_S3_REGION.")

    def _credentials(self) -> Credentials:
        if self._static is not None:
            return self._static
        from botocore.exceptions import NoCredentialsError

        with self.errors(None):
            found = self._session_and_client.get()[0].get_credentials()
            if found is None:
                raise NoCredentialsError
            frozen = found.get_frozen_credentials()
        expiry: datetime | None = getattr(found, "_expiry_time", None)
        expires_at = expiry.timestamp() if expiry is not None else None
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token, expires_at)

    @contextlib.contextmanager
    def errors(self, key: str | None = None) -> Iterator[None]:
        """The one place where boto3's errors become ours."""
        from botocore import exceptions as boto

        try:
            yield
        except boto.ClientError as error:
            raise _refusal(error, key) from error
        except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError) as error:
            raise BackendRefused(
                "No credentials for the bucket were found: set UPLOADS_S3_ACCESS_KEY_ID and "
                "UPLOADS_S3_SECRET_ACCESS_KEY, or give this machine a role.",
                key=key,
            ) from error
        except boto.ParamValidationError as error:
            raise BackendRefused("The name of the bucket or the key cannot be one of S3's.", key=key) from error
        except boto.ReadTimeoutError as error:
            raise remote.timed_out(key) from error
        except boto.BotoCoreError as error:
            raise remote.unreachable(key) from error


@lru_cache(maxsize=1024)
def _answer_headers(content_type: str, download_as: str | None) -> tuple[tuple[str, str], ...]:
    """What the service shall answer with, signed, so that nobody can ask for anything else."""
    if download_as is not None:
        disposition, content_type = content_types.attachment(download_as), content_types.UNKNOWN
    else:
        disposition = "inline"
        content_type += "; charset=utf-8" if content_type.startswith("text/") else ""
    return (
        ("response-cache-control", _CACHE),
        ("response-content-disposition", disposition),
        ("response-content-type", content_type),
    )


def _base64(digest: hashlib._Hash) -> str:
    return base64.b64encode(digest.digest()).decode()


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _refusal(error: Any, key: str | None) -> BackendError:
    """Our error for an answer of the service. Its text is not repeated: it may name keys and what was signed."""
    status, code = _status(error), str(error.response.get("Error", {}).get("Code", ""))
    if code == "NoSuchKey" and key is not None:
        return FileMissing(key)
    if code in _FULL or status == 507:
        return remote.full(key)
    if code in _SLOW or status >= 500 or status in {409, 429}:
        return BackendUnavailable(f"The store for uploads is not available now ({code or status}).", key=key)
    reason = _REFUSALS.get(code) or (_REFUSALS["AccessDenied"] if status == 403 else "see its documentation for this")
    return BackendRefused(f"The store for uploads refused ({code or status}): {reason}.", key=key)
