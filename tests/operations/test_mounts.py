"""The storage that a folder is on: from sample mount tables of many hosts, and from real mounts in a namespace."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_persistent_uploads.operations import mounts
from flask_persistent_uploads.operations.mounts import DiskSpace, Mount, Place, classify, disk_space, find_mount

from ..servers import ROOT, clean_environment

HEX = "3f1c0e9b7a5d2864" * 4
POD = "/var/lib/kubelet/pods/9d0f4c1e-1b7e-4f5a-8a55-2b0b8b9f4e11"
Live = Callable[..., Any]


def text(block: str) -> str:
    return textwrap.dedent(block).lstrip()


# The mounts that a container runtime adds below every root.
RUNTIME = text("""
    524 512 0:94 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
    525 512 0:95 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755,inode64
    526 525 0:96 / /dev/pts rw,nosuid,noexec,relatime - devpts devpts rw,gid=5,mode=620,ptmxmode=666
    527 512 0:97 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro
    528 527 0:29 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime master:9 - cgroup2 cgroup rw,nsdelegate
    529 525 0:98 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=65536k,inode64
    531 512 8:1 /var/lib/docker/containers/5c/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/sda1 rw,discard
    532 512 8:1 /var/lib/docker/containers/5c/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw,discard
    533 512 8:1 /var/lib/docker/containers/5c/hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw,discard
""")
OVERLAY = (
    "512 380 0:92 / / rw,relatime master:273 - overlay overlay"
    " rw,lowerdir=/var/lib/docker/overlay2/l/A:/var/lib/docker/overlay2/l/B,upperdir=/d/diff,workdir=/d/work\n"
)
CONTAINER = OVERLAY + RUNTIME
MICROVM = text("""
    22 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
    23 22 0:5 / /dev rw,relatime - devtmpfs devtmpfs rw,size=240100k,nr_inodes=60025,mode=755
    24 22 0:21 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
    25 22 0:22 / /sys rw,nosuid,nodev,noexec,relatime - sysfs sysfs rw
    26 23 0:23 / /dev/shm rw,nosuid,nodev - tmpfs shm rw
    27 22 254:0 /.config/hosts /etc/hosts rw,relatime - ext4 /dev/vda rw,discard
""")
FLY = MICROVM + "28 22 254:32 / /data rw,relatime - ext4 /dev/vdc rw\n"
KOYEB = MICROVM + "28 22 254:16 / /var/uploads rw,relatime - ext4 /dev/vdb rw,stripe=256\n"
RENDER = CONTAINER + "540 512 259:3 / /var/data rw,relatime - ext4 /dev/nvme3n1 rw,discard\n"
SERVER = text("""
    24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
    22 24 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
    23 24 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
    25 24 0:5 / /dev rw,nosuid,relatime shared:2 - devtmpfs udev rw,size=8129900k,nr_inodes=2032475,mode=755
    27 24 0:24 / /run rw,nosuid,nodev,noexec,relatime shared:5 - tmpfs tmpfs rw,size=1632060k,mode=755
    95 24 8:2 / /boot rw,relatime shared:46 - ext2 /dev/sda2 rw
""")
NESTED = SERVER + text("""
    96 24 8:17 / /srv rw,relatime shared:50 - ext4 /dev/sdb1 rw
    97 96 8:33 / /srv/www rw,relatime shared:51 - xfs /dev/sdc1 rw,attr2,inode64
    98 97 0:51 / /srv/www/uploads rw,relatime shared:52 master:3 propagate_from:2 - nfs4 10.0.0.5:/uploads rw,vers=4.2
""")
GVISOR = text("""
    1 0 0:1 / / rw - 9p none rw,trans=fd,rfdno=4,wfdno=4,aname=/,dfltuid=4294967294,cache=remote_revalidating
    2 1 0:2 / /dev rw - tmpfs none rw
    3 1 0:3 / /sys ro,noexec - sysfs none ro
    4 1 0:4 / /proc rw,noexec - proc none rw
    5 1 0:5 / /etc/hosts rw - 9p none rw,trans=fd,rfdno=6,wfdno=6
