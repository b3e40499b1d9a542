"""Checks that ask nobody over a network."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from ... import config, keys
from ...backends import missing_sdk
from .. import marker as markers
from .. import mounts
from ..mounts import Place
from ..platform import READ, Platform
from ..verdict import counted
from . import start_line
from .case import Case, Check, Finding, failure, halves, ok, warning

_MADE = datetime(2026, 11, 1, tzinfo=timezone.utc)  # no right clock is earlier than this version
_SCARCE = 0.05  # of a disk
_FORM = 100_000  # bytes of a form beside its file
_PATIENT = 60  # seconds: what gunicorn's timeout should be for slow uploads, at least

_OPTIONS = "-k gthread --threads 8 --timeout 120"


def configuration(case: Case) -> Finding:
    """The settings make a backend, and each of them is one."""
    problems = [problem for problem in case.problems if problem not in missing_sdk(case.chosen or "")]
    unknown = list(config.unknown(case.settings, case.name))
    if problems and case.backend is None:
        if len(problems) == 1:
            seen, remedy = halves(problems[0])
            return failure(seen, "\n".join([remedy, *unknown]))
        return failure(f"{len(problems)} settings are wrong or missing", "\n".join([*problems, *unknown]))
    if unknown:
        return warning(f"{counted(len(unknown), 'variable')} not known", "\n".join(unknown))
    return ok(f"{counted(len(case.settings.sources), 'setting')}; files are kept in {case.backend or case.chosen}")


def sdk(case: Case) -> Finding | None:
    """The SDK of the backend is installed."""
    for sentence in missing_sdk(case.chosen or ""):
        return failure(*halves(sentence))
    return None


def platform(case: Case) -> Finding:
    """The environment is not in contradiction about where we are."""
    host = case.host
    if host.doubt:
        return warning(host.doubt, f"unset it, or set {case.variables}PLATFORM=machine, if this is another host")
    return ok(f"{host.platform.name}, instance {host}")


def persistence(case: Case) -> Finding | None:
    """What is stored now is there after the next deploy."""
    verdict = case.verdict
    if verdict is None:
        return None
    if verdict.survives is False:
        return failure(verdict.reason, verdict.remedy or "")
    if verdict.survives is None:
        return warning(verdict.reason, verdict.remedy or "store a file, deploy again, and see if it is there")
    apart = case.folder is not None and case.host.platform.shared is False
    note = f"keep one instance: on {case.host.platform.name} each has a disk of its own" if apart else None
    return ok(f"Uploads survive: {verdict.reason}", note)


def store(case: Case) -> Finding | None:
    """The store is the one that the app was set up with."""
    if case.backend is None or case.problems or case.host.building:
        return None
    if case.marker_trouble:
        return failure(*halves(case.marker_trouble))
    alarm = markers.alarm(case.settings.store_id, case.marker, str(case.host), variables=case.variables)
    if alarm:
        seen, _, remedy = alarm.rpartition(": ")
        return failure(seen, remedy)
    if case.marker is None:
        what = "the first request to the app" if case.folder else "the first upload, or a request for the health,"
        return ok(f"No marker yet: {what} makes it")
    found = case.marker
    if case.folder is not None:
        history = f"has survived {counted(found.survived(case.host), 'restart')}"
    else:
        history = f"was used by {counted(len(found.instances), 'instance')}" if found.instances else "not used yet"
    seen = f"{found.id}, born {markers.ago(found.since)} ago, {history}"
    notice = f"to have its loss noticed, set {case.variables}STORE_ID={found.id}"
    return ok(seen, notice if case.settings.store_id is None else None)


def folder(case: Case) -> Finding | None:
    """The folder can be written to, or made."""
    if case.folder is None:
        return None
    nearest = case.folder
    try:
        case.folder.exists()  # raises for a name that no disk takes, and for what may not be looked at
        while not os.path.lexists(nearest):
            nearest = nearest.parent
        if not nearest.is_dir():
            return failure(f"{nearest} is no folder", f"remove it, or set {case.variables}DIR to another place")
    except OSError as error:
        why = os.strerror(error.errno or 0)
        return failure(f"{case.folder} cannot be used: {why}", f"set {case.variables}DIR to another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        return failure(
            f"{nearest} refuses to be written to",
            f"mount it for writing, or give it to the app's user (chown {os.geteuid()} {shlex.quote(str(nearest))}), "
            f"or set {case.variables}DIR",
        )
    if case.settings.dir is not None and not Path(case.settings.dir).is_absolute():
        seen = f"{case.settings.sources['dir']} is relative: it leads elsewhere where the app is started elsewhere"
        return warning(seen, f"{case.variables}DIR={case.folder}")
    return ok(f"{case.folder} can be {'written to' if nearest == case.folder else 'made'}")


def old_folder(case: Case) -> Finding | None:
    """No files are left in a folder that is not used any more."""
    if case.folder is not None or case.backend is None or case.settings.dir is None:
        return None
    place = Path(case.settings.dir).absolute()
    if not place.is_dir() or not any(not entry.name.startswith(keys.RESERVED) for entry in place.iterdir()):
        return None
    seen = f"{case.settings.sources['dir']} is set, and {place} holds files, but they are looked for in {case.chosen}"
    return warning(seen, "copy them as the README says (To switch), then unset it")


def checkout(case: Case) -> Finding | None:
    """Files of users are not about to be committed."""
    if case.folder is None:
        return None
    place = case.folder.resolve()
    top = next((folder for folder in place.parents if (folder / ".git").exists()), None)
    if top is None or _ignored(place, top):
        return None
    line, file = shlex.quote(f"/{place.relative_to(top)}/"), shlex.quote(f"{top}/.gitignore")
    return warning(f"{case.folder} lies in the git checkout {top}", f"echo {line} >> {file}")


def static(case: Case) -> Finding | None:
    """Files are not served as they are from a static folder, where scripts of an upload would run."""
    if case.folder is None:
        return None
    for part in (case.app, *case.app.blueprints.values()):
        served = Path(part.static_folder).resolve() if part.static_folder else None
        if served is not None and case.folder.resolve().is_relative_to(served):
            return failure(
                f"{case.folder} lies in the static folder of {part.name!r}: scripts in uploads run on your site",
                f"set {case.variables}DIR to a folder elsewhere, and move the files there",
            )
    return None


def space(case: Case) -> Finding | None:
    """The disk has room for files and for their names."""
    if case.folder is None:
        return None
    room = mounts.room(case.folder)
    free, largest = room.free_bytes, case.settings.max_size
    remedy = f"free some of it, grow the disk, or set {case.variables}S3_BUCKET"
    if free == 0:
        return failure("The disk is full", remedy)
    if room.total_inodes and room.free_inodes == 0:
        return failure("The disk is full: it has no inode left, so no more files", remedy)
    if room.free_inodes < _SCARCE * room.total_inodes:
        return warning(f"{room.free_inodes} of {room.total_inodes} inodes are free", remedy)
    if free < largest:
        return warning(f"{size(free)} are free; a file may have {size(largest)}", remedy)
    if free < _SCARCE * room.total_bytes:
        return warning(f"{size(free)} of {size(room.total_bytes)} are free", remedy)
    return ok(f"{size(free)} are free")


def temporary(case: Case) -> Finding | None:
    """Forms wait on a disk, not in memory, until they are stored."""
    try:
        place = Path(tempfile.gettempdir())
    except FileNotFoundError:
        return failure("There is no folder for temporary files: large forms fail", "set TMPDIR to a folder on a disk")
    if mounts.look(place).place is Place.MEMORY:
        return warning(
            f"The folder for temporary files, {place}, lies in memory: large uploads fill it",
            "set TMPDIR to a folder on a disk (it need not stay)",
        )
    free, largest = mounts.room(place).free_bytes, case.settings.max_size
    if free < largest:
        return warning(
            f"{place} has {size(free)} for temporary files; an upload may have {size(largest)}",
            f"set TMPDIR to a larger disk, or {case.variables}MAX_SIZE to less",
        )
    return None


def body_limit(case: Case) -> Finding:
    """A request has an end."""
    limit = case.app.config["MAX_CONTENT_LENGTH"]
    if limit is None:
        wanted = 2 * case.settings.max_size
        return warning(
            "MAX_CONTENT_LENGTH is not set: a request may be of any length",
            f'app.config["MAX_CONTENT_LENGTH"] = {wanted}  # bytes, for a whole form',
        )
    return ok(f"A form may have {size(limit)}, a file in it {size(case.settings.max_size)}")


def host_limit(case: Case) -> Finding | None:
    """The host lets files through that we allow."""
    host = case.host.platform
    limits = ", ".join(_limits(host))
    if not limits:
        return None
    seen = f"{host.name}: {limits} (as of {READ})"
    if host.max_body is None or host.max_body - _FORM >= case.settings.max_size:
        return ok(seen)
    return warning(
        f"{seen}; {case.variables}MAX_SIZE allows {size(case.settings.max_size)}",
        f"set {case.variables}MAX_SIZE={host.max_body - _FORM} (the rest of the form needs room)",
    )


def workers(case: Case) -> Finding | None:
    """gunicorn's workers outlive a slow upload."""
    found = start_line.gunicorn(case.environ, Path.cwd())
    if found is None:
        return None
    where, options = found
    kind = options.worker_class or ("gthread" if (options.threads or 1) > 1 else "sync")
    timeout = options.timeout if options.timeout is not None else 30
    if kind == "sync" and 0 < timeout < _PATIENT:
        return warning(
            f"{where} starts gunicorn's sync workers, which are killed {timeout} s into a slow upload",
            f"start gunicorn with {_OPTIONS}",
        )
    return ok(f"{where} starts gunicorn's {kind} workers, with a timeout of {timeout} s")


