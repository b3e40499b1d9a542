"""Decide whether uploads survive the next deploy, from the backend, the platform, the mount and the marker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import config
from ..backends.base import Backend
from ..config import Settings
from ..errors import Problem
from ..text import format_date, plural
from . import mounts
from .marker import Marker
from .mounts import Mount, Place
from .platform import Host

# In these places, a marker proves nothing: it may be part of the image, or it will be deleted with the pod.
_TEMPORARY = {
    Place.MEMORY: "The folder is in memory, which is lost when the machine stops.",
    Place.IMAGE: "The folder is in the writable layer of the container, which is removed with the container.",
    Place.SCRATCH: "The folder is on an emptyDir volume, which is deleted with its pod.",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether uploads survive, and why. ``survives`` is ``None`` if that is unknown.

    ``reason.message`` is a sentence that can stand alone; ``reason.remedy`` is empty if nothing has to be done.
    """

    survives: bool | None
    reason: Problem


def judge(
    backend: Backend, host: Host, environ: Mapping[str, str], settings: Settings, *, found: Marker | None = None
) -> Verdict:
    """Return whether the files of ``backend`` survive the next deploy. Create nothing and use no network.

    ``found`` is the marker of the store, if it was read. If it holds the record of an earlier deploy, that proves that
    the disk persists, whatever the platform and the mount suggest.
    """
    persists, directory, proof = backend.description.persists, backend.disk_folder(), _proof(found, host)
    if persists:
        return Verdict(True, Problem(f"Files are kept in {backend.name}, not on the disk of the app."))
    if persists is False:
        message = f"The backend {backend.name} keeps files only until the process ends."
        remedy = _sentences(_use_a_service(backend, settings))
        return Verdict(False, Problem(message, remedy, settings.variable("backend")))
    if directory is not None:
        return _judge_folder(directory, proof, backend, host, environ, settings)
    if proof:
        return Verdict(True, Problem(proof))
    message = f"The backend {backend.name} does not declare whether it keeps files permanently."
    return Verdict(None, Problem(message, "Set persists in the description of the backend's class."))


def history(found: Marker, host: Host) -> str:
    """Return what a store on a disk has survived, as the end of a sentence that begins with "The store has"."""
    number = found.survived(host)
    # If several instances can share the disk, the others may still be running.
    one_at_a_time = host.platform.shared is False or not host.platform.wiped
    return f"survived {plural(number, 'restart')}" if one_at_a_time else f"served {plural(number, 'other instance')}"


def _proof(found: Marker | None, host: Host) -> str:
    """Return what the marker proves, as a sentence; empty if it proves nothing."""
    if found is None or found.survived(host) == 0:
        return ""
    return f"The store has {history(found, host)} since {format_date(found.since)}."


def _judge_folder(
    directory: Path, proof: str, backend: Backend, host: Host, environ: Mapping[str, str], settings: Settings
) -> Verdict:
    if host.building:
        return Verdict(
            None, Problem(f"{host.platform.name} is building or releasing the app, and no disk is mounted yet.")
        )
    mount = mounts.find_mount(directory)
    survives, message = _judge_mount(mount, host, proven=bool(proof))
    if survives:
        return Verdict(True, Problem(f"{message} {proof}".rstrip()))
    anonymous = mount.place is Place.ANONYMOUS
    if survives is None and not anonymous:
        variable = settings.variable("platform")
        remedy = "" if host.stated else f"If this is your own server, set {variable}=machine."
        return Verdict(None, Problem(message, remedy, variable))
    service = _use_a_service(backend, settings)
    disk = "give the volume a name" if anonymous else _use_a_disk(backend, host, environ, settings)
    disk_first = anonymous or not host.platform.wiped
    remedy = _sentences(disk, service) if disk_first else _sentences(service, disk)
    return Verdict(survives, Problem(message, remedy, settings.variable("dir") if _reads_dir(backend) else None))


def _judge_mount(mount: Mount, host: Host, *, proven: bool) -> tuple[bool | None, str]:
    """Return whether files on a mount survive, and a sentence that says why."""
    platform, place = host.platform, mount.place
    kind = f" ({mount.filesystem})" if mount.filesystem else ""
    wiped = f"{platform.name} wipes the app's disk at every deploy and restart."
    if place in _TEMPORARY:
        return False, wiped if place is Place.IMAGE and platform.known_by else _TEMPORARY[place]
    if place is Place.ANONYMOUS:
        return None, "The folder is on an anonymous volume, which a new container does not get."
    separate = place is Place.OWN and (platform.volumes or mount.network)
    if platform.wiped and not separate and not proven:
        return False, wiped
    if proven or (separate and kind) or (host.stated and place is not Place.UNKNOWN):
        disk = "a separate disk" if separate else f"the disk of {platform.name}"
        return True, f"The folder is on {disk}{kind}."
    # A platform that is not in the table looks like a server of the user's own.
    return None, f"The folder is on the disk of {platform.name}{kind}, which may not be permanent."


# -- remedies


def _use_a_service(backend: Backend, settings: Settings) -> str:
    bucket, cloud = (_variable(settings, name) for name in ("s3_bucket", "cloudinary_url"))
    chosen_by = ("backend",) if settings.is_set("backend") else backend.description.implied_by
    unset = " and ".join(settings.variable(name) for name in chosen_by if settings.is_set(name))
    use = f"set {bucket} and its credentials, or {cloud}"
    return f"unset {unset} and {use}" if unset else use


def _use_a_disk(backend: Backend, host: Host, environ: Mapping[str, str], settings: Settings) -> str | None:
    platform, variable = host.platform, settings.variable("dir")
    if not _reads_dir(backend):
        return f"{platform.volume} and keep the folder of the backend on it" if platform.volume else None
    mounted_at = (environ.get(platform.volume_path) if platform.volume_path else None) or platform.volume_at
    if mounted_at:
        return f"set {variable}={mounted_at.rstrip('/')}/{settings.uploads}, which is on the volume"
    if platform.volume:
        return f"{platform.volume} and set {variable} to a folder below its mount path"
    return None if platform.wiped else f"set {variable} to a folder on a disk"


def _variable(settings: Settings, name: str) -> str:
    """Return the variable to set. For a further ``Uploads``, it is never a native one, which others may share."""
    shared = settings.uploads != "uploads" and not settings.is_own(name)
    return config.variable(settings.uploads, name) if shared else settings.variable(name)


def _reads_dir(backend: Backend) -> bool:
    return any(setting.name == "dir" for setting in backend.settings())


def _sentences(*clauses: str | None) -> str:
    """Make a sentence of each clause, and join them as alternatives."""
    first, *others = [clause for clause in clauses if clause]
    return " ".join([f"{first[0].upper()}{first[1:]}.", *(f"Alternatively, {other}." for other in others)])
