"""What a check is given, and what it answers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from flask import Flask

from ...backends.base import Backend
from ...config import Settings, choose_backend
from ...errors import ConfigError
from ..marker import Marker, read
from ..platform import Host, detect
from ..verdict import Verdict, folder_of, judge

OK, WARNING, FAILURE, SKIPPED = "ok", "warning", "failure", "skipped"


class Finding(NamedTuple):
    """``verdict``, what was ``seen``, and the ``remedy`` as text to copy or to do."""

    verdict: str
    seen: str
    remedy: str | None = None


def ok(seen: str, remedy: str | None = None) -> Finding:
    return Finding(OK, seen, remedy)


def warning(seen: str, remedy: str) -> Finding:
    return Finding(WARNING, seen, remedy)


def failure(seen: str, remedy: str) -> Finding:
    return Finding(FAILURE, seen, remedy)


def halves(sentence: str, otherwise: str = "correct it") -> tuple[str, str]:
    """What is wrong, and what to do, of a message that says both; ``otherwise``, of one that says the first alone."""
    text = sentence.rstrip(".")
    found = re.search(r": |; (?=set )", text)
    return (text[: found.start()], text[found.end() :]) if found else (text, otherwise)


def unbroken(check: Callable[[], Finding | None]) -> Finding | None:
    """What ``check`` answers; where it breaks itself, that is a finding, too: the others must be heard."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a broken disk or a third party's backend may raise anything
        return unforeseen(error)


def unforeseen(error: Exception) -> Finding:
    """Its text is not repeated: it may hold a secret."""
    kind = type(error).__name__
    return failure(f"What is looked at fails in an unforeseen way ({kind})", "see the log of the host or service")


@dataclass(slots=True)
class Case:
    """One ``Uploads`` of an app, set up or refused.

    ``problems`` are why the app refuses to start; ``backend`` is ``None`` where the settings make none. ``folder`` is
    where files lie on this machine, if they do; ``marker`` the one that was found there, or ``marker_trouble`` why it
    could not be read. ``instead_of`` is the name that was asked for, where another is refused. ``other_route`` is the
    app's own route that answers for ours, ``public_links`` what to set where an authorize hook guards links that do
    not end.
    """

    name: str
    settings: Settings
    app: Flask
    environ: Mapping[str, str]
    host: Host
    chosen: str | None
    backend: Backend | None
    problems: tuple[str, ...]
    folder: Path | None
    marker: Marker | None
    marker_trouble: str | None
    verdict: Verdict | None
    instead_of: str | None = None
    other_route: str | None = None
    public_links: str | None = None

    @classmethod
    def of(
        cls,
        name: str,
        settings: Settings,
        app: Flask,
        environ: Mapping[str, str],
        *,
        backend: Backend | None,
        directory: Path | None = None,
        problems: tuple[str, ...] = (),
    ) -> Case:
        """What can be known before the first check. ``directory`` is where files would lie if the backend is local."""
        chosen, override = backend.name if backend else None, settings.platform
        if backend is None:
            with contextlib.suppress(ConfigError):
                chosen = choose_backend(settings, name)
        try:
            host = detect(environ, override)
        except ConfigError:
            host = detect(environ)
        folder = folder_of(backend) if backend else directory if chosen == "local" else None
        found, trouble = None, None
        if backend is not None and folder is not None:
            try:
                found = read(backend)
            except Exception as error:  # noqa: BLE001 - a finding as others are, not the end of the report
                trouble = str(getattr(error, "description", None) or unforeseen(error).seen)
        source, variables = settings.sources.get("backend"), f"{name.upper()}_"
        verdict = judge(backend, host, environ, variables=variables, chosen_by=source, found=found) if backend else None
        return cls(name, settings, app, environ, host, chosen, backend, problems, folder, found, trouble, verdict)

    @property
    def variables(self) -> str:
        """What the names of the settings begin with."""
        return f"{self.name.upper()}_"


#: A check answers ``None`` where it does not apply. Its name is that of the function.
Check = Callable[[Case], Finding | None]
