"""Finds the backends of this package, and those that other packages register."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeGuard

from werkzeug.utils import import_string

from ..config import Settings
from ..errors import Problem
from ..log import logger
from .base import Backend

#: The group of entry points in which other packages register their backends, each under its name.
ENTRY_POINTS = "flask_persistent_uploads.backends"


def discover(folders: Iterable[str], package: str) -> Iterator[type[Backend]]:
    """Yield the backends that the modules of a package define, in the order of the modules' names.

    ``folders`` is the ``__path__`` of the package.
    """
    for found in pkgutil.iter_modules(folders):
        module = importlib.import_module(f"{package}.{found.name}")
        for value in vars(module).values():
            if _is_backend(value) and f"{value.__module__}.".startswith(f"{module.__name__}."):
                yield value


@cache
def registered() -> dict[str, EntryPoint]:
    """Return the entry points of the backends that other packages register, by name.

    The result is cached, because reading the metadata of all installed packages takes time.
    """
    return {point.name: point for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name)}


def load(name: str) -> type[Backend]:
    """Import the backend that another package registers under this name, or the one at ``module:Class``.

    Raises ``ImportError`` with the reason, as a sentence, if that fails.
    """
    point = registered().get(name.lower())
    if point is not None:
        return _load(point)
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        raise ImportError("There is no such backend.")
    return _import_backend(lambda: import_string(name))


def load_registered(settings: Settings) -> tuple[list[type[Backend]], list[Problem]]:
    """Import every backend that other packages register. Return those that can be imported, and the problems.

    If a backend cannot be imported, there is a problem if one of its settings is set and no backend is named. Otherwise
    a warning is logged.
    """
    backends, problems = [], []
    for name, point in registered().items():
        try:
            backends.append(_load(point))
        except Exception as error:  # noqa: BLE001 - a broken package that is not used must not stop the app
            reason = error if isinstance(error, ImportError) else f"It cannot be imported ({type(error).__name__})."
            problem = Problem(f"Another package registers the backend {name!r}. {reason}", "Repair or uninstall it.")
            if settings.backend is None and settings.options(name):
                problems.append(problem)
            else:
                logger.warning("%s", problem)
    return backends, problems


def _load(point: EntryPoint) -> type[Backend]:
    found = _import_backend(point.load)
    if found.name != point.name:
        raise ImportError(f"It is registered under another name than its own, {found.name!r}.")
    return found


def _import_backend(load: Callable[[], object]) -> type[Backend]:
    """Return what ``load`` imports. Raises ``ImportError`` with the reason, as a sentence, if it is not a backend."""
    try:
        found = load()
    except (ImportError, AttributeError) as error:
        raise ImportError(f"It cannot be imported ({type(error).__name__}).") from error
    if not _is_backend(found):
        raise ImportError("It is not a subclass of Backend with a name.")
    return found


def _is_backend(found: object) -> TypeGuard[type[Backend]]:
    return isinstance(found, type) and issubclass(found, Backend) and hasattr(found, "name")
