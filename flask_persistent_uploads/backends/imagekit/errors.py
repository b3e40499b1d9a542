"""Translates the errors of ImageKit's SDK into the errors of this package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ...errors import (
    BackendError,
    BackendRefused,
    BackendUnavailable,
    FileExists,
    TypeNotAllowed,
    UploadRejected,
    UploadTooLarge,
)
from ...log import logger
from .. import remote


@contextlib.contextmanager
def translated(key: str | None, variable: remote.Variable) -> Iterator[None]:
    """Translate the SDK's errors. Remedies name the arguments of the backend by ``variable``."""
    import httpx
    import imagekitio as sdk

    try:
        yield
    except sdk.APITimeoutError as error:
        no_connection = isinstance(error.__cause__, (httpx.ConnectTimeout, httpx.PoolTimeout))
        raise remote.timed_out(key, nothing_stored=no_connection) from error
    except sdk.APIStatusError as error:
        raise _refusal(error, key, variable) from error
    except (sdk.ImageKitError, ValueError) as error:  # ValueError: the response is not JSON
        no_connection = isinstance(error.__cause__, httpx.ConnectError)  # refused, unknown host, no route
        raise remote.unreachable(key, nothing_stored=no_connection) from error


def not_delivered(status: int, key: str, variable: remote.Variable, *, signed: bool) -> BackendRefused:
    """Return the error for a download that is refused with this HTTP status. ``signed``: the URL has a signature."""
    if status == 404:
        endpoint = variable("url_endpoint")
        return BackendRefused(
            "The file is stored, but it is not found at the address that files are delivered from.",
            remedy=f"Correct {endpoint}.",
            setting=endpoint,
            key=key,
        )
    if signed and status in {401, 403}:
        return BackendRefused(
            f"ImageKit did not accept the signature of the URL ({status}).",
            remedy=f"Correct {variable('private_key')}; if it is right, set the clock of this machine (NTP).",
            setting=variable("private_key"),
            key=key,
        )
    return BackendRefused(
        f"ImageKit refused to deliver the file ({status}).",
        remedy="Check the security settings in ImageKit's dashboard.",
        key=key,
    )


def _refusal(error: Any, key: str | None, variable: remote.Variable) -> BackendError | UploadRejected:
    """Translate a response with an error status. Its message is the only explanation that ImageKit gives."""
    status = error.status_code
    text = str(error.body.get("message", "")) if isinstance(error.body, dict) else ""
    small = text.lower()
    if "already exists" in small and key is not None:
        return FileExists(key)
    if status == 507 or ("storage" in small and ("limit" in small or "quota" in small or "exceed" in small)):
        return remote.full(key)
    if status in {401, 403}:
        return BackendRefused(
            f"ImageKit did not accept the private key ({status}).",
            remedy=f"Correct {variable('private_key')}.",
            setting=variable("private_key"),
            key=key,
        )
    if status == 429:
        wait = error.response.headers.get("X-RateLimit-Reset", "")  # milliseconds
        return BackendUnavailable(
            "ImageKit's limit of API calls is reached.",
            remedy="Wait until the limit ends, or choose a larger plan.",
            key=key,
            retry_after=-(-int(wait) // 1000) if wait.isdecimal() else 60,
            nothing_stored=True,
        )
    rejected = _rejected_file(status, small)
    if rejected is not None:
        logger.warning("ImageKit rejected %a: %a", key, text[:200])
        return rejected
    if status >= 500:
        return remote.unavailable(key, status=status)
    logger.error("ImageKit refused %a: %a", key, text[:200])
    return BackendRefused(
        f"ImageKit refused the request ({status}).", remedy="See the log for the reason that ImageKit gives.", key=key
    )


def _rejected_file(status: int, text: str) -> UploadRejected | None:
    """Return the error for a file that ImageKit does not accept, with a sentence for visitors."""
    if status == 413 or "too large" in text or "larger" in text or ("size" in text and "limit" in text):
        return UploadTooLarge("The file is too large.")
    if "type" in text and ("not supported" in text or "not allowed" in text):
        return TypeNotAllowed("Files of this type are not accepted.")
    return None
