"""Check the folder and its disk. Most of these checks do not apply if files are kept in a service."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from ... import keys
from ...backends.local import DISK_FULL
from ...text import format_bytes
from .. import mounts
from ..checks import FAILURE, Check, Finding, failure, ok, warning
from ..mounts import Place
from .case import Case

_SCARCE = 0.05  # the share of a disk's space or inodes below which there is a warning


def folder(case: Case) -> Finding | None:
    """Check that the folder can be written to, or created."""
    if case.folder is None:
        return None
    variable, nearest = _variable(case), case.folder
    other = f"{variable or 'the backend'} to another folder"
    try:
        case.folder.exists()  # raises OSError for an impossible name, and for a folder without access
        while not os.path.lexists(nearest):
            nearest = nearest.parent
        if not nearest.is_dir():
            return failure(f"{nearest} is not a folder.", f"Remove it, or set {other}.", setting=variable)
    except OSError as error:
        message = f"{case.folder} cannot be used: {os.strerror(error.errno or 0)}."
        return failure(message, f"Set {other}.", setting=variable)
    if not os.access(nearest, os.W_OK | os.X_OK):
        owner = f"chown {os.geteuid()} {shlex.quote(str(nearest))}"
        remedy = f"Mount it for writing, make it belong to the user of the app ({owner}), or set {other}."
        return failure(f"{nearest} cannot be written to.", remedy, setting=variable)
    configured = case.settings["dir"] if variable else None
    if configured is not None and not Path(configured).is_absolute():
        message = f"{variable} is a relative path, so the folder depends on where the app is started."
        return warning(message, f"{variable}={case.folder}", setting=variable)
    return ok(f"{case.folder} can be {'written to' if nearest == case.folder else 'created'}.")


def old_folder(case: Case) -> Finding | None:
    """Check that no files are left in a folder that is no longer used."""
    configured = case.settings["dir"]
    if case.folder is not None or case.backend is None or configured is None:
        return None
    old, variable = Path(configured).absolute(), case.settings.variable("dir")
    if not old.is_dir() or all(entry.name.startswith(keys.RESERVED) for entry in old.iterdir()):
        return None
    message = f"{variable} is set, and {old} holds files, but the app looks for files in {case.backend.name}."
    return warning(message, f"Copy them to {case.backend.name}, then remove {variable}.", setting=variable)


def space(case: Case) -> Finding | None:
    """Check that the disk has space for files and free inodes."""
    if case.folder is None:
        return None
    disk, largest, variable = mounts.disk_space(case.folder), case.settings.max_size, case.settings.variable("max_size")
    free, remedy = disk.free_bytes, DISK_FULL.remedy
    if free == 0:
        return Finding(FAILURE, DISK_FULL)
    if disk.total_inodes and disk.free_inodes == 0:
        return failure(f"{DISK_FULL.message} It has no free inode, so it takes no more files.", remedy)
    if disk.free_inodes < _SCARCE * disk.total_inodes:
        return warning(f"Only {disk.free_inodes} of {disk.total_inodes} inodes of the disk are free.", remedy)
    if free < largest:
        message = f"{format_bytes(free)} are free, but files of up to {format_bytes(largest)} are allowed."
        return warning(message, f"{remedy} Or reduce {variable}.", setting=variable)
    if free < _SCARCE * disk.total_bytes:
        return warning(f"Only {format_bytes(free)} of {format_bytes(disk.total_bytes)} are free.", remedy)
    return ok(f"{format_bytes(free)} are free.")


def checkout(case: Case) -> Finding | None:
    """Check that the folder is not in a git checkout, where files of users could be committed."""
    if case.folder is None:
        return None
    place = case.folder.resolve()
    top = next((parent for parent in place.parents if (parent / ".git").exists()), None)
    if top is None or _is_ignored(place, top):
        return None
    line, file = shlex.quote(f"/{place.relative_to(top)}/"), shlex.quote(f"{top}/.gitignore")
    return warning(f"{case.folder} is in the git checkout {top}, which does not ignore it.", f"echo {line} >> {file}")


def static(case: Case) -> Finding | None:
    """Check that the folder is not in a static folder, which would serve scripts in uploads."""
    if case.folder is None:
        return None
    for part in (case.app, *case.app.blueprints.values()):
        served = Path(part.static_folder).resolve() if part.static_folder else None
        if served is not None and case.folder.resolve().is_relative_to(served):
            variable = _variable(case)
            return failure(
                f"{case.folder} is in the static folder of {part.name!r}: scripts in uploads run on your site.",
                f"Set {variable or 'the folder of the backend'} to a folder elsewhere, and move the files there.",
                setting=variable,
            )
    return None


def temporary(case: Case) -> Finding | None:
    """Check that the disk has space for large forms, which are temporary files until they are stored."""
    try:
        place = Path(tempfile.gettempdir())
    except FileNotFoundError:
        message = "There is no folder for temporary files, so large forms fail."
        return failure(message, "Set TMPDIR to a folder on a disk.", setting="TMPDIR")
    if mounts.find_mount(place).place is Place.MEMORY:
        message = f"The folder for temporary files, {place}, is in memory, so large uploads fill the memory."
        return warning(message, "Set TMPDIR to a folder on a disk. It need not be permanent.", setting="TMPDIR")
    free, largest = mounts.disk_space(place).free_bytes, case.settings.max_size
    if free >= largest:
        return None
    allowed = f"files of up to {format_bytes(largest)} are allowed"
    message = f"{place} has {format_bytes(free)} for temporary files, but {allowed}."
    remedy = f"Set TMPDIR to a folder on a larger disk, or reduce {case.settings.variable('max_size')}."
    return warning(message, remedy, setting="TMPDIR")


def _variable(case: Case) -> str | None:
    """Return the variable of the folder; ``None`` if the backend has no such setting."""
    declared = any(setting.name == "dir" for setting in case.kind.settings()) if case.kind else False
    return case.settings.variable("dir") if declared else None


def _is_ignored(folder: Path, top: Path) -> bool:
    """Return whether git ignores the folder; ``False`` if git is not installed."""
    command = ["git", "-C", str(top), "check-ignore", "--quiet", f"{folder}/x"]
    try:
        # Only the two paths come from outside; "-C" and the leading "/" keep them from being options.
        result = subprocess.run(command, check=False, capture_output=True, timeout=5)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0


CHECKS: tuple[Check[Case], ...] = (
    Check("folder", folder, essential=True),
    Check("old folder", old_folder),
    Check("space", space, needs=("folder",), essential=True),
    Check("checkout", checkout, needs=("folder",)),
    Check("static", static, needs=("folder",)),
    Check("temporary", temporary),
)
