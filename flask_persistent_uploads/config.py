"""Declares the settings, and reads them once: from ``app.config``, the environment and ``.env``.

``app.config`` wins over the environment, which wins over ``.env``. But the extension's own names, such as
``UPLOADS_S3_BUCKET``, win over the native names that hosts and tutorials use, such as ``S3_BUCKET_NAME``, wherever
they are set.

The fields of :class:`Settings` are the settings that all backends share. Each backend declares its own settings, as
:class:`Setting` objects in its :class:`~.backends.description.Description`.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dotenv import dotenv_values, find_dotenv

from . import parsers
from .errors import Problem
from .parsers import Parser

#: Seconds. S3 signs no URL for longer.
MAX_URL_EXPIRES = 604_800


@dataclass(frozen=True, slots=True)
class Setting:
    """The declaration of one setting. The name ``s3_bucket`` means the variable ``UPLOADS_S3_BUCKET``.

    :attr:`parse`   reads the value; raises ``ValueError`` with a phrase that completes "Set X to …"
    :attr:`native`  other variables that set it, if need be each with a parser of its own
    :attr:`help`    its text in the table of settings
    :attr:`shared`  whether ``native`` also sets it for further ``Uploads``, such as ``Uploads(name="documents")``
    :attr:`strict`  whether it is a mistake to set it for a backend that does not use it
    """

    name: str
    parse: Parser = parsers.text
    default: Any = None
    native: tuple[str, ...] | Mapping[str, Parser] = ()
    help: str = ""
    shared: bool = True
    strict: bool = False

    @property
    def native_parsers(self) -> Mapping[str, Parser]:
        return self.native if isinstance(self.native, Mapping) else dict.fromkeys(self.native, self.parse)

    def native_for(self, uploads: str) -> Mapping[str, Parser]:
        """Return the native variables that the ``Uploads`` of this name reads, each with its parser."""
        return self.native_parsers if self.shared or uploads == "uploads" else {}

    def shown(self, raw: object) -> str:
        """Return a wrong value for a message, or "not valid" if it may hold a secret."""
        return "not valid" if self.parse in {parsers.secret, parsers.web_address} else quoted(raw)


def quoted(raw: object) -> str:
    """Return the ``repr`` of a wrong value, or "not valid" if it looks like a URL, which may hold a password."""
    return "not valid" if "@" in str(raw) or "://" in str(raw) else repr(raw)


def _common(*arguments: Any, **options: Any) -> Any:
    """Declare a field of :class:`Settings`. The arguments are those of :class:`Setting` after the name."""
    setting = Setting("", *arguments, **options)
    return field(default=setting.default, metadata={"setting": setting})


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one ``Uploads``, parsed. The field ``x`` is the variable ``UPLOADS_X``.

    :attr:`uploads`     the name of the ``Uploads``
    :attr:`of_backends` the values of the settings that backends declare, by name; the default if one is not set
    :attr:`sources`     for each setting that is set, even to a wrong value, the variable that sets it
    :attr:`origins`     for each of these, where the variable was found: ``app.config``, ``environment`` or ``.env``
    :attr:`declared`    the declarations of all settings
    :attr:`unknown`     the variables that begin like settings but are not declared, with their values
    """

    backend: str | None = _common(
        parsers.text,
        None,
        {"USE_S3": parsers.s3_or_local},
        "The [backend](backends.md), by its name, or as `module:Class`. `USE_S3=true` means `s3`, and `USE_S3=false` "
        "means `local`. Default: the backend whose bucket or account is set, else `local`.",
    )
    prefix: str = _common(
        parsers.prefix,
        "uploads",
        help="The beginning of paths, and of the names of files in a bucket or service. Default: `uploads`.",
    )
    url_prefix: str = _common(
        parsers.url_prefix, "/uploads", help="The path at which the app serves files. Default: `/uploads`."
    )
    url_expires: int = _common(
        parsers.between(1, MAX_URL_EXPIRES, "seconds"),
        3600,
        help="How long a direct url works at most, in seconds (1 to 604800). Default: `3600`.",
    )
    allow: tuple[str, ...] = _common(
        parsers.allow_list,
        (),
        help="The types that are accepted, such as `image/*, application/pdf, .csv`. Default: all types.",
    )
    max_size: int = _common(
        parsers.size,
        100_000_000,
        help="The largest file. It limits all forms of the app, also those that you read with `request.files`. "
        "Default: `100MB`.",
    )
    max_files: int = _common(
        parsers.between(1, 100_000, "files"),
        50,
        help="The largest number of files in one form (1 to 100000). Default: `50`.",
    )
    timeout: int = _common(
        parsers.between(2, 600, "seconds"),
        25,
        help="How long one call to the service may take, in seconds (2 to 600). An upload may take longer while it "
        "makes progress. Default: `25`.",
    )
    require_persistent: bool = _common(
        parsers.boolean,
        False,
        help="`true`: the app refuses to start if uploads will be lost. Default: it logs a warning.",
    )
    store_id: str | None = _common(
        parsers.matching(r"[A-Za-z0-9-]{1,64}", "an id as 'flask uploads doctor' prints it, without quotes"),
        help="The id of the expected store, as `flask uploads doctor` prints it. If the app uses another store, or an "
        "empty one, the log and the health check show an [alarm](survival.md#the-alarm).",
    )
    platform: str | None = _common(
        help="The host: a value from the second column of "
        "[this table](hosts.md#what-the-extension-knows-about-each-host). Default: detected from the environment."
    )
    uploads: str = "uploads"
    of_backends: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sources: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    declared: tuple[Setting, ...] = field(default=(), repr=False)
    unknown: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> Any:
        """Return the value of a declared setting."""
        return self.of_backends[name] if name in self.of_backends else getattr(self, name)

    def is_set(self, name: str) -> bool:
        """Return whether a setting is set, even to a wrong value."""
        return name in self.sources

    def is_own(self, name: str) -> bool:
        """Return whether a setting is set by the extension's own name, not by a native one."""
        return self.sources.get(name) == variable(self.uploads, name)

    def variable(self, name: str) -> str:
        """Return the variable that the user set for this setting, or the extension's own name if none is set."""
        return self.sources.get(name) or variable(self.uploads, name)

    def options(self, backend: str) -> dict[str, str]:
        """Return the undeclared variables of a backend: ``UPLOADS_GCS_BUCKET`` as ``bucket`` for the name ``gcs``."""
        start = variable(self.uploads, f"{backend}_")
        return {name[len(start) :].lower(): value for name, value in self.unknown.items() if name.startswith(start)}


