"""The promises about keys, direct urls, paths on the disk and threads, as tests."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from .. import keys
from ..backends.base import Backend
from ..errors import BackendError, InvalidKey
from .fixtures import ContractFixtures
from .samples import NOT_KEYS, ODD_KEYS, SIMILAR_KEYS, sample


class AddressingContract(ContractFixtures):
    """Tests that every method takes every key, and what links and paths promise."""

    # Keys

    @pytest.mark.parametrize("odd", ODD_KEYS)
    def test_an_odd_key_works_in_every_method(self, backend: Backend, key: str, odd: str) -> None:
        name = f"{key}/{odd}"
        self.save(backend, name, sample(name))
        assert self.read(backend, name) == sample(name)
        assert backend.stat(name) is not None
        backend.delete(name)
        self.save(backend, name, sample(name))  # raises FileExists if the file is still there

    def test_odd_keys_are_listed_unchanged(self, backend: Backend, key: str) -> None:
        names = [f"{key}/{odd}" for odd in ODD_KEYS]
        for name in names:
            self.save(backend, name, sample(name))
        assert sorted(entry.key for entry in backend.entries(f"{key}/")) == sorted(names)

    def test_similar_keys_name_different_files(self, backend: Backend, key: str) -> None:
        names = [f"{key}/{similar}" for similar in SIMILAR_KEYS]
        for name in names:
            self.save(backend, name, sample(name), overwrite=True)
        assert [name for name in names if self.read(backend, name) != sample(name)] == []

    def test_a_key_of_the_maximum_length_works(self, backend: Backend, key: str) -> None:
        folders = f"{key}/" + f"{'f' * 99}/" * 8
        longest = folders + "x" * (keys.MAX_KEY_BYTES - len(folders))
        self.save(backend, longest)
        assert self.read(backend, longest) == b"content"

    @pytest.mark.parametrize("bad", NOT_KEYS)
    def test_every_method_raises_invalid_key_for_an_invalid_key(self, backend: Backend, bad: str) -> None:
        with pytest.raises(InvalidKey):
            self.save(backend, bad)
        with pytest.raises(InvalidKey):
            backend.open(bad)
        with pytest.raises(InvalidKey):
            backend.stat(bad)
        with pytest.raises(InvalidKey):
            backend.delete(bad)
        with contextlib.suppress(InvalidKey):
            assert self.url(backend, bad) is None
        with contextlib.suppress(InvalidKey):
            assert backend.filesystem_path(bad) is None

    def test_a_reserved_key_works_in_every_method(self, backend: Backend) -> None:
        key = keys.reserved_key(f"{secrets.token_hex(8)}.json")
        self.save(backend, key, b"{}")
        self.save(backend, key, b'{"new": 1}', overwrite=True)
        assert self.read(backend, key) == b'{"new": 1}'
        assert backend.stat(key) is not None
        backend.delete(key)
        self.save(backend, key, b"{}")  # raises FileExists if the file is still there
        backend.delete(key)

    @pytest.mark.parametrize("prefix", ["", keys.RESERVED])
    def test_reserved_files_are_not_listed(self, backend: Backend, prefix: str) -> None:
        key = keys.reserved_key(f"{secrets.token_hex(8)}.json")
        self.save(backend, key, b"{}")
        assert [entry.key for entry in backend.entries(prefix) if entry.key.startswith(keys.RESERVED)] == []
        backend.delete(key)

    # Direct urls, for backends that have them

    def test_the_same_arguments_give_the_same_url(self, backend: Backend, key: str) -> None:
        assert len({self.url(backend, key) for _ in range(3)}) == 1

    def test_another_key_gives_another_url(self, backend: Backend, key: str) -> None:
        url = self.url(backend, key)
        assert url is None or url != self.url(backend, f"{key}-other")

    def test_a_url_that_expires_depends_on_its_moment_and_its_lifetime(self, backend: Backend, key: str) -> None:
        url = self.url(backend, key)
        if url is not None and not backend.permanent_urls:
            assert url != self.url(backend, key, signed_at=1_800_000_600)
            assert url != self.url(backend, key, expires_in=1200)

    def test_a_url_for_a_download_is_another_url(self, backend: Backend, key: str) -> None:
        url = self.url(backend, key)
        assert url is None or url != self.url(backend, key, download_as="other.bin")

    def test_making_a_url_uses_no_network(self, backend: Backend, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []

        def connect(_: socket.socket, address: object) -> None:
            calls.append(address)
            raise OSError("this test allows no connection")

        monkeypatch.setattr(socket.socket, "connect", connect)
        with contextlib.suppress(BackendError, OSError):
            self.url(backend, key)
        assert calls == []

    def test_urls_signed_now_still_work(self, backend: Backend) -> None:
        until = backend.valid_until()
        assert until is None or until > time.time()

    # Files on the disk of this machine, for backends that have them

    def test_filesystem_path_leads_to_the_content(self, backend: Backend, key: str) -> None:
        self.save(backend, key)
        path = backend.filesystem_path(key)
        assert path is None or path.read_bytes() == b"content"

    def test_filesystem_path_works_without_a_file(self, backend: Backend, key: str) -> None:
        path = backend.filesystem_path(key)
        assert path is None or not path.exists()

    # Threads

    def test_many_threads_save_and_read_their_own_files(self, backend: Backend, key: str) -> None:
        barrier = threading.Barrier(8)

        def save_and_read(thread: int) -> bool:
            barrier.wait(30)
            contents = {f"{key}/{thread}/{number}": f"{thread} {number}".encode() * 1000 for number in range(5)}
            for name, content in contents.items():
                self.save(backend, name, content)
            return all(self.read(backend, name) == content for name, content in contents.items())

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(save_and_read, range(8)))
