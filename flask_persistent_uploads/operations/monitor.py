"""Check the store in the background. Report its state in the log and to the health check, ``GET /uploads/_health``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

from flask import Flask
from flask.signals import request_started

from .. import keys
from ..backends.base import Backend
from ..backends.local import DISK_FULL, DISK_READ_ONLY
from ..config import Settings
from ..errors import InvalidKey, Problem
from ..log import logger
from . import marker, mounts
from .checks import problem_of
from .marker import Marker
from .platform import Host
from .verdict import Verdict, judge

# Seconds for which the result of a check is valid. A disk is checked often and a service seldom, because Cloudinary's
# free plan allows 500 calls an hour. A failed check of a service is repeated sooner.
_VALID_NEARBY, _VALID_IN_SERVICE, _VALID_AFTER_FAILURE = 10, 300, 60
_HEALTH_WAIT = 1.0  # seconds that a health check waits for a running check of the store
_STUCK_AFTER = 60.0  # seconds: a check makes a few calls, each of which has its own timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """The result of one check.

    :attr:`state`      ``starting``, ``ok`` or ``failing``; only ``failing`` means that uploads do not work
    :attr:`alarm`      the problem if a marker was found and is not that of the expected store
    :attr:`unexpected` whether a store is expected, but its marker was not found
    :attr:`expires`    when the result expires, on the clock of ``time.monotonic()``
    """

    backend: str
    instance: str
    state: str = "starting"
    problem: Problem | None = None
    alarm: Problem | None = None
    unexpected: bool = False
    survives: bool | None = None
    marker: Marker | None = None
    restarts_survived: int | None = None
    free_bytes: int | None = None
    expires: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the response to ``GET /uploads/_health``."""
        found = self.marker
        return {
            "status": "alarm" if self.state == "ok" and self.unexpected else self.state,
            "problem": str(self.problem) if self.problem else None,
            "alarm": str(self.alarm) if self.alarm else None,
            "backend": self.backend,
            "survives": self.survives,
            "store": found.id if found else None,
            "since": found.since.isoformat() if found else None,
            "restarts_survived": self.restarts_survived,
            "instance": self.instance,
            "instances": list(found.instances) if found else [],
            "free_bytes": self.free_bytes,
        }


