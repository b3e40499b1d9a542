"""Where files are kept. :func:`build` makes the backend that the settings ask for, and imports no other."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from werkzeug.utils import import_string

from ..config import OURS, VARIABLES, Secret, Settings, quoted
from ..errors import ConfigError
from . import s3_services
from .base import Backend

if TYPE_CHECKING:
    from .cloudinary import Account

GROUP = "flask_persistent_uploads.backends"

_SDKS = {"s3": "boto3", "cloudinary": "cloudinary", "imagekit": "imagekitio"}

# Any of these means that boto3's own chain has somewhere to look for credentials.
_CHAIN = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
)
_CHAIN_FILES = (".aws/credentials", ".aws/config")
_MACHINE_VENDOR = Path("/sys/class/dmi/id/sys_vendor")  # "Amazon EC2" where instance metadata can be asked


def build(name: str, settings: Settings, *, directory: Path, variables: str, environ: Mapping[str, str]) -> Backend:
    """The backend called ``name``. ``variables`` is what the names of its settings begin with: ``UPLOADS_``.

    Raises :class:`ConfigError`. No SDK is imported and nothing is asked over the network.
    """
    if name == "local":
        from .local import LocalBackend

        return LocalBackend(directory)
    if name == "memory":
        from .memory import MemoryBackend

        return MemoryBackend()
    if name == "s3":
        return _s3(settings, variables, environ)
    if name == "cloudinary":
        return _cloudinary(settings, variables, environ)
    if name == "imagekit":
        return _imagekit(settings, variables)
    return _third_party(name, settings, variables)


def _s3(settings: Settings, variables: str, environ: Mapping[str, str]) -> Backend:
    problems = missing_sdk("s3")
    if settings.s3_bucket is None:
        if "s3_bucket" not in settings.sources:  # what was set wrongly has been told
            problems.append(f"{variables}S3_BUCKET is not set: set it, or set {variables}BACKEND=local.")
        raise ConfigError(problems)
    given = (settings.s3_access_key_id, settings.s3_secret_access_key)
    if given == (None, None) and not _chain_in_reach(settings, environ):
        problems.append(
            f"There is a bucket but no credentials: "
            f"set {variables}S3_ACCESS_KEY_ID and {variables}S3_SECRET_ACCESS_KEY."
        )
    elif None in given and given != (None, None):
        missing = "S3_ACCESS_KEY_ID" if given[0] is None else "S3_SECRET_ACCESS_KEY"
        problems.append(f"{variables}{missing} is not set, while the other half of the credentials is: set both.")
    problems += _endpoint_problems(settings, variables)
    if problems:
        raise ConfigError(problems)
    from .s3 import S3Backend

    return S3Backend(
        bucket=settings.s3_bucket,
        region=settings.s3_region,
        endpoint_url=settings.s3_endpoint_url,
        public_endpoint_url=settings.s3_public_endpoint_url,
        access_key_id=settings.s3_access_key_id,
        secret_access_key=settings.s3_secret_access_key.reveal() if settings.s3_secret_access_key else None,
        session_token=settings.s3_session_token.reveal() if settings.s3_session_token else None,
        prefix=settings.prefix,
        public_url=settings.public_url,
        timeout=settings.timeout,
    )


def missing_sdk(name: str) -> list[str]:
    """What to install for the backend called ``name``, in a sentence; empty where nothing is missing."""
    module = _SDKS.get(name)
    if module is None or importlib.util.find_spec(module) is not None:
        return []
    return [f"The backend {name} needs {module}: pip install 'flask-persistent-uploads[{name}]'."]


def _needed(settings: Settings, variables: str, problems: list[str], *names: str) -> list[str]:
    """The values of settings that cannot be left out; raises ``ConfigError`` for these and for ``problems``."""
    native = {row.name: "".join(f" (or {name})" for name in row.metadata["native"]) for row in VARIABLES}
    problems += [
        f"{variables}{name.upper()}{native[name]} is not set: set it."
        for name in names
        if name not in settings.sources  # what was set wrongly has been told
    ]
    values = [getattr(settings, name) for name in names]
    if problems or None in values:
        raise ConfigError(problems)
    return [value.reveal() if isinstance(value, Secret) else value for value in values]


def _cloudinary(settings: Settings, variables: str, environ: Mapping[str, str]) -> Backend:
    from .cloudinary import API, CloudinaryBackend

    account = _cloudinary_account(settings, variables, missing_sdk("cloudinary"))
    _check_what_the_sdk_reads(environ.get("CLOUDINARY_URL") or "cloudinary://")
    prefixes = [settings.cloudinary_upload_prefix, account.upload_prefix]
    if not settings.sources.get("cloudinary_upload_prefix", "").startswith(variables):
        prefixes.reverse()
    return CloudinaryBackend(
        cloud_name=account.cloud_name,
        api_key=account.api_key,
        api_secret=account.api_secret,
        prefix=settings.prefix,
        private=settings.cloudinary_private,
        public_url=settings.public_url or account.public_url,
        upload_prefix=prefixes[0] or prefixes[1] or API,
        timeout=settings.timeout,
    )


def _check_what_the_sdk_reads(url: str) -> None:
    """The SDK reads the native variable by itself when it is imported, and fails if it is not right."""
    if not url.startswith("cloudinary://"):
        raise ConfigError(
            "CLOUDINARY_URL does not begin with cloudinary://: correct it (is a space or quote before it?)."
        )
    try:
        urlsplit(url)
    except ValueError:
        raise ConfigError("CLOUDINARY_URL holds '[' or ']': write them as %5B and %5D.") from None


def _cloudinary_account(settings: Settings, variables: str, problems: list[str]) -> Account:
    """The account of the URL, or of the three parts: our own names win over native ones, which others may share."""
    from .cloudinary import Account, read_url

    url, other = settings.cloudinary_url, settings.cloudinary_cloud_name
    source, other_source = (settings.sources.get(f"cloudinary_{name}", "") for name in ("url", "cloud_name"))
    ours, other_ours = source.startswith(variables), other_source.startswith(variables)
    own_key = settings.sources.get("cloudinary_api_key", "").startswith(variables)
    if url is None or (other_ours and own_key and not ours):
        parts = ("cloudinary_cloud_name", "cloudinary_api_key", "cloudinary_api_secret")
        return Account(*_needed(settings, variables, problems, *parts))
    try:
        account = read_url(url.reveal())
    except ValueError as error:
        raise ConfigError([*problems, f"{source} is not right; set it to {error}."]) from error
    if (other_ours or not ours) and other not in {None, account.cloud_name}:
        problems.append(f"{other_source} names another cloud than {source}: remove it.")
    if problems:
        raise ConfigError(problems)
    return account


def _imagekit(settings: Settings, variables: str) -> Backend:
    from .imagekit import ImageKitBackend

    private_key, url_endpoint = _needed(
        settings, variables, missing_sdk("imagekit"), "imagekit_private_key", "imagekit_url_endpoint"
    )
    return ImageKitBackend(
        private_key=private_key,
        url_endpoint=url_endpoint,
        public_key=settings.imagekit_public_key,
        prefix=settings.prefix,
        private=settings.imagekit_private,
        base_url=settings.imagekit_base_url,
        timeout=settings.timeout,
    )


def _chain_in_reach(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether boto3 may find credentials by itself, judged without asking anybody."""
    home = Path(environ.get("HOME", "/"))
    if any(environ.get(name) for name in _CHAIN) or any((home / name).exists() for name in _CHAIN_FILES):
        return True
    if settings.s3_endpoint_url is not None or environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return False
    return _MACHINE_VENDOR.is_file() and _MACHINE_VENDOR.read_text().startswith("Amazon EC2")