def debug(case: Case) -> Finding | None:
    """The debugger, which runs code for whoever sees it, is not on a public host."""
    if case.app.debug and case.host.platform.known_by:
        return failure(f"Debug mode is on, on {case.host.platform.name}", "unset FLASK_DEBUG and app.debug")
    return None


def clock(case: Case) -> Finding | None:
    """The clock is not absurd, as signatures depend on it."""
    now = datetime.fromtimestamp(time.time(), timezone.utc)
    earliest = max(_MADE, case.marker.since) if case.marker else _MADE
    if now.timestamp() < earliest.timestamp() - 60:
        return failure(f"It is {now:%Y-%m-%d %H:%M} UTC by the clock, which must be wrong", "set the clock (NTP)")
    return None


def route(case: Case) -> Finding | None:
    """No other route answers for ours."""
    if case.other_route is None:
        return None
    return failure(
        f"The app's own route {case.other_route!r} answers {case.settings.url_prefix}/…: uploads are not served",
        f"remove it, or set {case.variables}URL_PREFIX",
    )


def links(case: Case) -> Finding | None:
    """What an authorize hook guards has no public link."""
    if case.public_links is None:
        return None
    return warning("An authorize hook is set, but the links behind it are public and do not end", case.public_links)


CHECKS: tuple[Check, ...] = (
    configuration,
    sdk,
    platform,
    persistence,
    folder,
    old_folder,
    space,
    checkout,
    static,
    temporary,
    body_limit,
    host_limit,
    workers,
    debug,
    clock,
    route,
    links,
)


