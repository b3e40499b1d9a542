"""What doctor examines: one ``Uploads`` of an app that is set up, or that refuses to start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flask import Flask

from ... import backends
from ...backends.base import Backend
from ...config import Settings
from ...errors import ConfigError, Problem
from ..checks import problem_of
from ..marker import Marker, read
from ..platform import Host, detect
from ..startup import StartupRefused
from ..verdict import Verdict, judge


@dataclass(frozen=True, slots=True)
class Case:
    """What is known before the first check.

    :attr:`settings`        the settings of the ``Uploads`` that is examined
    :attr:`requested`       the name of the ``Uploads`` that the user asked for; another one is examined if it keeps the
                            app from starting
    :attr:`kind`            the class of the backend that the settings choose; ``None`` if they choose none
    :attr:`backend`         the backend itself; ``None`` if it cannot be constructed from the settings
    :attr:`problems`        why the app refuses to start; empty if it starts
    :attr:`folder`          where the files are on this machine; ``None`` if they are elsewhere
    :attr:`marker`          the marker in that folder; ``None`` if there is none
    :attr:`marker_problem`  why the marker cannot be read, if it cannot
    :attr:`verdict`         whether uploads survive; ``None`` if there is no backend, or the platform is set wrongly
    :attr:`other_route`     the problem if a route of the app answers in place of ours
    :attr:`public_links`    the problem if public links bypass the authorize hook
    """

    app: Flask
    settings: Settings
    environ: Mapping[str, str]
    host: Host
    requested: str
    kind: type[Backend] | None = None
    backend: Backend | None = None
    problems: tuple[Problem, ...] = ()
    folder: Path | None = None
    marker: Marker | None = None
    marker_problem: Problem | None = None
    verdict: Verdict | None = None
    other_route: Problem | None = None
    public_links: Problem | None = None

    @classmethod
    def of_app(
        cls,
        app: Flask,
        settings: Settings,
        backend: Backend,
        environ: Mapping[str, str],
        *,
        other_route: Problem | None = None,
        public_links: Problem | None = None,
    ) -> Case:
        """Return the case of an app that is set up."""
        case = cls(
            app,
            settings,
            environ,
            _host(settings, environ),
            settings.uploads,
            other_route=other_route,
            public_links=public_links,
        )
        return case._with_backend(backend)

    @classmethod
    def of_refusal(cls, refusal: StartupRefused, environ: Mapping[str, str], *, requested: str) -> Case:
        """Return the case of an app that refuses to start."""
        startup, settings = refusal.startup, refusal.startup.reading.settings
        problems = _without_persistence(refusal.problems, settings)
        case = cls(startup.app, settings, environ, _host(settings, environ), requested, problems=problems)
        if startup.backend is not None:
            return case._with_backend(startup.backend)
        try:
            return replace(case, kind=backends.choose(startup.reading))
        except ConfigError:
            return case

    def _with_backend(self, backend: Backend) -> Case:
        folder, found, problem = backend.disk_folder(), None, None
        if folder is not None:
            try:
                found = read(backend)
            except Exception as error:  # noqa: BLE001 - another package's backend may raise anything
                problem = problem_of(error)
        wrong_platform = self.settings.platform is not None and not self.host.stated
        verdict = None if wrong_platform else judge(backend, self.host, self.environ, self.settings, found=found)
        return replace(
            self,
            kind=type(backend),
            backend=backend,
            folder=folder,
            marker=found,
            marker_problem=problem,
            verdict=verdict,
        )


def _host(settings: Settings, environ: Mapping[str, str]) -> Host:
    try:
        return detect(environ, settings.platform, variable=settings.variable("platform"))
    except ConfigError:  # it is among the problems
        return detect(environ, variable=settings.variable("platform"))


def _without_persistence(problems: tuple[Problem, ...], settings: Settings) -> tuple[Problem, ...]:
    """Return the problems without "uploads will be lost", which the check of persistence reports."""
    if not settings.require_persistent:
        return problems
    variable = settings.variable("require_persistent")
    return tuple(problem for problem in problems if problem.setting != variable)
