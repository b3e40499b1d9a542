"""What a folder lies on: a disk of its own, the root file system, memory, a container's image (proc_pid_mountinfo(5)).

It is what the kernel says. Whether it outlives a deploy is for others to judge: a root file system does on a plain
server, and is wiped on most hosts.
"""

from __future__ import annotations

import errno
import os
import re
import stat as stat_modes
from enum import Enum
from pathlib import Path
from typing import NamedTuple

MOUNTINFO = Path("/proc/self/mountinfo")

_MEMORY = {"tmpfs", "ramfs", "devtmpfs"}
_IMAGE = {"overlay", "aufs", "fuse-overlayfs", "fuse.fuse-overlayfs", "squashfs", "fuse.squashfuse", "erofs"}
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "lustre", "afs"}
# The rest of FUSE counts as network: mounted buckets (gcsfuse, goofys, Mountpoint) often say no more than "fuse".
_FUSE_NEARBY = {"fuse.mergerfs", "fuse.bindfs", "fuse.gocryptfs", "fuse.grpcfuse"}
_EMPTY_DIR = "/kubernetes.io~empty-dir/"
# Before it: /var/lib/docker/volumes, podman's .../containers/storage/volumes, or nothing where that is a disk itself.
_ANONYMOUS = re.compile(r"/[0-9a-f]{64}/_data(/|$)")
_OCTAL = re.compile(r"\\([0-7]{3})")
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


class Place(Enum):
    """What a folder can lie on; the value can stand in a sentence."""

    OWN = "a mount of its own"
    ROOT = "the root file system"
    MEMORY = "a file system in memory"
    IMAGE = "a layer of the container's image"
    SCRATCH = "an emptyDir volume of a Kubernetes pod"
    ANONYMOUS = "an anonymous volume of a container"
    UNKNOWN = "an unknown file system"


class Mount(NamedTuple):
    """``point`` and ``filesystem`` ("ext4", "nfs4") are empty if not known; ``network``: another machine serves it.

    9p and virtiofs do not count as network: with them a sandbox (gVisor, Firecracker, WSL) reaches its own host.
    """

    place: Place
    point: str
    filesystem: str
    network: bool


class Room(NamedTuple):
    """What is left for processes without privileges. A total of 0: the file system has no such limit."""

    free_bytes: int
    total_bytes: int
    free_inodes: int
    total_inodes: int
    read_only: bool


def look(directory: Path) -> Mount:
    """What a folder lies on, or would if it were made; it need not exist, and is not made by looking.

    Links are followed, broken ones to where they would lead. Given an absolute path, never raises :exc:`OSError`.
    """
    path, device = _nearest(directory)
    try:
        mountinfo = os.fsdecode(MOUNTINFO.read_bytes())
    except OSError:
        mountinfo = ""
    return classify(mountinfo, str(path), device=device, root_device=Path("/").stat().st_dev)


def room(directory: Path) -> Room:
    """How much more fits where a folder lies, or would lie; raises :exc:`OSError` if that cannot be asked."""
    found = os.statvfs(_nearest(directory)[0])
    size, read_only = found.f_frsize, bool(found.f_flag & os.ST_RDONLY)
    return Room(found.f_bavail * size, found.f_blocks * size, found.f_favail, found.f_files, read_only)


def classify(mountinfo: str, path: str, *, device: int | None = None, root_device: int | None = None) -> Mount:
    """What ``path`` lies on, by the text of ``/proc/self/mountinfo`` and the device numbers of the path and of ``/``.

    ``path`` is absolute, exists and has no links. If no line holds it, as on systems without ``/proc``, the device
    numbers decide alone. Malformed lines count as absent.
    """
    lines = [line for line in map(_parsed, mountinfo.split("\n")) if line and _holds(line[1].point, path)]
    if not lines:
        place = Place.ROOT if device == root_device else Place.OWN
        return Mount(Place.UNKNOWN if None in (device, root_device) else place, "", "", False)
    if device is not None:
        # A mount over a parent hides the deeper ones, so the longest may be out of reach. No line shows the number of
        # a btrfs subvolume.
        number = f"{os.major(device)}:{os.minor(device)}"
        lines = [line for line in lines if line[0] == number] or lines
    # Of two on one point the later lies on top, and max keeps the first that it meets.
    return max((mount for _, mount in reversed(lines)), key=lambda mount: len(mount.point))


def _nearest(directory: Path) -> tuple[Path, int | None]:
    """The real path of the nearest folder that is there, and its device number: ``None`` if it may not be seen.

    A broken disk ("Transport endpoint is not connected") is there as well: its parent lies on something else.
    """
    try:
        path = Path(os.path.realpath(directory))
    except OSError:  # a link that may be seen but not read, such as /proc/1/cwd
        path = directory.absolute()
    while True:
        try:
            found = path.stat()
        except OSError as error:
            if error.errno not in _MISSING:
                return path, None
        else:
            if stat_modes.S_ISDIR(found.st_mode):
                return path, found.st_dev
        path = path.parent


def _parsed(line: str) -> tuple[str, Mount] | None:
    """The device number and the mount of a line. Single spaces part its fields; other white space is part of names."""
    before, _, after = line.partition(" - ")
    fields, filesystem = before.split(" "), after.split(" ")[0]
    if len(fields) < 6 or not fields[4].startswith("/") or not filesystem:
        return None
    root, point = fields[3], _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4])
    fuse = filesystem.split(".")[0] == "fuse" and filesystem not in _FUSE_NEARBY | _IMAGE
    return fields[2], Mount(_place(filesystem, root, point), point, filesystem, fuse or filesystem in _NETWORK)


def _holds(point: str, path: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _place(filesystem: str, root: str, point: str) -> Place:
    if filesystem in _MEMORY:
        return Place.MEMORY
    if filesystem in _IMAGE:
        return Place.IMAGE
    if _EMPTY_DIR in root:
        return Place.SCRATCH
    if _ANONYMOUS.search(root):
        return Place.ANONYMOUS
    return Place.ROOT if point == "/" else Place.OWN
