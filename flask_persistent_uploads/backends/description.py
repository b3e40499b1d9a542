"""The record that each kind of backend declares about itself, and helpers that read the settings in it."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import config, parsers
from ..config import Setting, Settings
from ..errors import ConfigError, Problem
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
    :attr:`persists`       ``True`` if its files outlive the machine, ``False`` if they end with the process; ``None``
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


#: The setting of all backends that can link to a public address.
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


def require(settings: Settings, names: Collection[str], more: Iterable[Problem] = ()) -> None:
    """Raise ``ConfigError`` if one of these settings has no value, or if there are ``more`` problems.

    It has a problem for each setting that is not set, but none for a wrong value: that was reported when it was read.
    """
    declared = {row.name: row for row in settings.declared}
    problems = [*(_missing(settings, declared[name]) for name in names if not settings.is_set(name)), *more]
    if problems or any(settings[name] is None for name in names):
        raise ConfigError(problems)


def _missing(settings: Settings, row: Setting) -> Problem:
    own, native = config.variable(settings.uploads, row.name), row.native_for(settings.uploads)
    others = f" (or {', '.join(native)})" if native else ""
    local = f"{config.variable(settings.uploads, 'backend')}=local"
    return Problem(f"{own}{others} is not set.", f"Set it, or set {local}.", own)


def plain(value: Any) -> Any:
    """Return the value of a setting as a constructor takes it: the text of a secret, any other value unchanged."""
    return value.reveal() if isinstance(value, Secret) else value