def _endpoint_problems(settings: Settings, variables: str) -> list[str]:
    """What contradicts the endpoint: a bucket's address is often pasted where it belongs."""
    endpoint, bucket = settings.s3_endpoint_url, settings.s3_bucket
    if endpoint is None or bucket is None:
        return []
    scheme, _, address = endpoint.partition("://")
    rest = f"{scheme}://{address.removeprefix(f'{bucket}.')}"
    problems = []
    # Elsewhere the region of the host counts silently: guides for R2 and Spaces set "us-east-1" beside it.
    service = s3_services.find(endpoint) if ".amazonaws.com" in address else None
    source = settings.sources.get("s3_region", "")
    if service and service.region and source.startswith(variables) and settings.s3_region != service.region:
        problems.append(f"{source} is {settings.s3_region}, but the endpoint is in {service.region}: remove it.")
    if (rest != endpoint and s3_services.find(rest) is not None) or urlsplit(endpoint).path == f"/{bucket}":
        problems.append(
            f"{variables}S3_ENDPOINT_URL holds the bucket's name: leave it out, {variables}S3_BUCKET has it."
        )
    return problems


def _third_party(name: str, settings: Settings, variables: str) -> Backend:
    """A class of somebody else's: ``module:Class``, or a name of the entry-point group.

    It is called with the variables that begin with its own name: ``UPLOADS_GCS_BUCKET=x`` is ``bucket="x"`` for the
    backend whose ``name`` is ``gcs``.
    """
    found = [point for point in entry_points(group=GROUP) if point.name == name]
    known = ", ".join([*OURS, *sorted(point.name for point in entry_points(group=GROUP))])
    if not found and ":" not in name:
        raise ConfigError(
            f"{variables}BACKEND is {quoted(name)}, which is not known: set it to {known} or module:Class."
        )
    try:
        backend = found[0].load() if found else import_string(name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{variables}BACKEND is {quoted(name)}, which cannot be imported ({type(error).__name__}): "
            f"set it to {known} or module:Class."
        ) from error
    if not (isinstance(backend, type) and issubclass(backend, Backend) and hasattr(backend, "name")):
        raise ConfigError(f"{variables}BACKEND is {quoted(name)}, which is not a subclass of Backend with a name.")
    start = f"{variables}{backend.name.upper()}_"
    options = {key[len(start) :].lower(): value for key, value in settings.others.items() if key.startswith(start)}
    try:
        return backend(**options)
    except TypeError as error:
        raise ConfigError(f"The settings {start}… do not fit the backend {name!r}: {error}.") from error
