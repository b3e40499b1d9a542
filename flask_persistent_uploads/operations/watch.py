"""What one process knows of its store: looked at in the background, told in the log and at ``/uploads/_health``."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from flask import Flask
from flask.signals import request_started

from .. import keys
from ..backends.base import Backend
from ..errors import BackendError, InvalidKey
from . import marker, mounts
from .marker import Marker
from .platform import Host
from .verdict import Verdict, folder_of, judge

logger = logging.getLogger("flask_persistent_uploads")

# Seconds for which a look is good: a disk is looked at often, a service seldom (Cloudinary's free plan counts 500
# calls an hour), and one that failed soon again.
_NEAR, _FAR, _FAR_AFTER_FAILURE = 10, 300, 60
_PATIENCE = 1.0  # seconds that an answer waits for a look that is under way
_STUCK = 60.0  # seconds: a look is a few calls, each of which has an end of its own


class Look(NamedTuple):
    """The answer that a look gives to all who ask, until ``good_until`` on the monotonic clock."""

    answer: Mapping[str, Any]
    good_until: float


class Watch:
    """Looks at the store now and then, signs its marker, and remembers what it saw.

    It does so in the background: nothing that fails here reaches the app, and no request waits for it but for health,
    a moment.
    """

    def __init__(
        self,
        backend: Backend,
        host: Host,
        *,
        environ: Mapping[str, str],
        name: str = "uploads",
        expected: str | None,
        chosen_by: str | None = None,
    ) -> None:
        self.backend, self.host, self.name, self.expected = backend, host, name, expected
        self._chosen_by = chosen_by
        self._environ = environ
        self._variables = f"{name.upper()}_"
        self._folder = folder_of(backend)
        self.nearby = self._folder is not None or backend.name == "memory"
        self._awake = False
        self._thread: Thread | None = None
        self._began = 0.0
        self._last = Look(self._answer("starting"), good_until=0.0)
        self._alarmed: set[str | None] = set()
        self._problem: str | None = None

    def at_start(self) -> Verdict:
        """The verdict before anything was asked over a network; a marker on this machine's disk is read, not made."""
        found = None
        if self._folder is not None and not self.host.building:
            try:
                found = marker.read(self.backend)
                self._raise_alarm(found)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not keep the app from starting
                logger.warning("%s: the marker of the store cannot be read. %s", self.name, _words(error))
        verdict = self._judge(found)
        self._last = Look(self._answer("starting", verdict=verdict), good_until=0.0)
        return verdict

    def begin(self, app: Flask) -> None:
        """Look at the store with the first request that ``app`` serves, if it is near, or one is expected.

        Else with the first upload, or when the health is asked for: most workers need no SDK before.
        """
        if self._folder is not None or self.expected is not None:
            request_started.connect(self._first_request, app)

    def _first_request(self, app: Flask, **_: Any) -> None:
        request_started.disconnect(self._first_request, app)
        self.wake(app)

    def wake(self, app: Flask) -> None:
        """Look at the store for the first time; an app that is tested or built is left alone."""
        if not self._awake:
            self._awake = True
            if not app.testing and not self.host.building:
                self._look_if_old()

    def health(self) -> tuple[Mapping[str, Any], int]:
        """What the last look saw, and its HTTP status: 503 when uploads cannot work. The backend is not asked.

        Who asks sees to it that a new look is taken where the last one is old.
        """
        thread = self._look_if_old()
        if thread is not None:
            thread.join(_PATIENCE)
        answer = self._last.answer
        if thread is not None and thread.is_alive() and time.monotonic() - self._began > _STUCK:
            answer = {
                **answer,
                "status": "failing",
                "problem": f"The store has not answered for {_STUCK:.0f} s: see whether its disk or service works.",
            }
        return answer, 503 if answer["status"] == "failing" else 200

    def _look_if_old(self) -> Thread | None:
        """The thread of the look that is under way, if one is needed."""
        # One of before a fork is not alive in the child. Two looks at once do no harm.
        if self._thread is not None and self._thread.is_alive():
            return self._thread
        if time.monotonic() < self._last.good_until:
            return None
        self._began = time.monotonic()
        thread = Thread(target=self._look, name="uploads-watch", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the machine has no thread left: the next who asks tries again
            return None
        self._thread = thread
        return thread

    def _look(self) -> None:
        found, problem, works = None, None, True
        try:
            found = marker.read(self.backend) if self.host.building else marker.sign_in(self.backend, self.host)
            self._raise_alarm(found)
            problem = _out_of_room(self._folder) if self._folder is not None else None
            works = problem is None
        except InvalidKey:
            problem = f"The backend {self.backend.name} does not take the key of the marker: pass keys on as they are."
        except Exception as error:  # noqa: BLE001 - whatever it is, the app must not hear of it
            problem = _words(error)
            works = self._takes_files()
        self._tell(problem if works or not problem else f"UPLOADS DO NOT WORK. {problem}")
        good = _NEAR if self.nearby else _FAR if problem is None else _FAR_AFTER_FAILURE
        answer = self._answer("ok" if works else "failing", found, problem, self._judge(found))
        self._last = Look(answer, time.monotonic() + good)

    def _takes_files(self) -> bool:
        """Whether a file can be saved, though the marker cannot be read or written."""
        key, content = keys.own(f"probe-{self.host.id}.txt"), BytesIO(b"probe")
        try:
            self.backend.save(key, content, content_type="text/plain", size=5, filename="probe.txt", overwrite=True)
        except Exception:  # noqa: BLE001 - what is wrong was told by the look
            return False
        with contextlib.suppress(Exception):  # one name for each instance: what is left does not grow
            self.backend.delete(key)
        return True

    def _answer(
        self, status: str, found: Marker | None = None, problem: str | None = None, verdict: Verdict | None = None
    ) -> dict[str, Any]:
        alarm = marker.alarm(self.expected, found, self.host.id, variables=self._variables) if found else None
        return {
            "status": "alarm" if status == "ok" and (alarm or (self.expected and not found)) else status,
            "problem": problem,
            "alarm": alarm,
            "backend": self.backend.name,
            "survives": verdict.survives if verdict else None,
            "store": found.id if found else None,
            "since": found.since.isoformat() if found else None,
            "restarts_survived": found.survived(self.host) if found and self._folder is not None else None,
            "instance": self.host.id,
            "instances": list(found.instances) if found else [],
            "free_bytes": _free_bytes(self._folder) if self._folder is not None and found else None,
        }

    def _judge(self, found: Marker | None) -> Verdict:
        return judge(
            self.backend,
            self.host,
            self._environ,
            variables=self._variables,
            chosen_by=self._chosen_by,
            found=found,
        )

    def _raise_alarm(self, found: Marker | None) -> None:
        """Once for each store that is found in place of the expected one; a build sees none."""
        if self.host.building:
            return
        text = marker.alarm(self.expected, found, str(self.host), variables=self._variables)
        about = found.id if found else None
        if text is not None and about not in self._alarmed:
            self._alarmed.add(about)
            logger.error("%s: %s", self.name, text)

    def _tell(self, problem: str | None) -> None:
        """Say what changed: a process is asked for its health every few seconds."""
        if problem and problem != self._problem:
            logger.error("%s: %s", self.name, problem)
        elif self._problem and not problem:
            logger.info("%s: the store works again", self.name)
        self._problem = problem


def _words(error: Exception) -> str:
    """What an error says, if it is one of ours: others may name paths, or hold secrets."""
    if isinstance(error, BackendError):
        return str(error.description)
    return f"The store failed in a way that its backend did not foresee ({type(error).__name__})."


def _out_of_room(folder: Path) -> str | None:
    room = mounts.room(folder)
    if room.read_only:
        return "The disk for uploads is read-only: mount it for writing."
    if room.free_bytes == 0 or (room.total_inodes and room.free_inodes == 0):
        return "The disk for uploads is full: free some of it, or grow it."
    return None


def _free_bytes(folder: Path) -> int | None:
    try:
        return mounts.room(folder).free_bytes
    except OSError:
        return None