""")
BTRFS = text("""
    28 1 0:31 /@ / rw,relatime shared:1 - btrfs /dev/nvme0n1p2 rw,ssd,space_cache=v2,subvolid=256,subvol=/@
    29 28 0:5 / /proc rw,nosuid shared:12 - proc proc rw
    30 28 0:31 /@srv /srv rw,relatime shared:30 - btrfs /dev/nvme0n1p2 rw,ssd,subvolid=257,subvol=/@srv
""")
STACKED = CONTAINER + text("""
    541 512 0:88 / /data rw,relatime - tmpfs tmpfs rw,size=65536k
    542 541 8:16 / /data rw,relatime - ext4 /dev/sdb rw
""")
HIDDEN_DISK = CONTAINER + text("""
    541 512 8:16 / /data/uploads rw,relatime - ext4 /dev/sdb rw
    542 512 0:88 / /data rw,relatime - tmpfs tmpfs rw,size=65536k
""")
HIDDEN_MEMORY = CONTAINER + text("""
    541 512 0:88 / /data/uploads rw,relatime - tmpfs tmpfs rw,size=65536k
    542 512 8:16 / /data rw,relatime - ext4 /dev/sdb rw
""")


def at(point: str, kind: str = "ext4", *, root: str = "/", number: str = "8:1") -> str:
    """Return the mounts of a container with one more mount at ``point``."""
    return f"{CONTAINER}540 512 {number} {root} {point} rw,relatime master:1 - {kind} source rw\n"


def own(point: str, filesystem: str = "ext4", *, network: bool = False) -> Mount:
    return Mount(Place.OWN, point, filesystem, network)


IN_THE_IMAGE = Mount(Place.IMAGE, "/", "overlay", False)
VOLUMES = "/var/lib/docker/volumes"
ROOTLESS = "/home/ada/.local/share/containers/storage/volumes"
EMPTY_DIR = f"{POD}/volumes/kubernetes.io~empty-dir/scratch"


@pytest.mark.parametrize(
    ("mountinfo", "path", "number", "expected"),
    [
        pytest.param(CONTAINER, "/app/uploads", "0:92", IN_THE_IMAGE, id="Docker: no volume"),
        pytest.param(CONTAINER, "/", None, IN_THE_IMAGE, id="Docker: the root itself"),
        pytest.param(
            at("/data", root=f"{VOLUMES}/shop_uploads/_data"), "/data/a", "8:1", own("/data"), id="Docker: named volume"
        ),
        pytest.param(
            at("/data", root=f"{VOLUMES}/{HEX}/_data"),
            "/data/uploads",
            "8:1",
            Mount(Place.ANONYMOUS, "/data", "ext4", False),
            id="Docker: anonymous volume",
        ),
        pytest.param(
            at("/data", "xfs", root=f"{ROOTLESS}/{HEX}/_data"),
            "/data",
            None,
            Mount(Place.ANONYMOUS, "/data", "xfs", False),
            id="podman: anonymous volume",
        ),
        pytest.param(
            at("/data", root=f"/{HEX}/_data//deleted"),
            "/data",
            None,
            Mount(Place.ANONYMOUS, "/data", "ext4", False),
            id="Docker: anonymous volume on a disk for volumes, removed",
        ),
        pytest.param(
            at("/data", root=f"{VOLUMES}/{HEX}0/_data"), "/data", None, own("/data"), id="a name longer than 64 digits"
        ),
        pytest.param(
            at("/data", root=f"/srv/{HEX}/_database"), "/data", None, own("/data"), id="64 digits in another folder"
        ),
        pytest.param(at("/data", root="/srv/uploads"), "/data", "8:1", own("/data"), id="bind of a host's folder"),
        pytest.param(
            SERVER + "99 24 8:1 /home/ada /srv/ada rw,relatime shared:1 - ext4 /dev/sda1 rw\n",
            "/srv/ada/uploads",
            "8:1",
            own("/srv/ada"),
            id="bind of a folder on the same file system",
        ),
        pytest.param(at("/data"), "/etc/hosts", None, own("/etc/hosts"), id="bind of a file: the file"),
        pytest.param(at("/data"), "/etc", None, IN_THE_IMAGE, id="bind of a file: its folder"),
        pytest.param(at("/data"), "/etc/hosts.d/a", None, IN_THE_IMAGE, id="bind of a file: a longer name"),
        pytest.param(at("/data"), "/etc/hos", None, IN_THE_IMAGE, id="bind of a file: a shorter name"),
        pytest.param(
            at("/data", number="259:7"), "/data/uploads", "259:7", own("/data"), id="Kubernetes: persistent volume"
        ),
        pytest.param(
            at("/data", root=EMPTY_DIR),
            "/data/uploads",
            "8:1",
            Mount(Place.SCRATCH, "/data", "ext4", False),
            id="Kubernetes: emptyDir",
        ),
        pytest.param(
            at("/data", "xfs", root=EMPTY_DIR.removeprefix("/var/lib/kubelet") + "/sub"),
            "/data",
            None,
            Mount(Place.SCRATCH, "/data", "xfs", False),
            id="Kubernetes: a folder of an emptyDir, kubelet on its own disk",
        ),
        pytest.param(
            at("/data", "tmpfs", number="0:70"),
            "/data",
            "0:70",
            Mount(Place.MEMORY, "/data", "tmpfs", False),
            id="Kubernetes: emptyDir in memory",
        ),
        pytest.param(
            at("/data", "tmpfs", root=EMPTY_DIR),
            "/data",
            None,
            Mount(Place.MEMORY, "/data", "tmpfs", False),
            id="Kubernetes: emptyDir of a node that is all in memory",
        ),
        pytest.param(
            at("/data", "overlay", root=EMPTY_DIR),
            "/data",
            None,
            Mount(Place.IMAGE, "/data", "overlay", False),
            id="Kubernetes: emptyDir of a node that is a container",
        ),
        pytest.param(RENDER, "/var/data", "259:3", own("/var/data"), id="Render: the disk"),
        pytest.param(RENDER, "/var/data/uploads/2026", "259:3", own("/var/data"), id="Render: below the disk"),
        pytest.param(RENDER, "/var/database/uploads", "0:92", IN_THE_IMAGE, id="Render: a longer name, device"),
        pytest.param(RENDER, "/var/database/uploads", None, IN_THE_IMAGE, id="Render: a longer name"),
        pytest.param(RENDER, "/var", None, IN_THE_IMAGE, id="Render: above the disk"),
        pytest.param(FLY, "/app/uploads", "254:0", Mount(Place.ROOT, "/", "ext4", False), id="Fly: no volume"),
        pytest.param(FLY, "/data/uploads", "254:32", own("/data"), id="Fly: volume"),
        pytest.param(KOYEB, "/app", None, Mount(Place.ROOT, "/", "ext4", False), id="Koyeb: no volume"),
        pytest.param(KOYEB, "/var/uploads", None, own("/var/uploads"), id="Koyeb: volume"),
        pytest.param(SERVER, "/run/uploads", "0:24", Mount(Place.MEMORY, "/run", "tmpfs", False), id="tmpfs"),
        pytest.param(at("/", "tmpfs"), "/srv", None, Mount(Place.MEMORY, "/", "tmpfs", False), id="tmpfs as the root"),
        pytest.param(SERVER, "/dev/x", None, Mount(Place.MEMORY, "/dev", "devtmpfs", False), id="devtmpfs"),
        pytest.param(at("/r", "ramfs"), "/r", None, Mount(Place.MEMORY, "/r", "ramfs", False), id="ramfs"),
        pytest.param(
            at("/", "fuse.fuse-overlayfs"),
            "/a",
            None,
            Mount(Place.IMAGE, "/", "fuse.fuse-overlayfs", False),
            id="podman: rootless root",
        ),
        pytest.param(at("/e", "nfs4"), "/e/a", None, own("/e", "nfs4", network=True), id="NFS"),
        pytest.param(at("/home", "cifs"), "/home/site", None, own("/home", "cifs", network=True), id="Azure: /home"),
        pytest.param(GVISOR, "/app/uploads", None, Mount(Place.ROOT, "/", "9p", False), id="gVisor: root"),
        pytest.param(NESTED, "/srv/www/uploads/a", None, own("/srv/www/uploads", "nfs4", network=True), id="nested: 3"),
        pytest.param(NESTED, "/srv/www/static", "8:33", own("/srv/www", "xfs"), id="nested: 2"),
        pytest.param(NESTED, "/srv/mail", "8:17", own("/srv"), id="nested: 1"),
        pytest.param(NESTED, "/home", "8:1", Mount(Place.ROOT, "/", "ext4", False), id="nested: 0"),
        pytest.param(STACKED, "/data/a", None, own("/data"), id="stacked on one point"),
        pytest.param(STACKED, "/data/a", "8:16", own("/data"), id="stacked on one point, device"),
        pytest.param(
            HIDDEN_DISK,
            "/data/uploads",
            "0:88",
            Mount(Place.MEMORY, "/data", "tmpfs", False),
            id="a disk hidden by memory over its parent",
        ),
        pytest.param(
            HIDDEN_MEMORY, "/data/uploads", "8:16", own("/data"), id="memory hidden by a disk over its parent"
        ),
        pytest.param(HIDDEN_DISK, "/data/uploads", None, own("/data/uploads"), id="without a device the longest wins"),
        pytest.param(BTRFS, "/srv/shop/uploads", "0:52", own("/srv", "btrfs"), id="btrfs: subvolume"),
        pytest.param(BTRFS, "/home", "0:53", Mount(Place.ROOT, "/", "btrfs", False), id="btrfs: subvolume on the root"),
        pytest.param(at(r"/mnt/my\040files"), "/mnt/my files/a", None, own("/mnt/my files"), id="space"),
        pytest.param(at(r"/a\011b\012c"), "/a\tb\nc", None, own("/a\tb\nc"), id="tab and end of line"),
        pytest.param(at(r"/a\134b\134040c"), r"/a\b\040c", None, own(r"/a\b\040c"), id="backslash"),
        pytest.param(
            at("/a\u00a0b\u2028c\x0cd\re"),
            "/a\u00a0b\u2028c\x0cd\re",
            None,
            own("/a\u00a0b\u2028c\x0cd\re"),
            id="odd space",
        ),
    ],
)
def test_the_mount_of_a_path_is_found_in_the_mount_table(
    mountinfo: str, path: str, number: str | None, expected: Mount
) -> None:
    device = os.makedev(*map(int, number.split(":"))) if number else None
    assert classify(mountinfo, path, device=device) == expected


@pytest.mark.parametrize(
    ("filesystem", "network"),
    [
        *((kind, True) for kind in ("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "lustre", "afs")),
        *((f"fuse.{kind}", True) for kind in ("gcsfuse", "s3fs", "rclone", "sshfs", "glusterfs", "juicefs")),
        ("fuse", True),
        *((kind, False) for kind in ("ext4", "xfs", "btrfs", "zfs", "9p", "virtiofs", "fuseblk")),
        *((f"fuse.{kind}", False) for kind in ("mergerfs", "bindfs", "gocryptfs", "grpcfuse")),
    ],
)
def test_network_file_systems_are_recognised(filesystem: str, network: bool) -> None:
    assert classify(at("/data", filesystem), "/data") == own("/data", filesystem, network=network)


@pytest.mark.parametrize(
    "filesystem",
    ["overlay", "aufs", "fuse-overlayfs", "fuse.fuse-overlayfs", "squashfs", "fuse.squashfuse", "erofs"],
)
def test_a_layer_of_an_image_is_recognised_at_any_mount_point(filesystem: str) -> None:
    for point in ("/", "/opt/app"):
        assert classify(at(point, filesystem), "/opt/app") == Mount(Place.IMAGE, point, filesystem, False)


MALFORMED = [
    "",
    " - ",
    "no mount at all",
    "540 512 8:16 / /data rw,relatime master:1",
    "540 512 8:16 / /data rw,relatime - ",
    "540 512 8:16 / /data - ext4 /dev/sdb rw",
    "540 8:16 / /data rw - ext4 /dev/sdb rw",
    "540 512 8:16 /  rw,relatime - ext4 /dev/sdb rw",
    "540 512 8:16 / data rw,relatime - ext4 /dev/sdb rw",
    "540 512 8:16 /data",
    "\x00\ufffd",
]


@pytest.mark.parametrize("line", MALFORMED)
def test_a_malformed_line_is_ignored(line: str) -> None:
    for mountinfo in (f"{line}\n{CONTAINER}", f"{CONTAINER}{line}\n", f"{CONTAINER}{line}"):
        assert classify(mountinfo, "/data/uploads", device=os.makedev(8, 16)) == IN_THE_IMAGE
    assert classify(line, "/data/uploads") == Mount(Place.UNKNOWN, "", "", False)


@given(st.lists(st.sampled_from([*" \n-/\\", "8:1", "/a", "x", "\\040", "\\777", " - ", "ext4", "fuse."])).map("".join))
def test_no_text_raises_an_error(mountinfo: str) -> None:
    assert classify(mountinfo, "/a/b", device=1, root_device=1).place in Place


@pytest.mark.parametrize("mountinfo", ["", "\n", "24 1 8:1 /jail /elsewhere rw - ext4 /dev/sda1 rw\n"])
@pytest.mark.parametrize(
    ("device", "root_device", "place"),
    [
        (5, 6, Place.OWN),
        (5, 5, Place.ROOT),
        (0, 0, Place.ROOT),
        (None, 5, Place.UNKNOWN),
        (5, None, Place.UNKNOWN),
        (None, None, Place.UNKNOWN),
    ],
)
def test_the_device_numbers_decide_if_no_line_contains_the_path(
    mountinfo: str, device: int | None, root_device: int | None, place: Place
) -> None:
    assert classify(mountinfo, "/data", device=device, root_device=root_device) == Mount(place, "", "", False)


@pytest.mark.parametrize("place", Place)
def test_every_place_is_a_noun_phrase(place: Place) -> None:
    assert place.value.startswith(("a ", "an ", "the "))
    assert not place.value.endswith(".")


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is a mount point in the file that :func:`find_mount` reads."""
    folder = tmp_path / "disk"
    folder.mkdir()
    shown = tmp_path / "mountinfo"
    shown.write_text(SERVER + f"99 24 0:0 / {folder} rw,relatime - ext4 /dev/sdb rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", shown)
    return folder


