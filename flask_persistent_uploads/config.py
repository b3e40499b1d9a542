"""Settings: ``app.config``, the environment and ``.env``, read once. The class :class:`Settings` is the table.

``app.config["UPLOADS_X"]`` wins over the environment, which wins over ``.env``. In each of the last two the
extension's own name wins over the native ones, which are those that hosts and tutorials already use.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values, find_dotenv

from .errors import ConfigError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


OURS = ("local", "s3", "cloudinary", "imagekit", "memory")


class Secret:
    """A value that shows itself only when asked by :meth:`reveal`: not in a repr, a format or a log."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('…')"

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")


def size(raw: object) -> int:
    """Bytes: a whole number, or one with a unit such as ``10MB`` (10 000 000), ``500kB`` or ``16MiB`` (2**24)."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmg]i?)?b?", str(raw).strip().lower())
    value = int(float(found[1]) * _UNITS[found[2] or ""]) if found else 0
    if value < 1:
        raise ValueError("a size such as 10MB, 500kB or a number of bytes")
    return value


def _text(raw: object) -> str:
    return str(raw).strip()


def _secret(raw: object) -> Secret:
    return Secret(str(raw).strip())


def _yes(raw: object) -> bool:
    text = str(raw).strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    raise ValueError("true or false")


def _use_s3(raw: object) -> str:
    return "s3" if _yes(raw) else "local"


def _between(low: int, high: int, unit: str) -> Callable[[object], int]:
    def parse(raw: object) -> int:
        text = str(raw).strip()
        if not re.fullmatch(r"\d{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number of {unit} from {low} to {high}")
        return int(text)

    return parse


def _one_of(*choices: str) -> Callable[[object], str]:
    def parse(raw: object) -> str:
        text = str(raw).strip().lower()
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return text

    return parse


def _folder(raw: object) -> str:
    if "://" in str(raw):
        raise ValueError("a folder, not an address")
    try:
        return str(Path(str(raw).strip()).expanduser())
    except RuntimeError:
        raise ValueError("a folder without '~', whose user is not known here") from None


def _web_address(raw: object) -> str:
    """An http(s) URL without a trailing slash; it is never repeated in a message, as it may hold a password."""
    text = re.sub(r"\s", " ", str(raw)).strip().rstrip("/")
    try:
        parts = urlsplit(text)
        port_is_a_number = parts.port != 0
    except ValueError:
        raise ValueError("a URL such as https://files.example.com") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL without user and password: put these into their own variables")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_a_number or " " in text:
        raise ValueError("a URL that begins with https:// or http://, such as https://files.example.com")
    if parts.query or parts.fragment:
        raise ValueError("a URL without '?' and '#'")
    # The host as browsers send it, because it is signed: in small letters, without the scheme's own port.
    host = parts.netloc.lower().removesuffix({"https": ":443", "http": ":80"}[parts.scheme])
    return f"{parts.scheme}://{host}{parts.path}"


def _cloud_name(raw: object) -> str:
    text = str(raw).strip()
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise ValueError("the cloud's name alone, of letters, digits and '-'")
    return text


def _backend(raw: object) -> str:
    text = str(raw).strip()
    return text.lower() if text.lower() in OURS else text


def _bucket(raw: object) -> str:
    text = str(raw).strip()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,253}", text):
        raise ValueError("the bucket's name alone, such as my-bucket: letters, digits, '-' and '.'")
    return text


def _store_id(raw: object) -> str:
    text = str(raw).strip()
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", text):
        raise ValueError("an id as 'flask uploads doctor' prints it, without quotes")
    return text


def _region(raw: object) -> str:
    text = str(raw).strip()
    if not re.fullmatch(r"[A-Za-z0-9-]+", text):
        raise ValueError("a region such as eu-central-1")
    return text


def _prefix(raw: object) -> str:
    text = str(raw).strip().strip("/")
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*", text) or len(text) > 63:
        raise ValueError("a name such as uploads or media/files, of letters, digits, '.', '_' and '-', at most 63")
    return text


def _url_prefix(raw: object) -> str:
    return "/" + _prefix(raw)


def allow_list(raw: object) -> tuple[str, ...]:
    """Types that are allowed: ``image/*``, ``application/pdf``, ``.csv``; a list of them, or one comma-joined text."""
    items = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(items, (list, tuple, set, frozenset)):
        raise ValueError("types such as image/*, application/pdf or .csv")  # noqa: TRY004 - collected as a mistake
    allowed = tuple(str(item).strip().lower() for item in items if str(item).strip())
    for item in allowed:
        if not re.fullmatch(r"\.[a-z0-9]+|[a-z]+/(\*|[a-z0-9.+-]+)", item):
            raise ValueError(f"types such as image/*, application/pdf or .csv, not {item!r}")
    return allowed


def _variable(
    parse: Callable[[object], Any] = _text,
    default: Any = None,
    native: tuple[str, ...] | Mapping[str, Callable[[object], Any]] = (),
    *,
    own: bool = False,
) -> Any:
    """A row of the table. ``own``: the native names speak to the ``Uploads`` named "uploads" alone."""
    names = native if isinstance(native, Mapping) else dict.fromkeys(native, parse)
    return field(default=default, metadata={"parse": parse, "native": names, "own": own})


@dataclass(frozen=True, slots=True)
class Settings:
    """What was set, parsed. A field ``x`` is the variable ``UPLOADS_X``; ``None`` means it was not set.

    :attr:`sources` tells for each field that was set, rightly or not, the name it came from, and :attr:`origins` where
    that was found; :attr:`others` holds the variables that begin like ours and are not, which a third party's backend
    may be waiting for.
    """

    backend: str | None = _variable(_backend, native={"USE_S3": _use_s3})
    dir: str | None = _variable(_folder, native=("MEDIA_ROOT",), own=True)
    s3_bucket: str | None = _variable(_bucket, native=("S3_BUCKET_NAME", "AWS_STORAGE_BUCKET_NAME", "BUCKET_NAME"))
    s3_region: str | None = _variable(_region, native=("AWS_REGION", "AWS_S3_REGION_NAME", "AWS_DEFAULT_REGION"))
    s3_endpoint_url: str | None = _variable(
        _web_address, native=("AWS_ENDPOINT_URL_S3", "S3_ENDPOINT_URL", "AWS_ENDPOINT_URL")
    )
    s3_public_endpoint_url: str | None = _variable(_web_address)
    s3_access_key_id: str | None = _variable(native=("AWS_ACCESS_KEY_ID",))
    s3_secret_access_key: Secret | None = _variable(_secret, native=("AWS_SECRET_ACCESS_KEY",))
    s3_session_token: Secret | None = _variable(_secret, native=("AWS_SESSION_TOKEN",))
    cloudinary_url: Secret | None = _variable(_secret, native=("CLOUDINARY_URL",))
    cloudinary_cloud_name: str | None = _variable(_cloud_name, native=("CLOUDINARY_CLOUD_NAME",))
    cloudinary_api_key: str | None = _variable(native=("CLOUDINARY_API_KEY",))
    cloudinary_api_secret: Secret | None = _variable(_secret, native=("CLOUDINARY_API_SECRET",))
    cloudinary_upload_prefix: str | None = _variable(_web_address, native=("CLOUDINARY_UPLOAD_PREFIX",))
    cloudinary_private: bool = _variable(_yes, default=False)
    imagekit_private_key: Secret | None = _variable(_secret, native=("IMAGEKIT_PRIVATE_KEY",))
    imagekit_public_key: str | None = _variable(native=("IMAGEKIT_PUBLIC_KEY",))
    imagekit_url_endpoint: str | None = _variable(_web_address, native=("IMAGEKIT_URL_ENDPOINT",))
    imagekit_base_url: str | None = _variable(_web_address, native=("IMAGE_KIT_BASE_URL",))
    imagekit_private: bool = _variable(_yes, default=False)
    prefix: str = _variable(_prefix, "uploads")
    url_prefix: str = _variable(_url_prefix, "/uploads")
    url_expires: int = _variable(_between(1, 604800, "seconds"), 3600)
    public_url: str | None = _variable(_web_address)
    serve: str = _variable(_one_of("redirect", "proxy", "auto"), "redirect")
    accel_redirect: str | None = _variable(_url_prefix)
    fallback: str | None = _variable()
    allow: tuple[str, ...] = _variable(allow_list, ())
    max_size: int = _variable(size, 100_000_000)
    max_files: int = _variable(_between(1, 100_000, "files"), 50)
    timeout: int = _variable(_between(2, 600, "seconds"), 25)
    require_persistent: bool = _variable(_yes, default=False)
    store_id: str | None = _variable(_store_id)
    platform: str | None = _variable()
    sources: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict, repr=False)


VARIABLES = tuple(row for row in dataclasses.fields(Settings) if "parse" in row.metadata)


def read(
    app_config: Mapping[str, Any], environ: Mapping[str, str], *, name: str = "uploads", dotenv: str | None = None
) -> tuple[Settings, list[str]]:
    """The settings of the ``Uploads`` called ``name``, whose variables begin with that name in capitals, and mistakes.

    ``dotenv`` is the path of a ``.env`` file; by default the nearest one, from the working folder upwards. Nothing is
    put into ``os.environ``.
    """
    start = f"{name.upper()}_"
    path = find_dotenv(usecwd=True) if dotenv is None else dotenv
    try:
        file = {key: value for key, value in dotenv_values(path).items() if value} if path else {}
    except UnicodeDecodeError as error:
        raise ConfigError("The file .env is not UTF-8: save it as UTF-8.") from error
    own = {key: value for key, value in app_config.items() if key.startswith(start) and not _is_empty(value)}
    problems: list[str] = []
    found: dict[str, Any] = {"prefix": name, "url_prefix": f"/{name}"}
    sources: dict[str, str] = {}
    origins: dict[str, str] = {}
    for row in VARIABLES:
        for variable, parse, raw, origin in _candidates(row, start, name, own, {"environment": environ, ".env": file}):
            sources[row.name], origins[row.name] = variable, origin
            try:
                found[row.name] = parse(raw)
            except ValueError as error:
                problems.append(f"{variable} is {_shown(row, raw)}; set it to {error}.")
            break
    settings = Settings(**found, sources=sources, origins=origins, others=_others(start, own, environ, file))
    return _without_foreign_token(settings, start), problems


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _candidates(
    row: dataclasses.Field[Any], start: str, name: str, own: Mapping[str, Any], layers: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, Callable[[object], Any], object, str]]:
    """Where a variable is set, first the place that wins: its name, how to read it, its value, and that place.

    An empty value is as good as none.
    """
    parse, native = row.metadata["parse"], row.metadata["native"]
    variable = start + row.name.upper()
    if variable in own:
        yield variable, parse, own[variable], "app.config"
    names = {variable: parse} if row.metadata["own"] and name != "uploads" else {variable: parse, **native}
    for origin, layer in layers.items():
        for candidate, parse_it in names.items():
            if layer.get(candidate, "").strip():
                # The flask command has put what .env says into the environment before.
                from_file = layers[".env"].get(candidate) == layer[candidate]
                yield candidate, parse_it, layer[candidate], ".env" if from_file else origin


def _shown(row: dataclasses.Field[Any], raw: object) -> str:
    """The value as a message may repeat it: nothing of what could hold a secret."""
    return "not right" if row.metadata["parse"] in (_secret, _web_address) else quoted(raw)


def quoted(raw: object) -> str:
    """What somebody wrote in the place of a name, unless it is an address, which may hold a password."""
    return "not right" if "@" in str(raw) or "://" in str(raw) else repr(raw)


def _without_foreign_token(settings: Settings, start: str) -> Settings:
    """A session token of the host's own role does not belong to the key that was set for us by our own name."""
    ours = settings.sources.get("s3_access_key_id", "").startswith(start)
    if ours and not settings.sources.get("s3_session_token", start).startswith(start):
        return dataclasses.replace(settings, s3_session_token=None)
    return settings


def _others(start: str, *layers: Mapping[str, Any]) -> dict[str, str]:
    known = {start + row.name.upper() for row in VARIABLES}
    return {
        name: str(value)
        for layer in reversed(layers)
        for name, value in layer.items()
        if name.startswith(start) and name not in known and value
    }


def unknown(settings: Settings, name: str) -> Iterator[str]:
    """A sentence for each variable that begins like ours but is none, with the nearest that is.

    With a third party's backend they may be its own.
    """
    if settings.backend not in OURS and settings.backend is not None:
        return
    known = [f"{name.upper()}_{row.name.upper()}" for row in VARIABLES]
    for other in settings.others:
        near = difflib.get_close_matches(other, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "it is ignored."
        yield f"{other} is not a setting of this extension: {hint}"


def choose_backend(settings: Settings, name: str = "uploads") -> str:
    """The backend that was asked for, or the one that the other variables imply; ``local`` where none does."""
    if settings.backend:
        return settings.backend
    signs = {
        "s3": ("s3_bucket",),
        "cloudinary": ("cloudinary_url", "cloudinary_cloud_name"),
        "imagekit": ("imagekit_private_key", "imagekit_url_endpoint"),
    }
    implied = {
        backend: settings.sources[sign]
        for backend, fields in signs.items()
        for sign in fields
        if sign in settings.sources
    }
    if len(implied) > 1:
        found = " and ".join(f"{source} (for {backend})" for backend, source in implied.items())
        raise ConfigError(
            f"Two backends are configured at once, by {found}: "
            f"set {name.upper()}_BACKEND to {' or '.join(implied)}, or remove the other's variables."
        )
    if not implied:
        _refuse_half_an_account(settings, name.upper())
    return next(iter(implied), "local")


def _refuse_half_an_account(settings: Settings, name: str) -> None:
    """What was meant for a service must not end on a disk that forgets, because one variable is missing.

    The credentials of AWS alone say nothing: some hosts always have them.
    """
    whole = {"s3": "S3_BUCKET", "cloudinary": "CLOUDINARY_CLOUD_NAME", "imagekit": "IMAGEKIT_PRIVATE_KEY"}
    for field_name, source in settings.sources.items():
        backend, _, part = field_name.partition("_")
        meant = source.startswith(f"{name}_") or (backend == "cloudinary" and name == "UPLOADS")
        if backend != "s3":  # an option, such as "private", may wait for an account; a disk was named on purpose
            meant = meant and part in {"api_key", "api_secret", "public_key"} and settings.dir is None
        if backend in whole and meant:
            raise ConfigError(
                f"{source} is set, but {name}_{whole[backend]} is not: set it too, or set {name}_BACKEND=local."
            )


def default_directory(settings: Settings, instance_path: str, name: str) -> Path:
    """``UPLOADS_DIR`` made absolute (a relative one from the working folder), or ``<instance_path>/<name>``."""
    return Path(settings.dir).absolute() if settings.dir else Path(instance_path, name)
