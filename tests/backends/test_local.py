"""The local backend when something goes wrong: links, special files, full and read-only disks, and power cuts."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import json
import os
import socket
import stat as stat_modes
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from flask_persistent_uploads import backends
from flask_persistent_uploads.backends.local import LocalBackend
from flask_persistent_uploads.errors import (
    BackendError,
    BackendFull,
    BackendRefused,
    BackendUnavailable,
    FileExists,
    FileMissing,
)

from ..conftest import open_below
from ..servers import ROOT, clean_environment

TEMPORARY = ".uploads-"


def save(backend: LocalBackend, key: str, content: bytes = b"content", *, overwrite: bool = False) -> str:
    return backend.save(
        key, io.BytesIO(content), content_type="a/b", size=len(content), filename="a", overwrite=overwrite
    )


def read(backend: LocalBackend, key: str) -> bytes:
    with backend.open(key) as stream:
        return stream.read()


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return every name below a folder, with the content of the files."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "disk" / "uploads"


@pytest.fixture
def backend(directory: Path) -> LocalBackend:
    return LocalBackend(directory)


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A folder outside of the directory, which no operation may read or change."""
    folder = tmp_path / "victim"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"secret")
    (folder / "sub" / "a.png").write_bytes(b"secret")
    before = tree(folder)
    yield folder
    assert tree(folder) == before


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_only_the_owner_and_the_group_may_read_files_under_every_umask(
    backend: LocalBackend, directory: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        save(backend, "a/b/c.png")
        save(backend, "a/b/c.png", b"again", overwrite=True)
        save(backend, "a/b/d.png")
    finally:
        os.umask(before)
    modes = {path.name: stat_modes.S_IMODE(path.stat().st_mode) for path in (directory, *directory.rglob("*"))}
    assert modes == {"uploads": 0o750, "a": 0o750, "b": 0o750, "c.png": 0o640, "d.png": 0o640}


def test_a_relative_directory_is_refused() -> None:
    with pytest.raises(ValueError, match="absolute"):
        LocalBackend(Path("uploads"))


LINKS: dict[str, tuple[str, str, str]] = {
    "a linked file": ("f.png", "a.png", "f.png"),
    "a linked folder": ("f", ".", "f/a.png"),
    "a linked folder, new file": ("f", ".", "f/new.png"),
    "a linked folder, existing folder": ("f", ".", "f/sub/a.png"),
    "a linked folder, new folder": ("f", ".", "f/new/deep/a.png"),
    "a link to nowhere": ("f.png", "nowhere.png", "f.png"),
    "a link to no folder": ("f", "nowhere", "f/a.png"),
    "a link to no folder, new folder": ("f", "nowhere", "f/new/a.png"),
}


@pytest.mark.parametrize(("link", "target", "key"), LINKS.values(), ids=LINKS.keys())
class TestLinks:
    """No symbolic link below the directory is followed: a file behind a link does not exist for the backend."""

    @pytest.fixture(autouse=True)
    def _link(self, directory: Path, victim: Path, link: str, target: str) -> None:
        directory.mkdir(parents=True)
        (directory / link).symlink_to(victim / target)

    def test_reading_and_deleting_do_not_follow_the_link(
        self, backend: LocalBackend, directory: Path, link: str, key: str
    ) -> None:
        with pytest.raises(FileMissing):
            backend.open(key)
        assert backend.stat(key) is None
        backend.delete(key)
        assert (directory / link).is_symlink()
        assert list(backend.entries()) == list(backend.entries("f")) == list(backend.entries("f/")) == []

    def test_saving_is_refused_and_creates_nothing_behind_the_link(self, backend: LocalBackend, key: str) -> None:
        with pytest.raises(BackendError):
            save(backend, key)

    def test_overwriting_does_not_write_through_the_link(self, backend: LocalBackend, link: str, key: str) -> None:
        try:
            save(backend, key, overwrite=True)
        except BackendError:
            assert backend.stat(key) is None
        else:
            assert key == link  # the link itself was replaced by the file
            assert read(backend, key) == b"content"


def test_a_folder_that_is_constantly_swapped_for_a_link_is_never_left(
    backend: LocalBackend, directory: Path, victim: Path
) -> None:
    save(backend, "folder/a.png", b"mine")
    (directory / "link").symlink_to(victim)
    names = [os.fsencode(directory / name) for name in ("folder", "link")]
    exchange, done = ctypes.CDLL(None).renameat2, threading.Event()

    def swap() -> None:
        while not done.is_set():
            exchange(-100, names[0], -100, names[1], 2)  # AT_FDCWD, RENAME_EXCHANGE

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        deadline, number = time.monotonic() + 1.5, 0
        while time.monotonic() < deadline:
            number += 1
            with contextlib.suppress(FileMissing):
                assert read(backend, "folder/a.png") == b"mine"
            found = backend.stat("folder/a.png")
            assert found is None or found.size == len(b"mine")
            with contextlib.suppress(BackendRefused, FileExists):
                save(backend, f"folder/{number}.png")
            backend.delete(f"folder/{number}.png")
            backend.delete("folder/sub/a.png")
    finally:
        done.set()
        swapper.join()
    assert number > 10


def bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))  # the absolute path is too long for the name of a socket