def show(*lines: str) -> None:
    """Replace the lines that :func:`find_mount` reads."""
    mounts.MOUNTINFO.write_bytes(os.fsencode(SERVER + "".join(lines)))


def number_of(path: Path) -> str:
    device = path.stat().st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def test_a_missing_folder_is_accepted_and_not_created(disk: Path) -> None:
    assert find_mount(disk) == find_mount(disk / "a" / "b") == own(str(disk))
    assert disk_space(disk / "a" / "b").total_bytes == disk_space(disk).total_bytes
    assert list(disk.iterdir()) == []


def test_a_symbolic_link_is_followed(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "to-disk").symlink_to(disk)
    (disk / "away").symlink_to(tmp_path)
    assert find_mount(tmp_path / "to-disk") == find_mount(tmp_path / "to-disk" / "new") == own(str(disk))
    assert find_mount(disk / "away" / "new").point == "/"


def test_a_broken_symbolic_link_is_followed(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").symlink_to(disk / "new" / "folder")
    (disk / "broken").symlink_to(tmp_path / "missing")
    assert find_mount(tmp_path / "broken" / "uploads") == own(str(disk))
    assert find_mount(disk / "broken").point == "/"
    assert not (disk / "new").exists()


def test_links_in_a_circle_count_as_the_folder_that_contains_them(disk: Path) -> None:
    (disk / "one").symlink_to(disk / "two")
    (disk / "two").symlink_to(disk / "one")
    assert find_mount(disk / "one" / "uploads") == own(str(disk))
    assert disk_space(disk / "one" / "uploads").total_bytes == disk_space(disk).total_bytes


def test_a_relative_path_starts_at_the_working_directory(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (disk / "app").mkdir()
    monkeypatch.chdir(disk / "app")
    assert find_mount(Path("new/uploads")) == find_mount(Path("../new")) == own(str(disk))
    assert find_mount(Path("../../new")).point == "/"


def test_a_file_in_place_of_the_folder_is_skipped(disk: Path) -> None:
    file = disk / "file"
    file.write_bytes(b"x")
    show(f"99 24 0:0 / {disk} rw - ext4 a rw\n", f"100 24 0:0 /hosts {file} rw - xfs a rw\n")
    assert find_mount(file / "uploads") == find_mount(file) == own(str(disk))


def test_a_name_that_is_too_long_counts_as_missing(disk: Path) -> None:
    assert find_mount(disk / ("x" * 300) / "uploads") == own(str(disk))
    assert disk_space(disk / ("x" * 300) / "uploads").total_bytes == disk_space(disk).total_bytes


def test_a_name_may_contain_any_bytes(disk: Path) -> None:
    odd = disk / os.fsdecode(b"caf\xe9\r\xa0")
    odd.mkdir()
    show(f"99 24 0:0 / {odd} rw - ext4 a rw\n")
    assert find_mount(odd / "uploads") == own(str(odd))


def test_the_device_number_shows_which_mount_hides_the_other(disk: Path) -> None:
    (disk / "uploads").mkdir()
    hidden, over = f"98 24 0:0 / {disk}/uploads rw - xfs a rw\n", f"99 24 {number_of(disk)} / {disk} rw - ext4 a rw\n"
    show(hidden, over)
    assert find_mount(disk / "uploads" / "new") == own(str(disk))


@pytest.mark.parametrize("shown", ["missing", "."])
def test_the_device_numbers_decide_if_there_is_no_mount_table(
    shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "MOUNTINFO", tmp_path / shown)
    root = Path("/").stat().st_dev
    other = next(path for path in map(Path, ("/dev/shm", "/proc", "/dev")) if path.stat().st_dev != root)
    assert find_mount(Path("/no-such-folder/uploads")) == Mount(Place.ROOT, "", "", False)
    assert find_mount(other / "no-such-folder") == Mount(Place.OWN, "", "", False)


@pytest.mark.parametrize("code", [errno.ENOTCONN, errno.ESTALE, errno.EIO])
def test_a_broken_disk_still_counts(code: int, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show(f"98 24 {number_of(disk)} / / rw - ext4 /dev/sda1 rw\n", f"99 24 0:0 / {disk} rw - fuse.s3fs a rw\n")
    stat = Path.stat

    def broken(path: Path, **options: Any) -> os.stat_result:
        if path.is_relative_to(disk):
            raise OSError(code, "broken")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", broken)
    assert find_mount(disk / "uploads") == own(str(disk), "fuse.s3fs", network=True)


def test_a_folder_without_permission_is_found_by_its_path() -> None:
    script = """
        from flask_persistent_uploads.operations import mounts
        os.setuid(65534) if os.geteuid() == 0 else None
        mounts.MOUNTINFO = folder / "mountinfo"
        unseen = mount_of(folder / "shut" / "disk" / "uploads")
        try:
            size = space_of(folder / "shut" / "disk" / "uploads")
        except PermissionError as error:
            size = type(error).__name__
        print(json.dumps([unseen, mount_of(folder / "shut"), size, mount_of("/proc/1/cwd/uploads")]))
    """
    with tempfile.TemporaryDirectory() as name:  # tmp_path lies below folders that are closed to others
        folder = Path(name).resolve()
        (folder / "shut" / "disk").mkdir(parents=True)
        disk = folder / "shut" / "disk"
        root = f"24 1 {number_of(folder)} / / rw - ext4 /dev/sda1 rw\n"
        (folder / "mountinfo").write_text(f"{root}99 24 0:0 / {disk} rw - ext4 /dev/sdb rw\n")
        (folder / "shut").chmod(0o000)
        folder.chmod(0o755)
        try:
            unseen, above, size, unread = run_script(folder, script)
        finally:
            (folder / "shut").chmod(0o700)
    assert unseen == ["OWN", str(disk), "ext4", False]
    assert above[:2] == ["ROOT", "/"]
    assert size == "PermissionError"
    assert unread[:2] == ["ROOT", "/"]


def test_disk_space_is_what_unprivileged_processes_can_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(flag: int) -> os.statvfs_result:
        block, unit, blocks, free, available, inodes, free_inodes, available_inodes = (
            1 << 20,
            512,
            100,
            60,
            40,
            30,
            20,
            10,
        )
        return os.statvfs_result(
            (block, unit, blocks, free, available, inodes, free_inodes, available_inodes, flag, 255)
        )

    for flag, read_only in ((0, False), (os.ST_NOSUID, False), (os.ST_NOSUID | os.ST_RDONLY, True)):
        monkeypatch.setattr(os, "statvfs", lambda path, flag=flag: answer(flag))
        assert disk_space(tmp_path) == DiskSpace(40 * 512, 100 * 512, 10, 30, read_only)


PREAMBLE = text("""
    import json, os, sys
    from dataclasses import astuple
    from pathlib import Path
    from flask_persistent_uploads.operations.mounts import disk_space, find_mount

    folder = Path(sys.argv[1])

    def mount_of(path):
        mount = find_mount(Path(path))
        return [mount.place.name, mount.point, mount.filesystem, mount.network]

    def space_of(path):
        return astuple(disk_space(Path(path)))
""")


def run_script(folder: Path, script: str, *, before: tuple[str, ...] = ()) -> Any:
    """Run a script in a new process and return the JSON that it prints."""
    command = [*before, sys.executable, "-c", PREAMBLE + textwrap.dedent(script), str(folder)]
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    environment = clean_environment(PYTHONPATH=str(ROOT), FOLDER=str(folder), PATH=path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 77:
        pytest.skip(f"no loop device is available here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def live(tmp_path: Path) -> Live:
    """Return a function that runs shell commands, then a script, in a mount namespace of their own.

    The commands mount file systems below ``$FOLDER``.
    """
    is_root = os.geteuid() == 0
    unshare = ("unshare", "-m") if is_root else ("unshare", "-rm")
    probe = [*unshare, "mount", "-t", "tmpfs", "none", str(tmp_path)]
    found = shutil.which("unshare") and subprocess.run(probe, capture_output=True, text=True, check=False)
    if not found or found.returncode:
        reason = f"file systems cannot be mounted here: {found.stderr.strip() if found else 'no unshare'}"
        pytest.fail(reason) if is_root and os.environ.get("CI") == "true" else pytest.skip(reason)

    def run(mount: str, script: str) -> Any:
        return run_script(tmp_path, script, before=(*unshare, "sh", "-ec", f'{mount}\nexec "$@"', "sh"))

    return run


def loop_files() -> Iterator[Path]:
    """Yield the files that are attached to loop devices now."""
    for shown in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # freed in the meantime
            yield Path(shown.read_text().strip())


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """Yield a path for the image of a disk; then wait until its loop device is free again."""
    path = tmp_path / "image"
    yield path
    until = time.monotonic() + 10
    while path in loop_files():
        assert time.monotonic() < until, "the loop device was not freed"
        time.sleep(0.05)


def test_live_memory_is_recognised_by_the_mounts_of_this_process(live: Live, tmp_path: Path) -> None:
    mount = r"""
        cd "$FOLDER"; mkdir -p 'with space' bind over/deep
        mount -t tmpfs none 'with space'; mkdir 'with space/source'
        mount --bind 'with space/source' bind
        mount -t tmpfs none over/deep; mount -t tmpfs none over; mkdir over/deep
        ln -s 'with space/missing' link
    """
    script = """
        names = ["with space", "link/new", "bind/new", "over/deep", "/"]
        print(json.dumps([mount_of(folder / name) for name in names]))
    """
    *found, root = live(mount, script)
    points = ("with space", "with space", "bind", "over")
    assert found == [["MEMORY", str(tmp_path / point), "tmpfs", False] for point in points]
    assert root[1] == "/"
    assert list(tmp_path.glob("*/*")) == [tmp_path / "over" / "deep"]


def test_live_a_disk_is_recognised_by_the_mounts_of_this_process(live: Live, tmp_path: Path, image: Path) -> None:
    mount = r"""
        cd "$FOLDER"; mkdir -p 'my disk' bind beside; ln -s 'my disk' link
        truncate -s 16M image; mkfs.ext4 -q -m 50 image
        mount -t tmpfs none 'my disk'; mount -o loop image 'my disk' || exit 77
        mkdir 'my disk/source'; touch 'my disk/hosts' hosts
        mount --bind 'my disk/source' bind; mount --bind 'my disk/hosts' hosts
        anonymous="my disk/HEX/_data"; mkdir -p "$anonymous" named-on-top anonymous-on-top
        mount --bind "$anonymous" named-on-top; mount --bind 'my disk/source' named-on-top
        mount --bind 'my disk/source' anonymous-on-top; mount --bind "$anonymous" anonymous-on-top
    """.replace("HEX", HEX)
    script = """
        names = ["my disk", "my disk/new/uploads", "link", "link/new", "bind", "hosts", "beside"]
        names += ["named-on-top", "anonymous-on-top"]
        print(json.dumps([mount_of(folder / name) for name in names] + [space_of(folder / "link" / "new")]))
    """
    disk, below, link, below_link, bind, file, beside, named, anonymous, left = live(mount, script)
    assert disk == below == link == below_link == ["OWN", str(tmp_path / "my disk"), "ext4", False]
    assert bind == ["OWN", str(tmp_path / "bind"), "ext4", False]
    assert not beside[1].startswith(str(tmp_path))
    assert file == beside
    assert named == ["OWN", str(tmp_path / "named-on-top"), "ext4", False]
    assert anonymous == ["ANONYMOUS", str(tmp_path / "anonymous-on-top"), "ext4", False]
    free, total, free_inodes, inodes, read_only = left
    assert 12 << 20 < total <= 16 << 20
    assert 4 << 20 < free < 8 << 20  # a half is kept back for root
    assert 0 < free_inodes < inodes
    assert read_only is False


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("size=256k,nr_inodes=10", [256 << 10, 256 << 10, 9, 10, False]),
        ("ro,size=256k,nr_inodes=10", [256 << 10, 256 << 10, 9, 10, True]),
        ("size=0,nr_inodes=0", [0, 0, 0, 0, False]),
    ],
)
def test_live_disk_space_of_a_small_disk_is_exact(live: Live, options: str, expected: list[Any]) -> None:
    script = 'print(json.dumps(space_of(folder / "new" / "uploads")))'
    assert live(f'mount -t tmpfs -o {options} none "$FOLDER"', script) == expected
