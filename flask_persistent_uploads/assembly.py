"""Does the work of ``init_app``: reads the settings, makes the backend, logs where files are kept, adds the routes.

Nothing here makes a network connection.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from flask import Flask

from . import backends, config
from .cli import uploads as commands
from .config import Settings
from .errors import ConfigError, Problem, printable
from .intake import multipart
from .log import ensure_log_handler, logger
from .operations import platform
from .operations.monitor import StoreMonitor
from .operations.platform import Host
from .operations.startup import Startup, StartupRefused
from .operations.verdict import Verdict
from .serving import routes
from .serving.state import Hooks, State


def assemble(app: Flask, uploads: str, hooks: Hooks, others: Iterable[State]) -> State:
    """Set up the ``Uploads`` of this name in an app that has the ``others`` already.

    Raises ``StartupRefused``, a ``ConfigError``, with every problem in the settings.
    """
    ensure_log_handler()
    reading = backends.read_settings(app.config, os.environ, uploads=uploads)
    settings, problems = reading.settings, [*reading.problems]
    for unknown in config.unknown_settings(settings):
        logger.warning("%s", unknown)
    host, host_problems = _host(settings)
    problems += [*host_problems, *_url_prefix_problems(settings, others)]
    backend = None
    try:
        chosen = backends.choose(reading)
        backend = backends.build(chosen, settings, environ=os.environ, instance_path=Path(app.instance_path))
    except ConfigError as error:
        problems += [problem for problem in error.problems if problem not in problems]
    startup = Startup(app, reading, backend)
    if problems or backend is None:
        raise StartupRefused(problems, startup)
    monitor = StoreMonitor(backend, host, settings, environ=os.environ)
    verdict = monitor.at_start()
    if verdict.survives is False and settings.require_persistent:
        raise StartupRefused([_not_persistent(settings, verdict)], startup)
    _log_start(monitor, verdict)
    state = State(settings, backend, hooks, monitor)
    app.request_class = multipart.strict(app.request_class, max_size=settings.max_size, max_files=settings.max_files)
    app.register_blueprint(routes.blueprint(state))
    app.cli.commands.setdefault("uploads", commands)
    monitor.begin(app)
    return state


def _host(settings: Settings) -> tuple[Host, list[Problem]]:
    """Return the host, and the problem if the setting that names it is wrong."""
    try:
        return platform.detect(os.environ, settings.platform, variable=settings.variable("platform")), []
    except ConfigError as error:
        return platform.detect(os.environ), [*error.problems]


def _url_prefix_problems(settings: Settings, others: Iterable[State]) -> list[Problem]:
    """Return a problem if another ``Uploads`` of the app serves the same path."""
    variable = settings.variable("url_prefix")
    return [
        Problem(
            f"The Uploads named {other.settings.uploads!r} serves {settings.url_prefix} already.",
            f"Set {variable} to another path.",
            variable,
        )
        for other in others
        if other.settings.url_prefix == settings.url_prefix
    ]


def _not_persistent(settings: Settings, verdict: Verdict) -> Problem:
    variable = settings.variable("require_persistent")
    reason = verdict.reason
    return Problem(f"{variable} is set, but uploads will be lost. {reason.message}", reason.remedy, variable)


def _log_start(monitor: StoreMonitor, verdict: Verdict) -> None:
    """Log in one line where files are kept and, if that is on a disk, whether they survive."""
    name, backend = monitor.settings.uploads, monitor.backend
    place = printable(str(backend))
    if verdict.survives is False and backend.description.persists is not False:
        logger.warning("%s: UPLOADS WILL BE LOST. %s Files are kept in %s.", name, verdict.reason, place)
    elif monitor.nearby:
        logger.info("%s: files are kept in %s. %s", name, place, verdict.reason)
    else:
        logger.info("%s: files are kept in %s.", name, place)
