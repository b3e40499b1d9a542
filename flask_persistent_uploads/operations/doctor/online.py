"""Try the store: save a small file, read it in every way, and delete it again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import parsedate_to_datetime

from ...backends.description import PUBLIC_URL
from ...errors import BackendError, BackendTimeout, Problem, UploadRejected
from .. import bucket_checks, web
from ..bucket import address_variable
from ..checks import FAILURE, WARNING, Check, Finding, failure, ok, problem_of, warning
from ..trial import StoreTrial

_SUCCESS, _PARTIAL = 200, 206
_NOTICEABLE_SKEW, _MAX_SKEW = 60, 900  # seconds: S3 refuses signatures that are 15 minutes off
_SIGNATURE = re.compile(r"((?:X-Amz-Signature|signature|ik-s)=[^&]*)([^&])")
_TRY_AGAIN = "Try again, and see the status page of the service."
_PROXY = "Check that proxies in front of the store pass on paths, queries and headers unchanged."


def attempt(trial: StoreTrial, check: str, call: Callable[[], object], success: str) -> Finding:
    """Return the finding of a check that makes one call to the store."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - another package's backend may raise anything
        return explain(trial, check, error)
    return ok(success)


def explain(trial: StoreTrial, check: str, error: Exception) -> Finding:
    """Return the finding of a check whose call to the store raised an error."""
    if isinstance(error, UploadRejected):
        return failure(str(error.description), "See the limits of the service and of your plan.")
    if trial.bucket is not None and isinstance(error, BackendError):
        permission = bucket_checks.missing_permission(trial.bucket, check, error)
        if permission is not None:
            return Finding(FAILURE, permission)
    problem = problem_of(error)
    return Finding(FAILURE, problem if problem.remedy else replace(problem, remedy=_TRY_AGAIN))


# -- before anything is stored


def service(trial: StoreTrial) -> Finding | None:
    """Check that the service answers."""
    try:
        if trial.service_response is None:
            return None
    except web.Unreachable as error:
        variable = address_variable(trial.settings) if trial.bucket is not None else None
        correct = f"Correct {variable}" if variable else "Correct the address of the service in the settings"
        remedy = f"{correct} if it is wrong. Otherwise, check that the service works and that this host can reach it."
        return failure(f"{trial.address} does not answer: {error}.", remedy, setting=variable)
    return ok(f"{trial.address} answers.")


def clock_skew(trial: StoreTrial) -> Finding | None:
    """Check that the clock agrees with that of the service, because signatures contain the time."""
    response = trial.service_response
    if response is None or "Age" in response.headers:  # then the response comes from a cache, and its date is old
        return None
    try:
        theirs = parsedate_to_datetime(response.headers["Date"])
    except (KeyError, TypeError, ValueError):
        return None
    seconds = round(time.time() - theirs.timestamp())
    if abs(seconds) < _NOTICEABLE_SKEW:
        return ok("The clock agrees with the clock of the service.")
    message = f"The clock is {abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} the clock of the service."
    return (failure if abs(seconds) >= _MAX_SKEW else warning)(message, "Set the clock of this machine (NTP).")


def access(trial: StoreTrial) -> Finding:
    """Check that the store accepts the credentials. Other checks report missing permissions."""
    try:
        trial.reach()
    except Exception as error:  # noqa: BLE001 - another package's backend may raise anything
        if trial.bucket is None or not bucket_checks.is_denied(error):
            return explain(trial, "access", error)
    return ok("The store answers with these settings.")


def save(trial: StoreTrial) -> Finding:
    """Check that a file can be saved."""
    try:
        trial.save()
    except Exception as error:  # noqa: BLE001 - another package's backend may raise anything
        finding = explain(trial, "save", error)
        # A save that timed out may still complete after the file was removed.
        in_doubt = isinstance(error, BackendTimeout) and trial.may_exist
        return _with_leftover(trial, finding) if not trial.remove() or in_doubt else finding
    return ok("A file can be saved.")


# -- the file in the store


def stat(trial: StoreTrial) -> Finding:
    """Check that the store knows the file. A search index may lag behind."""
    finding = attempt(trial, "stat", trial.stored_size, "The store knows the file and its size.")
    if finding.status != FAILURE and not trial.wait_until(lambda: trial.stored_size() == len(trial.content)):
        message = "The store does not know the file that was just saved."
        return failure(message, "Find out whether another program deletes files from this store.")
    return finding


def missing_file(trial: StoreTrial) -> Finding:
    """Check that the store reports a missing file as missing, not as forbidden."""
    success = "The store reports a missing file as missing."
    return attempt(trial, "missing file", lambda: trial.call(lambda: trial.backend.stat(trial.missing_key)), success)


def read(trial: StoreTrial) -> Finding:
    """Check that the file is read back unaltered."""
    try:
        content = trial.read()
    except Exception as error:  # noqa: BLE001 - another package's backend may raise anything
        return explain(trial, "read", error)
    if content != trial.content:
        return failure("The file that is read back is not the file that was saved.", _PROXY)
    return ok("The file is read back unaltered.")


