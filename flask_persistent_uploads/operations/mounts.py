"""Find out what kind of storage a folder is on: a separate disk, the root file system, memory or a container's image.

The kernel tells the kind (proc_pid_mountinfo(5)), but not whether the storage survives a deploy: the root file system
of a plain server does, but most hosting platforms wipe theirs. :mod:`.verdict` decides that.
"""

from __future__ import annotations

import errno
import os
import re
import stat as stat_modes
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")

_MEMORY = {"tmpfs", "ramfs", "devtmpfs"}
_IMAGE = {"overlay", "aufs", "fuse-overlayfs", "fuse.fuse-overlayfs", "squashfs", "fuse.squashfuse", "erofs"}
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "lustre", "afs"}
# All other FUSE file systems count as network: mounted buckets (gcsfuse, goofys, Mountpoint) often call themselves
# just "fuse".
_LOCAL_FUSE = {"fuse.mergerfs", "fuse.bindfs", "fuse.gocryptfs", "fuse.grpcfuse"}
_EMPTY_DIR = "/kubernetes.io~empty-dir/"
# The path before it differs: /var/lib/docker/volumes, podman's .../containers/storage/volumes, or none at all if the
# volumes are on a disk of their own.
_ANONYMOUS = re.compile(r"/[0-9a-f]{64}/_data(/|$)")
_OCTAL = re.compile(r"\\([0-7]{3})")
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


class Place(Enum):
    """The kinds of storage that a folder can be on. Each value describes one, as a noun phrase."""

    OWN = "a separate mount"
    ROOT = "the root file system"
    MEMORY = "a file system in memory"
    IMAGE = "a layer of the container's image"
    SCRATCH = "an emptyDir volume of a Kubernetes pod"
    ANONYMOUS = "an anonymous volume of a container"
    UNKNOWN = "an unknown file system"


@dataclass(frozen=True, slots=True)
class Mount:
    """The mount that a folder is on.

    :attr:`point`       its mount point; empty if unknown
    :attr:`filesystem`  its type, such as ``ext4`` or ``nfs4``; empty if unknown
    :attr:`network`     whether another machine serves it. 9p and virtiofs do not count: sandboxes (gVisor, Firecracker,
                        WSL) use them to reach their own host.
    """

    place: Place
    point: str
    filesystem: str
    network: bool


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The space that is left for unprivileged processes. A total of 0 means that there is no such limit."""

    free_bytes: int
    total_bytes: int
    free_inodes: int
    total_inodes: int
    read_only: bool


def find_mount(directory: Path) -> Mount:
    """Return the mount that a folder is on, or would be on if it existed. Create nothing.

    Follow symbolic links, also broken ones. Raise no :exc:`OSError` for an absolute path.
    """
    path, device = _nearest_folder(directory)
    try:
        mountinfo = os.fsdecode(MOUNTINFO.read_bytes())
    except OSError:
        mountinfo = ""
    return classify(mountinfo, str(path), device=device, root_device=Path("/").stat().st_dev)


def disk_space(directory: Path) -> DiskSpace:
    """Return the space that is left on the disk that a folder is on, or would be on. Raises :exc:`OSError`."""
    found = os.statvfs(_nearest_folder(directory)[0])
    size, read_only = found.f_frsize, bool(found.f_flag & os.ST_RDONLY)
    return DiskSpace(found.f_bavail * size, found.f_blocks * size, found.f_favail, found.f_files, read_only)


def classify(mountinfo: str, path: str, *, device: int | None = None, root_device: int | None = None) -> Mount:
    """Return the mount of ``path``, from the text of ``/proc/self/mountinfo`` and the device numbers of path and root.

    ``path`` is absolute, exists and has no symbolic links. If no line contains it, as on systems without ``/proc``,
    the device numbers alone decide. Malformed lines are ignored.
    """
    lines = [line for line in map(_parse_line, mountinfo.split("\n")) if line and _contains(line[1].point, path)]
    if not lines:
        place = Place.ROOT if device == root_device else Place.OWN
        return Mount(Place.UNKNOWN if None in (device, root_device) else place, "", "", False)
    if device is not None:
        # A later mount on a parent hides the deeper ones, so the longest mount point may be out of reach. The numbers
        # of btrfs subvolumes are in no line.
        number = f"{os.major(device)}:{os.minor(device)}"
        lines = [line for line in lines if line[0] == number] or lines
    # Of two mounts on the same point, the later one is on top; max() returns the first of equal items.
    return max((mount for _, mount in reversed(lines)), key=lambda mount: len(mount.point))


def _nearest_folder(directory: Path) -> tuple[Path, int | None]:
    """Return the real path of the nearest existing folder, and its device number, or ``None`` if it cannot be read.

    The folder of a broken disk ("Transport endpoint is not connected") counts as existing, because its parent is on
    another disk.
    """
    try:
        path = Path(os.path.realpath(directory))
    except OSError:  # a link that can be seen but not read, such as /proc/1/cwd
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


def _parse_line(line: str) -> tuple[str, Mount] | None:
    """Return the device number and the mount of a line. Single spaces separate fields; other spaces belong to names."""
    before, _, after = line.partition(" - ")
    fields, filesystem = before.split(" "), after.split(" ")[0]
    if len(fields) < 6 or not fields[4].startswith("/") or not filesystem:
        return None
    root, point = fields[3], _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4])
    fuse = filesystem.split(".")[0] == "fuse" and filesystem not in _LOCAL_FUSE | _IMAGE
    return fields[2], Mount(_place(filesystem, root, point), point, filesystem, fuse or filesystem in _NETWORK)


def _contains(point: str, path: str) -> bool:
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
