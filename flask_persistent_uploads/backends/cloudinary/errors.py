"""Translates the errors of Cloudinary's SDK into the errors of this package.

The class of an SDK error stands for the HTTP status. Everything else is in its message.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import datetime, timezone

from ...errors import (
    BackendError,
    BackendRefused,
    BackendUnavailable,
    FileMissing,
    TypeNotAllowed,
    UploadRejected,
    UploadTooLarge,
)
from ...log import logger
from ...text import format_bytes, parse_time
from .. import remote

_WAIT = 60  # seconds, if Cloudinary does not say how long


@contextlib.contextmanager
def translated(key: str | None, variable: remote.Variable) -> Iterator[None]:
    """Translate the SDK's errors. Remedies name the arguments of the backend by ``variable``."""
    from cloudinary import exceptions as sdk

    try:
        yield
    except sdk.Error as error:
        raise _refusal(error, key, variable) from error
    except Exception as error:
        # The SDK does not know the status, such as 502, or the response is not Cloudinary's.
        raise remote.unreachable(key) from error


def not_delivered(status: int, key: str, variable: remote.Variable) -> BackendRefused:
    """Return the error for a download that is refused with this HTTP status."""
    if status == 401:
        return _wrong_credentials(key, variable)
    return BackendRefused(
        f"Cloudinary refused to deliver the file ({status}).",
        remedy="Check the security settings in Cloudinary's console.",
        key=key,
    )


def _refusal(error: Exception, key: str | None, variable: remote.Variable) -> BackendError | UploadRejected:
    from cloudinary import exceptions as sdk
    from urllib3.exceptions import HTTPError

    text = str(error)
    if isinstance(error, sdk.RateLimited):
        return BackendUnavailable(
            "Cloudinary's limit of API calls is reached.",
            remedy="Wait until the limit ends, or choose a larger plan.",
            key=key,
            retry_after=_seconds_to_wait(text),
            nothing_stored=True,
        )
    if isinstance(error, sdk.NotFound):
        if key is not None and "resource not found" in text.lower():
            return FileMissing(key)
        return BackendRefused(
            "There is no Cloudinary API at this address (404).",
            remedy=f"Correct {variable('upload_prefix')}.",
            setting=variable("upload_prefix"),
            key=key,
        )
    if isinstance(error, sdk.AuthorizationRequired):
        return _wrong_credentials(key, variable)
    if isinstance(error, sdk.NotAllowed):
        return BackendRefused(
            "Cloudinary refused the request (403). The API key lacks a permission.",
            remedy=f"Allow the API key in {variable('api_key')} to upload, read, list and delete files.",
            setting=variable("api_key"),
            key=key,
        )
    if isinstance(error, sdk.BadRequest):
        return _bad_request(text, key)
    if isinstance(error.__context__, HTTPError):
        return remote.connection_error(error.__context__, key)
    return remote.unavailable(key)


def _bad_request(text: str, key: str | None) -> BackendError | UploadRejected:
    small = text.lower()
    rejected = _rejected_file(small)
    if rejected is not None:
        logger.warning("Cloudinary rejected %a: %a", key, text[:200])
        return rejected
    if "stale request" in small:
        return BackendRefused(
            "Cloudinary refused the request (400). The clock of this machine is wrong.",
            remedy="Set the clock of this machine (NTP).",
            key=key,
        )
    if "quota" in small or "storage limit" in small:
        return remote.full(key)
    logger.error("Cloudinary refused %a: %a", key, text[:200])
    return BackendRefused(
        "Cloudinary refused the request (400).", remedy="See the log for the reason that Cloudinary gives.", key=key
    )


def _rejected_file(text: str) -> UploadRejected | None:
    """Return the error for a file that Cloudinary does not accept, with a sentence for visitors."""
    if found := re.search(r"file size too large.*maximum is (\d+)", text):
        return UploadTooLarge(f"The file is too large. At most {format_bytes(int(found[1]))} are accepted.")
    if "megapixel" in text:
        return UploadTooLarge("The picture has too many pixels.")
    if "invalid image" in text or "unsupported" in text or "not allowed" in text:
        return TypeNotAllowed("The content is not a picture or video of the type that the name of the file claims.")
    return None


def _wrong_credentials(key: str | None, variable: remote.Variable) -> BackendRefused:
    *others, last = dict.fromkeys(map(variable, ("cloud_name", "api_key", "api_secret")))
    return BackendRefused(
        "Cloudinary did not accept the credentials (401).",
        remedy=f"Correct {', '.join(others)} or {last}." if others else f"Correct {last}.",
        setting=variable("api_key"),
        key=key,
    )


def _seconds_to_wait(text: str) -> int:
    """Return the seconds until the time in ``Try again on 2026-11-21 13:00:00 UTC``, at most an hour."""
    found = re.search(r"try again on (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) utc", text, re.IGNORECASE)
    try:
        moment = parse_time(f"{found[1]}Z") if found else None
    except ValueError:
        moment = None
    if moment is None:
        return _WAIT
    return min(max(1, round((moment - datetime.now(timezone.utc)).total_seconds())), 3600)
