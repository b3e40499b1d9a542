"""The state of one ``Uploads`` in one app, for the views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..backends.base import Backend
from ..config import Settings
from ..log import logger
from ..operations.monitor import StoreMonitor

#: ``check(action, key) -> bool``
AuthorizeHook = Callable[[str, str], bool]


@dataclass(eq=False, slots=True)
class Hooks:
    """The functions that an app registers on an ``Uploads``. All apps of the ``Uploads`` share them."""

    authorize: AuthorizeHook | None = None


@dataclass(eq=False, slots=True)
class State:
    """One ``Uploads`` in one app.

    :attr:`missing`            the keys that were logged as missing
    :attr:`conflicts_checked`  whether conflicts with the app were looked for
    :attr:`warnings`           the warnings that :meth:`warn_once` logged
    """

    settings: Settings
    backend: Backend
    hooks: Hooks
    monitor: StoreMonitor
    missing: set[str] = field(default_factory=set)
    conflicts_checked: bool = False
    warnings: set[str] = field(default_factory=set)

    @property
    def blueprint(self) -> str:
        """The name of the blueprint. The app may have a blueprint ``uploads`` of its own."""
        return f"persistent_{self.settings.uploads}"

    def warn_once(self, message: str) -> None:
        """Log a warning, but only the first time."""
        if message not in self.warnings:
            self.warnings.add(message)
            logger.warning("%s: %s", self.settings.uploads, message)
