"""What ``init_app`` had set up when it refused to start, for ``flask uploads doctor`` to examine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flask import Flask

from ..backends import Reading
from ..backends.base import Backend
from ..errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Startup:
    """What ``init_app`` had set up. ``backend`` is ``None`` if it cannot be constructed from the settings."""

    app: Flask
    reading: Reading
    backend: Backend | None = None


class StartupRefused(ConfigError):
    """The ``ConfigError`` that ``init_app`` raises. :attr:`startup` holds what it had set up before."""

    def __init__(self, problems: Sequence[Problem], startup: Startup) -> None:
        super().__init__(problems)
        self.startup = startup