SPECIAL_FILES: dict[str, Callable[[Path], object]] = {"fifo": os.mkfifo, "socket": bind_socket, "folder": Path.mkdir}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", SPECIAL_FILES)
def test_a_special_file_counts_as_missing_and_does_not_block(backend: LocalBackend, directory: Path, kind: str) -> None:
    directory.mkdir(parents=True)
    SPECIAL_FILES[kind](directory / "odd")
    with pytest.raises(FileMissing):
        backend.open("odd")
    assert backend.stat("odd") is None
    backend.delete("odd")
    assert list(backend.entries()) == []
    for overwrite in (False, kind == "folder"):
        with pytest.raises(BackendError):
            save(backend, "odd", overwrite=overwrite)
    assert [entry.name for entry in directory.iterdir()] == ["odd"]


def test_a_key_below_a_file_counts_as_missing_and_cannot_be_saved(backend: LocalBackend) -> None:
    save(backend, "a", b"file")
    with pytest.raises(FileMissing):
        backend.open("a/b")
    assert backend.stat("a/b") is None
    with pytest.raises(BackendError):
        save(backend, "a/b")
    assert read(backend, "a") == b"file"


def test_entries_ignores_links_and_reserved_names(backend: LocalBackend, directory: Path, victim: Path) -> None:
    save(backend, "a/ok.png")
    (directory / ".uploads").mkdir()
    (directory / ".uploads" / "marker").write_bytes(b"x")
    (directory / "a" / f"{TEMPORARY}0123").write_bytes(b"half")
    (directory / "link.png").symlink_to(directory / "a" / "ok.png")
    (directory / "links").symlink_to(directory / "a")
    (directory / "outside").symlink_to(victim)
    assert [entry.key for entry in backend.entries()] == ["a/ok.png"]
    assert list(backend.entries("links/")) == list(backend.entries(".uploads")) == []


class Disk:
    """Runs a script in a process and a mount namespace of its own. ``backend`` in it uses a disk of its own."""

    PREAMBLE = textwrap.dedent(
        """
        import io, json, os, resource, sys
        from pathlib import Path
        from flask_persistent_uploads.backends.local import LocalBackend
        from flask_persistent_uploads.errors import BackendError

        directory = Path(sys.argv[1])
        backend = LocalBackend(directory)

        def attempt(key, content, overwrite=False):
            try:
                backend.save(key, io.BytesIO(content), content_type="a/b", size=len(content), filename="a",
                             overwrite=overwrite)
            except BackendError as error:
                return [type(error).__name__, error.code, str(error)]
            return "saved"

        def tree():
            return {str(p.relative_to(directory)): p.stat().st_size for p in directory.rglob("*") if p.is_file()}
        """
    )

    @classmethod
    def run(cls, directory: Path, script: str, *, mount: str = "") -> Any:
        """Return what ``script`` prints as JSON. ``mount`` holds shell commands that run before it, as root."""
        command = [sys.executable, "-c", cls.PREAMBLE + textwrap.dedent(script), str(directory)]
        if mount:
            unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
            command = [*unshare, "sh", "-ec", f'{mount}\nexec "$@"', "sh", *command]
        environment = clean_environment(PYTHONPATH=str(ROOT), DISK=str(directory))
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