class StoreMonitor:
    """Checks the store from time to time, adds this instance to its marker, and keeps the result.

    Checks run in their own thread, and their errors never reach the app. Only health checks wait for them, for one
    second at most.
    """

    def __init__(self, backend: Backend, host: Host, settings: Settings, *, environ: Mapping[str, str]) -> None:
        self.backend, self.host, self.settings = backend, host, settings
        self._environ = environ
        self._folder = backend.disk_folder()
        #: Whether the store can be checked without the network.
        self.nearby = self._folder is not None or backend.description.persists is False
        self._awake = False
        self._thread: Thread | None = None
        self._thread_started = 0.0
        self._status = StoreStatus(backend=backend.name, instance=host.id)
        self._reported_stores: set[str | None] = set()
        self._reported_problem: Problem | None = None

    def at_start(self) -> Verdict:
        """Return the verdict, without using the network. Read the marker if it is on a disk; write nothing."""
        found = None
        if self._folder is not None and not self.host.building:
            try:
                found = marker.read(self.backend)
                self._raise_alarm(found)
            except Exception as error:  # noqa: BLE001 - no error of the store may keep the app from starting
                logger.warning("%s: %s", self.settings.uploads, problem_of(error))
        verdict = self._judge(found)
        self._status = replace(self._status, survives=verdict.survives)
        return verdict

    def begin(self, app: Flask) -> None:
        """Check the store at the first request to ``app``, if it is on a disk or ``UPLOADS_STORE_ID`` is set.

        Any other store is checked at the first upload or the first health check, so that most workers never import an
        SDK.
        """
        if self._folder is not None or self.settings.store_id is not None:
            request_started.connect(self._on_first_request, app)

    def _on_first_request(self, app: Flask, **_: Any) -> None:
        request_started.disconnect(self._on_first_request, app)
        self.wake(app)

    def wake(self, app: Flask) -> None:
        """Start the first check, unless the app is being tested, built or released."""
        if not self._awake:
            self._awake = True
            if not app.testing and not self.host.building:
                self._check_if_expired()

    def health(self) -> tuple[Mapping[str, Any], int]:
        """Return the result of the last check as JSON values, and an HTTP status: 503 if uploads do not work.

        Start a new check if the last result has expired.
        """
        thread = self._check_if_expired()
        if thread is not None:
            thread.join(_HEALTH_WAIT)
        status = self._status
        if thread is not None and thread.is_alive() and time.monotonic() - self._thread_started > _STUCK_AFTER:
            message = f"The store has not answered for {_STUCK_AFTER:.0f} s."
            problem = Problem(message, "Check whether its disk or its service works.")
            status = replace(status, state="failing", problem=problem)
        return status.as_json(), 503 if status.state == "failing" else 200

    def _check_if_expired(self) -> Thread | None:
        """Return the thread of the running check; start one if the last result has expired."""
        # A thread that ran before a fork is not alive in the child. Two checks at once do no harm.
        if self._thread is not None and self._thread.is_alive():
            return self._thread
        if time.monotonic() < self._status.expires:
            return None
        self._thread_started = time.monotonic()
        thread = Thread(target=self._check, name="uploads-monitor", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the machine has no thread left: the next health check tries again
            return None
        self._thread = thread
        return thread

    def _check(self) -> None:
        found, problem, works = None, None, True
        try:
            found = marker.read(self.backend) if self.host.building else marker.sign_in(self.backend, self.host)
            self._raise_alarm(found)
            problem = _full_or_read_only(self._folder) if self._folder is not None else None
            works = problem is None
        except InvalidKey:
            message = f"The backend {self.backend.name} refuses the key of the store's marker, {marker.KEY}."
            problem = Problem(message, "Change the backend so that it accepts this key.")
        except Exception as error:  # noqa: BLE001 - no error of the store may reach the app
            problem = problem_of(error)
            works = self._can_store()
        self._report(problem, works=works)
        self._status = self._status_of(found, problem, works=works)

    def _can_store(self) -> bool:
        """Return whether a file can be stored although the marker cannot be read or written."""
        key, content = keys.reserved_key(f"probe-{self.host.id}.txt"), BytesIO(b"probe")
        try:
            self.backend.save(key, content, content_type="text/plain", size=5, filename="probe.txt", overwrite=True)
        except Exception:  # noqa: BLE001 - the problem that the check found is the one to report
            return False
        with contextlib.suppress(Exception):  # each instance uses one key, so that leftovers do not accumulate
            self.backend.delete(key)
        return True

    def _status_of(self, found: Marker | None, problem: Problem | None, *, works: bool) -> StoreStatus:
        in_service = _VALID_IN_SERVICE if problem is None else _VALID_AFTER_FAILURE
        expected, folder = self.settings.store_id, self._folder if found else None
        return StoreStatus(
            backend=self.backend.name,
            instance=self.host.id,
            state="ok" if works else "failing",
            problem=problem,
            # Everybody can read this, so it contains the id of the instance and not the names of the machine.
            alarm=marker.alarm(self.settings, found, self.host.id) if found else None,
            unexpected=expected is not None and (found is None or found.id != expected),
            survives=self._judge(found).survives,
            marker=found,
            restarts_survived=found.survived(self.host) if found and folder else None,
            free_bytes=_free_bytes(folder) if folder else None,
            expires=time.monotonic() + (_VALID_NEARBY if self.nearby else in_service),
        )

    def _judge(self, found: Marker | None) -> Verdict:
        return judge(self.backend, self.host, self._environ, self.settings, found=found)

    def _raise_alarm(self, found: Marker | None) -> None:
        """Log an alarm, once for each store that is found instead of the expected one, but not during a build."""
        if self.host.building:
            return
        alarm = marker.alarm(self.settings, found, str(self.host))
        store = found.id if found else None
        if alarm is not None and store not in self._reported_stores:
            self._reported_stores.add(store)
            logger.error("%s: %s", self.settings.uploads, alarm)

    def _report(self, problem: Problem | None, *, works: bool) -> None:
        """Log a problem only when it changes, because load balancers request health checks every few seconds."""
        if problem is not None and not works:
            problem = replace(problem, message=f"UPLOADS DO NOT WORK. {problem.message}")
        if problem is not None and problem != self._reported_problem:
            logger.error("%s: %s", self.settings.uploads, problem)
        elif problem is None and self._reported_problem is not None:
            logger.info("%s: The store works again.", self.settings.uploads)
        self._reported_problem = problem


def _full_or_read_only(folder: Path) -> Problem | None:
    space = mounts.disk_space(folder)
    if space.read_only:
        return DISK_READ_ONLY
    if space.free_bytes == 0 or (space.total_inodes and space.free_inodes == 0):
        return DISK_FULL
    return None


def _free_bytes(folder: Path) -> int | None:
    try:
        return mounts.disk_space(folder).free_bytes
    except OSError:
        return None
