"""What each kind of backend declares about itself, and how the settings that it declares are read."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import config, parsers
from ..config import Setting, Settings
from ..errors import Problem
from ..parsers import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The facts about one kind of backend that configuration, doctor, set-up and the start-up verdict read.

    :attr:`settings`       the settings that it reads; by default, one text for each argument of its constructor
    :attr:`implied_by`     the settings that choose this backend: one of them is enough
    :attr:`suggested_by`   settings, and native variables, that show that this backend was meant. If one is set but no
                           backend is chosen, ``init_app`` raises ``ConfigError`` instead of using the local disk
    :attr:`needs`          the settings that it cannot work without
    :attr:`sdk`            the module that it imports, if it imports an optional one
    :attr:`install`        the argument of ``pip install`` that provides the SDK; by default, the SDK's name
    :attr:`persists`       ``True`` if its files outlive the machine, ``False`` if they end with the process, ``None``
                           if that depends on the disk of :meth:`Backend.filesystem_path`, or is not known
    :attr:`private_links`  the setting that decides whether its direct urls are public and permanent, if there is one
    """

    settings: tuple[Setting, ...] = ()
    implied_by: tuple[str, ...] = ()
    suggested_by: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    sdk: str | None = None
    install: str | None = None
    persists: bool | None = None
    private_links: str | None = None


#: A setting that several backends declare.
PUBLIC_URL = Setting(
    "public_url",
    parsers.web_address,
    strict=True,
    help="The base URL of a public bucket or of a CDN. Links to files that browsers show begin with it, have no "
    "signature and do not expire. For Cloudinary, the base URL of your delivery domain, such as "
    "`https://<cloud name>-res.cloudinary.com`. Default for Cloudinary: `https://res.cloudinary.com/<cloud name>`.",
)


def arguments(backend: type) -> Mapping[str, bool]:
    """Return the arguments of a constructor by name, each with whether it has no default."""
    if backend.__init__ is object.__init__:  # type: ignore[misc]
        return {}
    _, *parameters = inspect.signature(backend.__init__).parameters.values()  # type: ignore[misc]
    by_name = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    return {each.name: each.default is each.empty for each in parameters if each.kind in by_name}


def missing(settings: Settings, names: Iterable[str]) -> list[Problem]:
    """Return a problem for each of these settings that is not set.

    A setting with a wrong value is not among them: that was reported when it was read.
    """
    declared = {row.name: row for row in settings.declared}
    return [_missing(settings, declared[name]) for name in names if not settings.is_set(name)]


def _missing(settings: Settings, row: Setting) -> Problem:
    own = config.variable(settings.uploads, row.name)
    native = row.native_parsers if row.shared or settings.uploads == "uploads" else {}
    others = f" (or {', '.join(native)})" if native else ""
    local = f"{config.variable(settings.uploads, 'backend')}=local"
    return Problem(f"{own}{others} is not set.", f"Set it, or set {local}.", own)


def plain(value: Any) -> Any:
    """Return the value of a setting as a constructor takes it: a secret as its text."""
    return value.reveal() if isinstance(value, Secret) else value
