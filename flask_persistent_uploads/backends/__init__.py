"""Keeps files. This module reads the settings of every backend, chooses a backend, and constructs it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import config
from ..config import Settings, quoted
from ..errors import ConfigError, Problem
from . import registry
from .base import Backend

#: The backends of this package, by their modules' names. Each imports its SDK only when it uses it.
BUILTIN_BACKENDS: tuple[type[Backend], ...] = tuple(registry.discover(__path__, __name__))

#: The backend that is used if no other one is configured.
DEFAULT = "local"


@dataclass(frozen=True, slots=True)
class Reading:
    """The settings of one ``Uploads``, the mistakes in them, and the backends that they can choose from.

    :attr:`known`  the backends of this package, and those that other packages register, by name
    :attr:`named`  the backend of another package, if ``UPLOADS_BACKEND`` names one
    """

    settings: Settings
    problems: tuple[Problem, ...]
    known: Mapping[str, type[Backend]]
    named: type[Backend] | None = None


def read_settings(
    app_config: Mapping[str, Any], environ: Mapping[str, str], *, uploads: str = "uploads", dotenv: str | None = None
) -> Reading:
    """Read the settings of the ``Uploads`` of this name, and those of every backend that it can choose."""

    def read(backends: Iterable[type[Backend]]) -> tuple[Settings, list[Problem]]:
        declared = [setting for backend in backends for setting in backend.settings()]
        return config.read(app_config, environ, uploads=uploads, declared=declared, dotenv=dotenv)

    builtin = {backend.name: backend for backend in BUILTIN_BACKENDS}
    settings, problems = read(builtin.values())
    named, failures = _load_named(settings)
    if named is not None:
        known = {**builtin, named.name: named}
    else:
        others, more = registry.load_registered(settings)
        known, failures = builtin | {each.name: each for each in others if each.name not in builtin}, failures + more
    if known != builtin:
        settings, problems = read(known.values())
    return Reading(settings, (*problems, *failures), known, named)


def choose(reading: Reading) -> type[Backend]:
    """Return the backend that the settings name; if they name none, the one that they imply; by default ``local``.

    Raises ``ConfigError`` if they imply several, or if one was meant but a setting that it needs is missing.
    """
    settings = reading.settings
    if reading.named is not None:
        return reading.named
    if settings.backend is not None and not _own_names_win(settings, reading.known):
        if settings.backend.lower() not in reading.known:  # reported when it was read
            raise ConfigError(reading.problems)
        return reading.known[settings.backend.lower()]
    implied = _implied(settings, reading.known)
    variable = config.variable(settings.uploads, "backend")
    if len(implied) > 1:
        found = " and ".join(f"{source} (for {name})" for name, source in implied.items())
        remedy = f"Set {variable} to {' or '.join(implied)}, or remove the variables of the others."
        raise ConfigError(Problem(f"Several backends are configured at once, by {found}.", remedy, variable))
    if not implied:
        _refuse_incomplete_account(settings, reading.known)
    return reading.known[next(iter(implied), DEFAULT)]


def build(backend: type[Backend], settings: Settings, *, environ: Mapping[str, str], instance_path: Path) -> Backend:
    """Construct the backend, without importing an SDK or using the network.

    Raises ``ConfigError`` with every problem.
    """
    problems = [*missing_sdk(backend), *_unused(backend, settings)]
    try:
        built = backend.from_settings(settings, environ=environ, instance_path=instance_path)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from error
    if problems:
        raise ConfigError(problems)
    built.variables = {built.argument(row.name): settings.variable(row.name) for row in settings.declared}
    return built


def missing_sdk(backend: type[Backend]) -> list[Problem]:
    """Return a problem if the SDK of a backend is not installed."""
    sdk, install = backend.description.sdk, backend.description.install
    if sdk is None or _is_installed(sdk):
        return []
    message = f"The backend {backend.name} needs the package {sdk}, which is not installed."
    return [Problem(message, f"pip install '{install or sdk}'")]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # raised if the package around the module is not installed
        return False


def _load_named(settings: Settings) -> tuple[type[Backend] | None, list[Problem]]:
    """Load the backend of another package, if ``UPLOADS_BACKEND`` names one. If that fails, return the problem."""
    name, variable = settings.backend, settings.variable("backend")
    builtin = [backend.name for backend in BUILTIN_BACKENDS]
    if name is None or name.lower() in builtin:
        return None, []
    try:
        return registry.load(name), []
    except ImportError as reason:
        remedy = f"Set it to {', '.join([*builtin, *registry.registered()])} or module:Class."
        return None, [Problem(f"{variable} is {quoted(name)}. {reason}", remedy, variable)]


def _implied(settings: Settings, known: Mapping[str, type[Backend]]) -> dict[str, str]:
    """Return the backends that settings imply, each with the variable that implies it.

    The extension's own names win over native ones. For a further ``Uploads``, a folder of its own does too, because its
    native names are also those of the first one.
    """

    def implied_by(counts: Callable[[str], bool]) -> dict[str, str]:
        found = {name: next(filter(counts, backend.description.implied_by), None) for name, backend in known.items()}
        return {name: settings.variable(setting) for name, setting in found.items() if setting is not None}

    if own := implied_by(settings.is_own):
        return own
    if settings.uploads != "uploads" and settings.is_own("dir"):
        return {DEFAULT: settings.variable("dir")}
    return implied_by(settings.is_set)


def _own_names_win(settings: Settings, known: Mapping[str, type[Backend]]) -> bool:
    """Return whether a further ``Uploads`` ignores ``USE_S3``, because its own variables imply a backend."""
    names = ["dir", *(name for backend in known.values() for name in backend.description.implied_by)]
    return settings.uploads != "uploads" and not settings.is_own("backend") and any(map(settings.is_own, names))


def _refuse_incomplete_account(settings: Settings, known: Mapping[str, type[Backend]]) -> None:
    """Raise ``ConfigError`` if a service was meant, but a variable that would choose it is missing.

    Otherwise the files would be stored on a disk, which may be wiped. Native variables count only for the first
    ``Uploads``, only if no folder is set, and only if ``suggested_by`` lists them: some hosts set others for every app.
    """
    native_counts = settings.uploads == "uploads" and not settings.is_set("dir")
    for backend in known.values():
        suggested_by = backend.description.suggested_by
        absent = next((name for name in backend.description.needs if not settings.is_set(name)), None)
        for name, source in settings.sources.items():
            suggests = name in suggested_by if settings.is_own(name) else native_counts and source in suggested_by
            if suggests and absent is not None:
                needed = config.variable(settings.uploads, absent)
                remedy = f"Set {needed} too, or set {config.variable(settings.uploads, 'backend')}={DEFAULT}."
                raise ConfigError(Problem(f"{source} is set, but {needed} is not.", remedy, needed))


def _unused(backend: type[Backend], settings: Settings) -> list[Problem]:
    """Return a problem for each strict setting that is set, although this backend does not use it."""
    used = {row.name for row in backend.settings()}
    strict = {row.name for row in settings.declared if row.strict and settings.is_set(row.name)}
    variables = sorted(settings.variable(name) for name in strict - used)
    return [Problem(f"{each} does not go with the backend {backend.name}.", "Remove it.", each) for each in variables]
