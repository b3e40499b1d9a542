"""Stores one file as an S3 object: in one request, or in parts if it is large."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from ...errors import BackendError, BackendTimeout, FileExists, WrongLength
from .. import remote
from .errors import http_status, was_repeated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ONE_REQUEST = 16 << 20  # bytes; a larger file is sent in parts
_PART = 5 << 20  # bytes; the smallest part that S3 accepts, because two are in memory at a time
_MAX_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class Target:
    """The object that a file becomes.

    :attr:`key`      the file's key
    :attr:`options`  boto3's name for the object, its content type and its headers
    :attr:`head`     returns boto3's description of the object, or ``None`` if there is none
    """

    client: S3Client
    bucket: str
    key: str
    options: Mapping[str, Any]
    head: Callable[[], Any]
    overwrite: bool


def save(target: Target, stream: IO[bytes], size: int) -> str:
    """Store the rest of a stream. Return its SHA-256 (hex)."""
    return _save_in_parts(target, stream, size) if size > ONE_REQUEST else _save_at_once(target, stream, size)


def _save_at_once(target: Target, stream: IO[bytes], size: int) -> str:
    # Content-MD5, because every S3 service checks it; some, such as Backblaze B2, refuse x-amz-checksum-*.
    digests, body = remote.read_through(target.key, stream, size), remote.StreamTail(stream)
    metadata = {"sha256": digests.sha256.hexdigest()}

    def put(condition: dict[str, Any]) -> None:
        body.seek(0)
        target.client.put_object(
            Bucket=target.bucket,
            Body=cast("IO[bytes]", body),
            ContentMD5=_base64(digests.md5),
            Metadata=metadata,
            **target.options,
            **condition,
        )

    put_if_absent(target, metadata, put)
    return metadata["sha256"]


def _save_in_parts(target: Target, stream: IO[bytes], size: int) -> str:
    from botocore.exceptions import BotoCoreError, ClientError

    client, metadata = target.client, {"upload": secrets.token_hex(16)}
    created = client.create_multipart_upload(Bucket=target.bucket, Metadata=metadata, **target.options)
    upload: dict[str, Any] = {"Bucket": target.bucket, "Key": target.options["Key"], "UploadId": created["UploadId"]}
    try:
        parts, sha256 = _send_parts(target, upload, stream, size)

        def complete(condition: dict[str, Any]) -> None:
            client.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload, **condition)

        put_if_absent(target, metadata, complete)
    except BaseException:
        # The first error is reported, not this one. A lifecycle rule of the bucket deletes the parts that are left.
        with contextlib.suppress(BotoCoreError, ClientError, BackendError):
            client.abort_multipart_upload(**upload)
        raise
    return sha256


def _send_parts(target: Target, upload: dict[str, Any], stream: IO[bytes], size: int) -> tuple[list[Any], str]:
    """Send the parts, two at a time. Return boto3's list of them, and the SHA-256 (hex) of the content."""

    def send(number: int, piece: bytes) -> dict[str, Any]:
        md5 = _base64(hashlib.md5(piece, usedforsecurity=False))
        sent = target.client.upload_part(PartNumber=number, Body=piece, ContentMD5=md5, **upload)
        return {"PartNumber": number, "ETag": sent["ETag"]}

    length = max(_PART, -(-size // _MAX_PARTS))
    parts: list[Any] = []
    in_flight: deque[Future[dict[str, Any]]] = deque()
    sha256, found = hashlib.sha256(), 0
    with ThreadPoolExecutor(max_workers=2) as pool:
        for number in itertools.count(1):
            if len(in_flight) == 2:
                parts.append(in_flight.popleft().result())
            piece = remote.read_fully(stream, length)
            if not piece:
                break
            in_flight.append(pool.submit(send, number, piece))
            sha256.update(piece)
            found += len(piece)
        parts.extend(future.result() for future in in_flight)
    if found != size:
        raise WrongLength(target.key, expected=size, found=found)
    return parts, sha256.hexdigest()


def put_if_absent(target: Target, metadata: dict[str, str], put: Callable[[dict[str, Any]], None]) -> None:
    """Call ``put`` so that it replaces no object, unless ``overwrite`` is set.

    boto3 repeats a request whose response was lost. ``metadata`` then tells whether the object that exists is the one
    that the first attempt stored.
    """
    from botocore.exceptions import ClientError

    try:
        put({} if target.overwrite else {"IfNoneMatch": "*"})
    except ClientError as error:
        status = http_status(error)
        if status == 501 and not target.overwrite:  # a service without conditional writes
            if target.head() is not None:
                raise FileExists(target.key) from None
            put({})
        elif status in {404, 412} and was_repeated(error) and has_metadata(target, metadata):
            return
        elif status == 412:
            raise FileExists(target.key) from None
        else:
            raise


def has_metadata(target: Target, metadata: dict[str, str]) -> bool:
    """Return whether the object exists and has this metadata.

    Raises ``BackendUnavailable`` or ``BackendTimeout`` if that cannot be found out: the object may be stored.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found = target.head()
    except BackendTimeout:
        raise
    except (BotoCoreError, ClientError, BackendError) as error:
        raise remote.unreachable(target.key) from error
    return found is not None and bool(metadata.items() <= found["Metadata"].items())


def _base64(digest: hashlib._Hash) -> str:
    return base64.b64encode(digest.digest()).decode()
