"""boto3's client and credentials. boto3 is imported with the first request, or to find the credentials."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .. import remote
from .errors import translated, was_not_sent, wrong_region
from .sigv4 import Credentials

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True, repr=False)  # the URL of the endpoint may hold a password
class Connection:
    """What boto3 needs to reach a service.

    :attr:`virtual`      whether buckets are addressed by host name instead of by path
    :attr:`credentials`  ``None`` if boto3 finds them by itself
    :attr:`timeout`      in seconds, for one call and its repetition
    :attr:`variable`     the backend's ``variable``, for remedies
    """

    endpoint_url: str
    region: str
    virtual: bool
    credentials: Credentials | None
    timeout: float
    variable: remote.Variable


class Boto3:
    """A session and a client of boto3, which each process builds when it first uses them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._built = remote.PerProcess(self._build)

    def client(self) -> S3Client:
        return self._built.get()[1]

    def credentials(self) -> Credentials:
        """Return the credentials to sign with. Raise ``BackendRefused`` if boto3 finds none."""
        given = self._connection.credentials
        if given is not None:
            return given
        from botocore.exceptions import NoCredentialsError

        with translated(None, self._connection.variable):
            found = self._built.get()[0].get_credentials()
            if found is None:
                raise NoCredentialsError
            frozen = found.get_frozen_credentials()
        expiry: datetime | None = getattr(found, "_expiry_time", None)
        expires_at = expiry.timestamp() if expiry is not None else None
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token, expires_at)

    def _build(self) -> tuple[Any, S3Client]:
        import boto3

        given = self._connection.credentials
        session = boto3.session.Session(
            aws_access_key_id=given.access_key_id if given else None,
            aws_secret_access_key=given.secret_access_key if given else None,
            aws_session_token=given.session_token if given else None,
            region_name=self._connection.region,
        )
        client = session.client("s3", endpoint_url=self._connection.endpoint_url, config=self._config())
        client.meta.events.register_first("needs-retry.s3", self._after_attempt)
        return session, client

    def _config(self) -> Any:
        from botocore.config import Config

        timeout = self._connection.timeout
        connect = min(3.0, timeout / 8)
        return Config(
            signature_version="s3v4",
            connect_timeout=connect,
            # Two attempts, and the pause of at most 1 s between them, end within the timeout.
            read_timeout=max(0.5, (timeout - 1) / 2 - connect),
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=64,
            tcp_keepalive=True,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={
                "addressing_style": "virtual" if self._connection.virtual else "path",
                "us_east_1_regional_endpoint": "regional",
                # Content-MD5 is signed and protects the payload too, so no second digest is computed.
                "payload_signing_enabled": False,
            },
        )

    def _after_attempt(
        self, response: Any, caught_exception: Exception | None, request_dict: dict[str, Any], **_: Any
    ) -> None:
        """Check each attempt at a request before boto3 decides whether to repeat it."""
        if response is not None:
            self._refuse_other_region(response[0])
        context = request_dict["context"]
        if caught_exception is None or not was_not_sent(caught_exception):
            context["uploads_was_sent"] = True
        elif context.get("uploads_was_sent"):  # the first attempt may have succeeded
            raise remote.unreachable() from caught_exception

    def _refuse_other_region(self, response: Any) -> None:
        """Raise ``BackendRefused`` if the bucket is in another region.

        boto3 would silently use that region, but every direct url would name the wrong one.
        """
        region = response.headers.get("x-amz-bucket-region")
        if response.status_code in {301, 307, 400} and region and region != self._connection.region:
            raise wrong_region(region, self._connection.region, self._connection.variable)
