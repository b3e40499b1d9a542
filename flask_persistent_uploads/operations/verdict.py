"""Whether uploads will survive: what the platform, the mount and the marker say together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ..backends.base import Backend
from . import marker, mounts
from .marker import Marker
from .mounts import Mount, Place
from .platform import Host, Platform

_ELSEWHERE = ("s3", "cloudinary", "imagekit")

# What comes with the image or goes with the pod cannot be proven to stay by a marker that came with it.
_NEVER = {
    Place.MEMORY: "The folder lies in memory, which ends with the machine",
    Place.IMAGE: "The folder lies in the image's own layer, which ends with the container",
    Place.SCRATCH: "The folder lies on an emptyDir volume, which ends with its pod",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """``survives`` is ``None`` where nothing tells. ``reason`` is a clause; ``remedy`` a command in words."""

    survives: bool | None
    reason: str
    remedy: str | None = None


def judge(
    backend: Backend,
    host: Host,
    environ: Mapping[str, str],
    *,
    variables: str = "UPLOADS_",
    chosen_by: str | None = None,
    found: Marker | None = None,
) -> Verdict:
    """Whether what ``backend`` keeps is there after the next deploy. ``found`` is its marker. Nothing is made.

    ``chosen_by`` is the variable that names the backend, if one does. Proof beats inference: where the marker of an
    earlier deploy was found, the disk stays.
    """
    if backend.name in _ELSEWHERE:
        return Verdict(survives=True, reason=f"they are kept in {backend.name}, not on the disk of the app")
    remedy = f"set {variables}S3_BUCKET and its credentials, or {variables}CLOUDINARY_URL"
    if chosen_by is not None:
        remedy = f"unset {chosen_by} and {remedy}"
    if backend.name == "memory":
        reason = f"{variables}BACKEND is memory, which ends with the process"
        return Verdict(survives=False, reason=reason, remedy=remedy)
    directory, proof = folder_of(backend), _proof(found, host)
    if directory is None and proof:
        return Verdict(survives=True, reason=proof)
    if directory is None:
        return Verdict(survives=None, reason=f"Nothing is known of the backend {backend.name}")
    remedy = _with_volume(remedy, host.platform, environ, variables)
    verdict = _of_disk(mounts.look(directory), host, remedy, proven=bool(proof), variables=variables)
    return replace(verdict, reason=f"{verdict.reason}, {proof}") if proof and verdict.survives else verdict


def _proof(found: Marker | None, host: Host) -> str:
    """What the marker proves, in words; empty where it proves nothing."""
    survived = found.survived(host) if found else 0
    if found is None or survived == 0:
        return ""
    one_at_a_time = host.platform.shared is False or not host.platform.wiped
    what = counted(survived, "restart" if one_at_a_time else "other instance or restart")
    return f"proven: survived {what} since {day(found.since)}"


def folder_of(backend: Backend) -> Path | None:
    """The folder on this machine's disk that a backend keeps its files in; ``None`` if it keeps them elsewhere."""
    path = backend.filesystem_path(marker.KEY)
    if path is None:
        return None
    below = marker.KEY.count("/") + 1
    return path.parents[below - 1] if path.as_posix().endswith(f"/{marker.KEY}") else path.parent


def counted(number: int, noun: str) -> str:
    """``1 restart``, ``2 restarts``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def day(moment: datetime) -> str:
    """``3 January 2026``."""
    return f"{moment.day} {moment:%B %Y}"


def _with_volume(remedy: str, platform: Platform, environ: Mapping[str, str], variables: str) -> str:
    mounted_at = (environ.get(platform.volume_path) if platform.volume_path else None) or platform.volume_at
    if mounted_at:
        return f"{remedy}, or set {variables}DIR={mounted_at.rstrip('/')}/uploads, on the volume"
    if platform.volume:
        where = f"{variables}DIR to a folder below its mount path (it is on no disk of its own now)"
        return f"{remedy}, or {platform.volume} and set {where}"
    if not platform.wiped:
        return f"set {variables}DIR to a folder on a disk, or {remedy.removeprefix('set ')}"
    return remedy


def _of_disk(mount: Mount, host: Host, remedy: str, *, proven: bool, variables: str) -> Verdict:
    platform, place = host.platform, mount.place
    kind = f" ({mount.filesystem})" if mount.filesystem else ""
    wiped = f"{platform.name} wipes this disk at every deploy and restart"
    if host.building:
        return Verdict(survives=None, reason=f"{platform.name} is building or releasing, where no disk is mounted")
    if place in _NEVER:
        in_a_layer = place is Place.IMAGE and platform.known_by
        return Verdict(survives=False, reason=wiped if in_a_layer else _NEVER[place], remedy=remedy)
    if place is Place.ANONYMOUS:
        reason = "The folder lies on an anonymous volume, which a new container does not find again"
        return Verdict(survives=None, reason=reason, remedy=f"give the volume a name, or {remedy}")
    apart = place is Place.OWN and (platform.volumes or mount.network)
    if platform.wiped and not apart and not proven:
        return Verdict(survives=False, reason=wiped, remedy=remedy)
    if proven or (apart and kind) or (host.stated and place is not Place.UNKNOWN):
        whose = "a disk of their own" if apart else f"the disk of {platform.name}"
        return Verdict(survives=True, reason=f"they lie on {whose}{kind}")
    # A host that is not known here looks like a machine of one's own.
    reason = f"The folder lies on the disk of {platform.name}{kind}, and nothing tells whether that stays"
    yours = None if host.stated else f"set {variables}PLATFORM=machine if this is a server of yours"
    return Verdict(survives=None, reason=reason, remedy=yours)