#: What cannot be asked of a folder that cannot be used.
OF_A_FOLDER = (space, checkout, static)


def size(number: int) -> str:
    """Bytes for people: ``4.5 MB``."""
    amount, unit = float(number), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.1f}".removesuffix(".0") + f" {unit}"


def _limits(host: Platform) -> Iterator[str]:
    """What is known of a host's limits, in words."""
    words = {
        "max_body": "a request has at most {}",
        "max_seconds": "and takes at most {} s" if host.max_body else "a request takes at most {} s",
        "idle_seconds": "sleep after {} s without requests",
        "stop_seconds": f"{host.stop_signal} {{}} s before the end" if host.stop_seconds else "an end without notice",
    }
    for field, text in words.items():
        value = getattr(host, field)
        if value is not None:
            yield text.format(size(value) if field == "max_body" else value) + (
                " (unverified)" if field in host.unverified else ""
            )


def _ignored(folder: Path, top: Path) -> bool:
    """Whether git leaves the folder out; where there is no git, it is not known to."""
    command = ["git", "-C", str(top), "check-ignore", "--quiet", f"{folder}/x"]
    try:
        # Its words are our own but for the two folders, which "-C" and the "/" before them keep from being options.
        found = subprocess.run(command, check=False, capture_output=True, timeout=5).returncode  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found == 0