def delete(trial: StoreTrial) -> Finding:
    """Check that the file can be deleted, and that it is gone afterwards."""
    finding = attempt(trial, "delete", trial.delete, "A file can be deleted.")
    if finding.status == FAILURE:
        return _with_leftover(trial, finding)
    if not trial.wait_until(lambda: trial.stored_size() is None):
        return _with_leftover(trial, failure("A file that was deleted is still in the store.", _TRY_AGAIN))
    return finding


def _with_leftover(trial: StoreTrial, finding: Finding) -> Finding:
    """Add that the file may be left in the store."""
    return replace(finding, details=(Problem(f"The file {trial.place} may be left in the store.", "Delete it."),))


# -- the file as a browser requests it


def link(trial: StoreTrial) -> Finding | None:
    """Check that the direct url returns the file."""
    return _request(trial, "GET", {}, _SUCCESS, trial.content, "The direct url returns the file.")


def link_by_head(trial: StoreTrial) -> Finding | None:
    """Check that the direct url answers HEAD."""
    return _request(trial, "HEAD", {}, _SUCCESS, b"", "The direct url answers HEAD.")


def link_by_range(trial: StoreTrial) -> Finding | None:
    """Check that the direct url returns a part of the file."""
    headers, part = {"Range": "bytes=6-12"}, trial.content[6:13]
    return _request(trial, "GET", headers, _PARTIAL, part, "The direct url returns a range of bytes.")


def tampering(trial: StoreTrial) -> Finding | None:
    """Check that the direct url does not work with an altered signature or without one."""
    url = trial.url("GET") or ""
    altered, found = _SIGNATURE.subn(lambda match: match[1] + ("0" if match[2] != "0" else "1"), url, count=1)
    if not found:
        return None
    remedy = "Make the bucket or the files private."
    if _returns_file(trial, altered):
        return failure("A link with an altered signature still returns the file, so the file is public.", remedy)
    if _returns_file(trial, url.partition("?")[0]):
        return failure("Anybody can read files without a signed link.", remedy)
    return ok("A link with an altered signature is refused.")


def cors(trial: StoreTrial) -> Finding | None:
    """Check that scripts of pages can fetch files, also from another site: browsers then send ``Origin: null``."""
    url = trial.url("GET")
    if url is None:
        return None
    try:
        response = trial.request(url, headers={"Origin": "null"})
    except web.Unreachable as error:
        return warning(f"The direct url does not answer: {error}.", "Try again.")
    if response.headers.get("Access-Control-Allow-Origin") in {"*", "null"}:
        return ok("Scripts of pages can fetch files.")
    if trial.bucket is not None:
        return Finding(WARNING, bucket_checks.no_cors_rule(trial.settings))
    remedy = f"Show files in <img> and <a> elements; {trial.backend.name} does not allow scripts to fetch them."
    return warning("Scripts of pages cannot fetch files.", remedy)


def _request(
    trial: StoreTrial, method: str, headers: dict[str, str], status: int, body: bytes, success: str
) -> Finding | None:
    """Check that the direct url answers a request with this status and body."""
    url = trial.url(method)
    if url is None:
        return None
    try:
        response = trial.request(url, method=method, headers=headers)
    except web.Unreachable as error:
        return _unreachable(trial, f"The direct url does not answer: {error}.")
    if response.status != status:
        return _wrong_response(trial, f"The direct url answers {response.status} to {method}, not {status}.")
    if response.body != body:
        return _wrong_response(trial, "The direct url returns other bytes than were saved.")
    return ok(success)


def _unreachable(trial: StoreTrial, message: str) -> Finding:
    """Return a failure, or a warning if only browsers have to reach the address of the direct url."""
    variable = bucket_checks.public_endpoint(trial)
    if variable is None:
        return failure(message, "Check that browsers can reach the store.")
    return warning(message, f"Check that browsers can reach the address in {variable}.", setting=variable)


def _wrong_response(trial: StoreTrial, message: str) -> Finding:
    if not trial.settings.is_set(PUBLIC_URL.name):
        return failure(message, _PROXY)
    variable = trial.settings.variable(PUBLIC_URL.name)
    remedy = f"Check that {variable} is the address where anybody can read the files, or remove it."
    return failure(message, remedy, setting=variable)


def _returns_file(trial: StoreTrial, url: str) -> bool:
    try:
        return trial.request(url).status == _SUCCESS
    except web.Unreachable:
        return False


CHECKS: tuple[Check[StoreTrial], ...] = (
    Check("service", service, needs=("configuration", "sdk"), essential=True),
    Check("clock skew", clock_skew, needs=("service",), essential=True),
    Check("access", access, needs=("configuration", "folder", "service", "clock skew", "region"), essential=True),
    Check("save", save, needs=("access",), essential=True),
    Check("stat", stat, needs=("save",), essential=True),
    Check("missing file", missing_file, needs=("stat",)),
    Check("read", read, needs=("stat",), essential=True),
    Check("link", link, needs=("stat",), essential=True),
    Check("link by head", link_by_head, needs=("link",)),
    Check("link by range", link_by_range, needs=("link",)),
    Check("tampering", tampering, needs=("link",)),
    Check("cors", cors, needs=("link",)),
    Check("delete", delete, needs=("save",)),
)