FULL = """
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)) if WITH_A_LIMIT else None
    old = attempt("old.png", b"o" * 10_000)
    answers = [attempt("new/new.png", b"n" * 300_000), attempt("old.png", b"n" * 300_000, overwrite=True)]
    with backend.open("old.png") as stream:
        intact = stream.read() == b"o" * 10_000
    print(json.dumps([old, answers, intact, tree(), [entry.key for entry in backend.entries()]]))
"""


@pytest.mark.parametrize("kind", ["a limit", "a small disk"])
def test_a_full_disk_is_507_and_existing_files_stay_intact(tmp_path: Path, kind: str) -> None:
    limit = kind == "a limit"
    mount = "" if limit else 'mount -t tmpfs -o size=256k none "$DISK"'
    old, answers, intact, files, entries = Disk.run(tmp_path, FULL.replace("WITH_A_LIMIT", str(limit)), mount=mount)
    assert old == "saved"
    assert [answer[:2] for answer in answers] == [["BackendFull", 507]] * 2
    assert intact
    assert (files, entries) == ({"old.png": 10_000}, ["old.png"])


def test_a_disk_without_free_inodes_is_507(tmp_path: Path) -> None:
    answers = Disk.run(
        tmp_path,
        'print(json.dumps([attempt(f"{n}.png", b"x") for n in range(12)] + [len(tree())]))',
        mount='mount -t tmpfs -o size=256k,nr_inodes=8 none "$DISK"',
    )
    assert answers[0] == "saved"
    assert answers[-2][:2] == ["BackendFull", 507]
    assert answers[-1] == answers.count("saved")


def test_a_read_only_disk_is_503_and_can_still_be_read(tmp_path: Path) -> None:
    script = """
        with backend.open("old.png") as stream:
            print(json.dumps([attempt("new.png", b"x"), attempt("f/new.png", b"x"), stream.read().decode(), tree()]))
    """
    mount = 'mount -t tmpfs none "$DISK"; printf old > "$DISK/old.png"; mount -o remount,ro "$DISK"'
    *answers, content, files = Disk.run(tmp_path, script, mount=mount)
    assert [answer[:2] for answer in answers] == [["BackendUnavailable", 503]] * 2
    assert "The disk for uploads is read-only. Mount it for writing." in answers[0][2]
    assert (content, files) == ("old", {"old.png": 3})


def test_a_folder_without_permission_is_502_and_not_a_missing_file() -> None:
    script = """
        os.setuid(65534) if os.geteuid() == 0 else None
        answers = [attempt("new.png", b"x"), attempt("shut/a.png", b"x")]
        calls = [lambda call=call: call("shut/a.png") for call in (backend.open, backend.stat, backend.delete)]
        for call in (*calls, lambda: list(backend.entries("listed/"))):
            try:
                answers.append(repr(call()))
            except BackendError as error:
                answers.append([type(error).__name__, error.code, str(error)])
        print(json.dumps(answers))
    """
    with tempfile.TemporaryDirectory() as name:  # other users cannot reach tmp_path
        folder = Path(name)
        (folder / "shut").mkdir()
        (folder / "shut" / "a.png").write_bytes(b"x")
        (folder / "listed").mkdir()
        (folder / "listed" / "a.png").write_bytes(b"x")
        (folder / "shut").chmod(0o000)
        (folder / "listed").chmod(0o444)  # its names can be read, but not the sizes of its files
        folder.chmod(0o555)
        try:
            answers = Disk.run(folder, script)
        finally:
            for each in (folder, folder / "shut", folder / "listed"):
                each.chmod(0o700)
    assert [answer[:2] for answer in answers] == [["BackendRefused", 502]] * 6
    assert "permission" in answers[0][2]
    assert name not in str(answers)