COMMON = tuple(
    dataclasses.replace(row.metadata["setting"], name=row.name)
    for row in dataclasses.fields(Settings)
    if "setting" in row.metadata
)


def variable(uploads: str, name: str) -> str:
    """Return the variable of a setting of an ``Uploads``, such as ``DOCUMENTS_S3_BUCKET``."""
    return f"{uploads}_{name}".upper()


# -- reading


@dataclass(frozen=True, slots=True)
class _Found:
    """A value as the user set it, and where: ``origin`` is ``app.config``, ``environment`` or ``.env``."""

    variable: str
    parse: Parser
    raw: object
    origin: str


def read(
    app_config: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    uploads: str = "uploads",
    declared: Iterable[Setting] = (),
    dotenv: str | None = None,
) -> tuple[Settings, list[Problem]]:
    """Read the settings of the ``Uploads`` of this name. Return them and every mistake in their values.

    ``declared`` are the settings of the backends. ``dotenv`` is the path of a ``.env`` file; by default, the nearest
    one in the working directory or above it. ``os.environ`` is not changed.
    """
    file, problems = _read_dotenv(dotenv)
    layers = {"app.config": app_config, "environment": environ, ".env": file}
    rows = {row.name: row for row in (*COMMON, *declared)}
    values = {name: row.default for name, row in rows.items()} | {"prefix": uploads, "url_prefix": f"/{uploads}"}
    found = {name: each for name, row in rows.items() if (each := _find(row, uploads, layers)) is not None}
    for name, each in found.items():
        try:
            values[name] = each.parse(each.raw)
        except ValueError as error:
            message = f"{each.variable} is {rows[name].shown(each.raw)}."
            problems.append(Problem(message, f"Set {each.variable} to {error}.", each.variable))
    settings = Settings(
        **{row.name: values.pop(row.name) for row in COMMON},
        uploads=uploads,
        of_backends=values,
        sources={name: each.variable for name, each in found.items()},
        origins={name: each.origin for name, each in found.items()},
        declared=tuple(rows.values()),
        unknown=_unknown(uploads, rows, layers),
    )
    return settings, problems


def _read_dotenv(path: str | None) -> tuple[dict[str, str], list[Problem]]:
    path = find_dotenv(usecwd=True) if path is None else path
    try:
        return {name: value for name, value in dotenv_values(path).items() if value} if path else {}, []
    except UnicodeDecodeError:
        return {}, [Problem("The file .env is not encoded as UTF-8, so it was not read.", "Save it as UTF-8.")]


def _find(row: Setting, uploads: str, layers: Mapping[str, Mapping[str, Any]]) -> _Found | None:
    """Return the value that wins for a setting; ``None`` if it is not set."""
    for candidates in ({variable(uploads, row.name): row.parse}, row.native_for(uploads)):
        for origin, layer in layers.items():
            for name, parse in candidates.items():
                raw = layer.get(name)
                if not _is_empty(raw):
                    # The flask command copies .env into the environment before the app starts.
                    copied = origin == "environment" and layers[".env"].get(name) == raw
                    return _Found(name, parse, raw, ".env" if copied else origin)
    return None


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _unknown(uploads: str, rows: Iterable[str], layers: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    start, known = variable(uploads, ""), {variable(uploads, name) for name in rows}
    return {
        name: str(value)
        for layer in reversed([*layers.values()])
        for name, value in layer.items()
        if name.startswith(start) and name not in known and not _is_empty(value)
    }


def unknown_settings(settings: Settings) -> Iterator[Problem]:
    """Yield a problem for each variable that begins like a setting but is none, with the nearest name of a setting."""
    known = [variable(settings.uploads, row.name) for row in settings.declared]
    for name in settings.unknown:
        alike = [each for each in known if _similarity(settings.uploads, name, each) >= 0.5]
        near = difflib.get_close_matches(name, alike, n=1)
        remedy = f"Did you mean {near[0]}?" if near else "It is ignored. Remove it."
        yield Problem(f"{name} is not a setting of this extension.", remedy, name)


def _similarity(uploads: str, one: str, other: str) -> float:
    """Return how alike two variables are, from 0 to 1, apart from the prefix that they share."""
    start = len(variable(uploads, ""))
    return difflib.SequenceMatcher(None, one[start:], other[start:]).ratio()
