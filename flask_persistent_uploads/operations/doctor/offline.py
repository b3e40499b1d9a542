"""Check the settings, the app and the host, without the network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from ... import config
from ...backends import missing_sdk
from ...errors import Problem
from ...text import format_bytes, plural
from ..checks import FAILURE, OK, WARNING, Check, Finding, failure, ok, warning
from ..platform import LAST_VERIFIED, Platform
from . import start_command
from .case import Case

_EARLIEST = datetime(2026, 11, 1, tzinfo=timezone.utc)  # a clock that shows an earlier time is wrong
_CLOCK_TOLERANCE = 60  # seconds
_FORM_BYTES = 100_000  # reserved for the rest of a form
_MIN_TIMEOUT = 60  # seconds that gunicorn should allow for an upload, at least
_GUNICORN_OPTIONS = "-k gthread --threads 8 --timeout 120"


def configuration(case: Case) -> Finding:
    """Check that the settings are valid and choose a backend, and that every ``UPLOADS_…`` variable is a setting."""
    unknown = tuple(config.unknown_settings(case.settings))
    install = missing_sdk(case.kind) if case.kind else []
    problems = tuple(problem for problem in case.problems if problem not in install)  # the next check reports those
    if len(problems) == 1:
        return Finding(FAILURE, problems[0], unknown)
    if problems:
        return Finding(FAILURE, Problem(f"{len(problems)} settings are wrong or missing."), problems + unknown)
    if len(unknown) == 1:
        return Finding(WARNING, unknown[0])
    if unknown:
        return Finding(WARNING, Problem(f"{len(unknown)} variables are not settings of this extension."), unknown)
    place = case.kind.name if case.backend is None and case.kind is not None else case.backend
    return ok(f"{plural(len(case.settings.sources), 'setting')} found. Files are kept in {place}.")


def sdk(case: Case) -> Finding | None:
    """Check that the SDK of the backend is installed."""
    missing = missing_sdk(case.kind) if case.kind else []
    return Finding(FAILURE, missing[0]) if missing else None


def platform(case: Case) -> Finding:
    """Check that the environment does not contradict itself about the platform."""
    if case.host.doubt is not None:
        return Finding(WARNING, case.host.doubt)
    return ok(f"The platform is {case.host.platform.name}. The instance is {case.host}.")


def persistence(case: Case) -> Finding | None:
    """Check that stored files survive the next deploy."""
    if case.verdict is None:
        return None
    reason = case.verdict.reason
    if case.verdict.survives is False:
        return Finding(FAILURE, reason)
    if case.verdict.survives is None:
        test = "Store a file, deploy again, and check whether the file is still there."
        return Finding(WARNING, replace(reason, remedy=reason.remedy or test))
    if case.folder is not None and case.host.platform.shared is False:
        note = f"Run only one instance: on {case.host.platform.name}, each instance has its own disk."
        return Finding(OK, replace(reason, remedy=reason.remedy or note))
    return Finding(OK, reason)


def body_limit(case: Case) -> Finding:
    """Check that the size of a request is limited."""
    limit, largest = case.app.config["MAX_CONTENT_LENGTH"], case.settings.max_size
    if limit is None:
        message = "MAX_CONTENT_LENGTH is not set, so a request may be of any size."
        line = f'app.config["MAX_CONTENT_LENGTH"] = {2 * largest}  # bytes, for a whole form'
        return warning(message, line, setting="MAX_CONTENT_LENGTH")
    return ok(f"Forms of up to {format_bytes(limit)} and files of up to {format_bytes(largest)} are allowed.")


def host_limit(case: Case) -> Finding | None:
    """Check that the platform accepts files of the size that the settings allow."""
    host, largest, variable = case.host.platform, case.settings.max_size, case.settings.variable("max_size")
    limits = "; ".join(_limits(host))
    if not limits:
        return None
    message = f"Limits of {host.name} as of {LAST_VERIFIED}: {limits}."
    if host.max_body is None or host.max_body - _FORM_BYTES >= largest:
        return ok(message)
    remedy = f"Set {variable}={host.max_body - _FORM_BYTES}, which leaves room for the rest of the form."
    return warning(f"{message} {variable} allows files of up to {format_bytes(largest)}.", remedy, setting=variable)


def workers(case: Case) -> Finding | None:
    """Check that gunicorn does not kill its workers during slow uploads."""
    found = start_command.gunicorn_options(case.environ, Path.cwd())
    if found is None:
        return None
    source, options = found
    kind = options.worker_class or ("gthread" if (options.threads or 1) > 1 else "sync")
    timeout = options.timeout if options.timeout is not None else 30
    if kind == "sync" and 0 < timeout < _MIN_TIMEOUT:
        message = f"{source} starts sync workers of gunicorn, which are killed {timeout} s into a slow upload."
        return warning(message, f"Start gunicorn with these options: {_GUNICORN_OPTIONS}")
    return ok(f"{source} starts {kind} workers of gunicorn with a timeout of {timeout} s.")


def debug(case: Case) -> Finding | None:
    """Check that debug mode is off on a public host, because visitors could run code in its debugger."""
    if case.app.debug and case.host.platform.known_by:
        message = f"Debug mode is on, and {case.host.platform.name} is a public host."
        return failure(message, "Remove FLASK_DEBUG, and do not set app.debug.", setting="FLASK_DEBUG")
    return None


def clock(case: Case) -> Finding | None:
    """Check that the clock is plausible, because signatures contain the time."""
    now = datetime.fromtimestamp(time.time(), timezone.utc)
    earliest = max(_EARLIEST, case.marker.since) if case.marker else _EARLIEST
    if now.timestamp() < earliest.timestamp() - _CLOCK_TOLERANCE:
        message = f"The clock shows {now:%Y-%m-%d %H:%M} UTC, which must be wrong."
        return failure(message, "Set the clock of this machine (NTP).")
    return None


def route(case: Case) -> Finding | None:
    """Check that no other route of the app answers in place of the extension's."""
    return Finding(FAILURE, case.other_route) if case.other_route else None


def links(case: Case) -> Finding | None:
    """Check that public links do not bypass the authorize hook."""
    return Finding(WARNING, case.public_links) if case.public_links else None


def _limits(host: Platform) -> Iterator[str]:
    """Yield the known limits of a platform as clauses."""
    body = format_bytes(host.max_body) if host.max_body else ""
    clauses = {
        "max_body": f"requests of up to {body}",
        "max_seconds": f"requests of up to {host.max_seconds} s",
        "idle_seconds": f"instances may sleep after {host.idle_seconds} s without requests",
        "stop_seconds": f"instances are killed {host.stop_seconds} s after {host.stop_signal}"
        if host.stop_seconds
        else "instances are killed without notice",
    }
    for field, clause in clauses.items():
        if getattr(host, field) is not None:
            yield f"{clause} (unverified)" if field in host.unverified else clause


CHECKS: tuple[Check[Case], ...] = (
    Check("configuration", configuration, essential=True),
    Check("sdk", sdk, essential=True),
    Check("platform", platform),
    Check("persistence", persistence, preserves=True),
    Check("body limit", body_limit),
    Check("host limit", host_limit),
    Check("workers", workers),
    Check("debug", debug),
    Check("clock", clock),
    Check("route", route),
    Check("links", links),
)