class TestDurability:
    @pytest.fixture
    def events(self, monkeypatch: pytest.MonkeyPatch, backend: LocalBackend) -> list[tuple[str, str]]:
        """Record each fsync, link and rename from now on, in order."""
        save(backend, "folder/first.png")
        events: list[tuple[str, str]] = []
        fsync, link, replace = os.fsync, os.link, os.replace

        def recorded_fsync(descriptor: int) -> None:
            name = Path(f"/proc/self/fd/{descriptor}").readlink().name
            events.append(("fsync", "temporary" if name.startswith(TEMPORARY) else name))
            fsync(descriptor)

        def recorded(name: str, original: Callable[..., None]) -> Callable[..., None]:
            def call(source: Any, target: Any, **options: Any) -> None:
                events.append((name, Path(target).name))
                original(source, target, **options)

            return call

        monkeypatch.setattr(os, "fsync", recorded_fsync)
        monkeypatch.setattr(os, "link", recorded("link", link))
        monkeypatch.setattr(os, "replace", recorded("replace", replace))
        return events

    def test_the_content_is_synced_before_the_link_and_the_folder_after_it(
        self, backend: LocalBackend, events: list[tuple[str, str]]
    ) -> None:
        save(backend, "folder/a.png")
        assert events == [("fsync", "temporary"), ("link", "a.png"), ("fsync", "folder")]

    def test_an_overwrite_is_as_durable_as_a_new_file(
        self, backend: LocalBackend, events: list[tuple[str, str]]
    ) -> None:
        save(backend, "folder/first.png", overwrite=True)
        assert events == [("fsync", "temporary"), ("replace", "first.png"), ("fsync", "folder")]

    def test_each_new_folder_is_synced_in_its_parent_folder(
        self, backend: LocalBackend, events: list[tuple[str, str]]
    ) -> None:
        save(backend, "folder/x/y/a.png")
        folders = [name for event, name in events if event == "fsync"]
        assert folders == ["folder", "x", "temporary", "y"]

    @staticmethod
    def break_fsync(monkeypatch: pytest.MonkeyPatch, number: int, *, of_folders: bool) -> None:
        original = os.fsync

        def fsync(descriptor: int) -> None:
            if stat_modes.S_ISDIR(os.fstat(descriptor).st_mode) == of_folders:
                raise OSError(number, os.strerror(number))
            original(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)

    def test_a_file_system_that_cannot_sync_folders_is_accepted(
        self, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.break_fsync(monkeypatch, errno.EINVAL, of_folders=True)
        save(backend, "folder/a.png")
        assert read(backend, "folder/a.png") == b"content"

    @pytest.mark.parametrize("of_folders", [False, True], ids=["of the file", "of the folder"])
    @pytest.mark.parametrize(("number", "error"), [(errno.EIO, BackendUnavailable), (errno.ENOSPC, BackendFull)])
    def test_a_sync_that_fails_leaves_nothing_behind(
        self,
        backend: LocalBackend,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
        error: type[BackendError],
        of_folders: bool,
    ) -> None:
        save(backend, "folder/old.png", b"old")
        self.break_fsync(monkeypatch, number, of_folders=of_folders)
        with pytest.raises(error):
            save(backend, "folder/new.png")
        assert backend.stat("folder/new.png") is None
        assert tree(directory / "folder") == {"old.png": b"old"}

    def test_a_killed_save_leaves_no_visible_file(self, backend: LocalBackend, directory: Path) -> None:
        script = """
            class Slow(io.BytesIO):
                def read(self, size=-1):
                    if self.tell() >= 2 << 20:
                        print("half", flush=True)
                        sys.stdin.read()
                    return super().read(1 << 20)

            backend.save("folder/a.png", Slow(b"x" * (4 << 20)), content_type="a/b", size=4 << 20, filename="a")
        """
        command = [sys.executable, "-c", Disk.PREAMBLE + textwrap.dedent(script), str(directory)]
        environment = clean_environment(PYTHONPATH=str(ROOT))
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"half\n"
            process.kill()
        (left,) = (directory / "folder").iterdir()
        assert left.name.startswith(TEMPORARY)
        assert backend.stat("folder/a.png") is None
        assert list(backend.entries()) == list(backend.entries("folder/")) == []
        save(backend, "folder/a.png", b"again")
        assert read(backend, "folder/a.png") == b"again"


class TestWithoutHardLinks:
    """On network file systems without hard links, a name is still given only once, and only to a complete file."""

    @pytest.fixture(autouse=True, params=[errno.EPERM, errno.ENOTSUP], ids=["EPERM", "ENOTSUP"])
    def _no_links(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        def link(*_: object, **__: object) -> None:
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr(os, "link", link)

    def test_nothing_is_replaced_without_overwrite(self, backend: LocalBackend, directory: Path) -> None:
        save(backend, "a.png", b"first")
        with pytest.raises(FileExists):
            save(backend, "a.png", b"second")
        assert tree(directory) == {"a.png": b"first", ".uploads-lock": b""}
        assert stat_modes.S_IMODE((directory / "a.png").stat().st_mode) == 0o640

    def test_exactly_one_of_many_concurrent_saves_succeeds(self, backend: LocalBackend) -> None:
        barrier, kept = threading.Barrier(8), []

        def one(number: int) -> None:
            content = bytes([number]) * 50_000
            barrier.wait()
            try:
                save(backend, "a.png", content)
            except FileExists:
                return
            kept.append(content)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert kept == [read(backend, "a.png")]

    def test_no_reader_sees_an_empty_file_before_the_complete_one(
        self, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original, seen = os.replace, []

        def replace(*arguments: Any, **options: Any) -> None:
            seen.append(backend.stat("a.png"))
            original(*arguments, **options)

        monkeypatch.setattr(os, "replace", replace)
        save(backend, "a.png")
        assert [stat.size for stat in seen if stat is not None] == []

    def test_a_rename_that_fails_leaves_no_empty_file_behind(
        self, backend: LocalBackend, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def replace(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(BackendUnavailable):
            save(backend, "a.png")
        assert tree(directory) == {".uploads-lock": b""}


def test_a_stream_that_fails_leaves_no_temporary_file(backend: LocalBackend, directory: Path) -> None:
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise RuntimeError("the stream broke")

    stream: IO[bytes] = Breaking(b"content")
    with pytest.raises(RuntimeError, match="the stream broke"):
        backend.save("a.png", stream, content_type="a/b", size=7, filename="a")
    assert tree(directory) == {}


def break_reads(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def stat(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "stat", stat)


def test_a_file_in_place_of_the_directory_is_502_for_saving_and_listing(backend: LocalBackend, directory: Path) -> None:
    directory.parent.mkdir(parents=True)
    directory.write_bytes(b"a file in the place of the directory")
    with pytest.raises(BackendRefused) as saving:
        save(backend, "a/b.png")
    with pytest.raises(BackendRefused) as listing:
        list(backend.entries())
    for caught in (saving, listing):
        problem = caught.value.problem
        assert problem.message == "The folder for uploads cannot be created, or a file or a link is in its place."
        assert problem.remedy == "Correct directory, or remove what is in the way."
        assert str(directory.parent) not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (errno.ENOSPC, BackendFull, "The disk for uploads is full."),
        (errno.EACCES, BackendRefused, "This process has no permission to use the folder for uploads."),
        (errno.EIO, BackendUnavailable, "The disk for uploads does not work (EIO)."),
    ],
)
@pytest.mark.parametrize(
    ("uploads", "config", "variable"),
    [
        ("uploads", {}, "UPLOADS_DIR"),
        ("uploads", {"MEDIA_ROOT": "media"}, "MEDIA_ROOT"),
        ("documents", {"DOCUMENTS_DIR": "documents"}, "DOCUMENTS_DIR"),
        ("documents", {"MEDIA_ROOT": "media"}, "DOCUMENTS_DIR"),
    ],
)
def test_the_remedy_names_the_variable_as_the_user_set_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: int,
    error: type[BackendError],
    message: str,
    uploads: str,
    config: dict[str, str],
    variable: str,
) -> None:
    reading = backends.read_settings(config, {}, uploads=uploads)
    backend = backends.build(backends.choose(reading), reading.settings, environ={}, instance_path=tmp_path)
    (tmp_path / "media").mkdir()
    (tmp_path / "documents").mkdir()
    (tmp_path / "uploads").mkdir()
    break_reads(monkeypatch, number)
    with pytest.raises(error) as caught:
        backend.stat("a.png")
    problem = caught.value.problem
    assert problem.message == message
    assert variable in problem.remedy
    assert problem.setting == variable
    assert str(tmp_path) not in str(caught.value)


def test_a_folder_that_is_opened_as_a_file_leaks_no_descriptor(backend: LocalBackend, directory: Path) -> None:
    save(backend, "folder/a.png")
    for _ in range(20):
        with pytest.raises(FileMissing):
            backend.open("folder")
    assert open_below(directory) == []
