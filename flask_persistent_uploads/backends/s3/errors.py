"""Translates the errors of boto3 and of S3 services into the errors of this package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...errors import BackendError, BackendRefused, BackendUnavailable, FileMissing
from .. import remote


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What an error code means, and what to do.

    :attr:`argument`  the argument of the backend's constructor that is wrong, if there is one
    :attr:`remedy`    ``{}`` stands for the variable of that argument
    """

    message: str
    argument: str | None = None
    remedy: str = "Correct {}."


_ACCESS_DENIED = _Refusal(
    "The credentials lack a permission.",
    remedy="Allow s3:GetObject, s3:PutObject and s3:DeleteObject on the objects, and s3:ListBucket on the bucket.",
)
_UNKNOWN = _Refusal("", remedy="Look the code up in the service's documentation.")
_OTHER_REGION = _Refusal("The bucket is in another region.", "region")
_REFUSALS = {
    "AccessDenied": _ACCESS_DENIED,
    "AllAccessDisabled": _Refusal("The account is disabled.", remedy="Ask the service for the reason."),
    "InvalidAccessKeyId": _Refusal("The service does not know the access key.", "access_key_id"),
    "SignatureDoesNotMatch": _Refusal("The secret does not belong to the access key.", "secret_access_key"),
    "ExpiredToken": _Refusal(
        "The temporary credentials have expired.", "session_token", "Renew {} and the two keys that belong to it."
    ),
    "InvalidToken": _Refusal("The session token is not valid.", "session_token"),
    "RequestTimeTooSkewed": _Refusal(
        "The clock of this machine is wrong by more than 15 minutes.", remedy="Set the clock, for example by NTP."
    ),
    "NoSuchBucket": _Refusal("There is no such bucket.", "bucket", "Create the bucket, or correct {}."),
    "InvalidBucketName": _Refusal(
        "A bucket's name has 3 to 63 lower-case letters, digits and hyphens; this one does not.", "bucket"
    ),
    "404": _Refusal("There is no S3 service at this address.", "endpoint_url"),
    "PermanentRedirect": _OTHER_REGION,
    "AuthorizationHeaderMalformed": _OTHER_REGION,
    "BadDigest": _Refusal("The content was altered on its way. Nothing was stored.", remedy="Try again."),
}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"}
_SLOW = {"SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "TooManyRequests", "RequestTimeout"}


@contextlib.contextmanager
def translated(key: str | None, variable: remote.Variable) -> Iterator[None]:
    """Translate boto3's errors. Remedies name the arguments of the backend by ``variable``."""
    from botocore import exceptions as boto

    try:
        yield
    except boto.ClientError as error:
        raise _refusal(error, key, variable) from error
    except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError) as error:
        access_key_id = variable("access_key_id")
        raise BackendRefused(
            "No credentials for the bucket were found.",
            remedy=f"Set {access_key_id} and {variable('secret_access_key')}, or give this machine a role.",
            setting=access_key_id,
            key=key,
        ) from error
    except boto.ParamValidationError as error:
        bucket = variable("bucket")
        message = "The name of the bucket or the key is not valid in S3."
        raise BackendRefused(message, remedy=f"Correct {bucket}.", setting=bucket, key=key) from error
    except boto.ReadTimeoutError as error:
        raise remote.timed_out(key) from error
    except boto.BotoCoreError as error:
        raise remote.unreachable(key, nothing_stored=was_not_sent(error)) from error


def was_not_sent(error: BaseException) -> bool:
    """Return whether a request of boto3 failed before any of it was sent."""
    from botocore import exceptions as boto

    # EndpointConnectionError stands for a refused connection and for an unknown host.
    return isinstance(error, (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError))


def wrong_region(actual: str, configured: str, variable: remote.Variable) -> BackendRefused:
    """Return the error for a bucket that is in another region than the configured one."""
    setting = variable("region")
    return BackendRefused(
        f"The bucket is in the region {actual}, not {configured}.",
        remedy=f"Set {setting} to {actual}.",
        setting=setting,
        service_code="PermanentRedirect",
    )


def http_status(error: Any) -> int:
    """Return the HTTP status of a boto3 ``ClientError``; 0 if it has none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def was_repeated(error: Any) -> bool:
    """Return whether a boto3 ``ClientError`` is of a repeated request, whose first attempt may have succeeded."""
    return bool(error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0)


def _refusal(error: Any, key: str | None, variable: remote.Variable) -> BackendError:
    found = _meaning(http_status(error), str(error.response.get("Error", {}).get("Code", "")), key, variable)
    found.nothing_stored = found.nothing_stored and not was_repeated(error)
    return found


def _meaning(status: int, code: str, key: str | None, variable: remote.Variable) -> BackendError:
    """Translate a response of the service. Its text is not repeated: it may hold keys and parts of the signature."""
    if code == "NoSuchKey" and key is not None:
        return FileMissing(key)
    service_code = code or str(status)
    if code in _FULL or status == 507:
        return remote.full(key, service_code=service_code)
    if code in _SLOW or status >= 500 or status in {409, 429}:
        return BackendUnavailable(
            f"The service is not available at the moment ({service_code}).", key=key, service_code=service_code
        )
    refusal = _REFUSALS.get(code, _ACCESS_DENIED if status == 403 else _UNKNOWN)
    setting = variable(refusal.argument) if refusal.argument else None
    return BackendRefused(
        f"The service refused the request ({service_code}). {refusal.message}".strip(),
        remedy=refusal.remedy.format(setting),
        setting=setting,
        key=key,
        service_code=service_code,
    )
