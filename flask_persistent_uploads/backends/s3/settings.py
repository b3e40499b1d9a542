"""Declares the settings of the S3 backend, and finds the mistakes in them that need no request to the service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ... import parsers
from ...config import Setting, Settings
from ...errors import Problem
from ..description import PUBLIC_URL, Description
from . import services

DESCRIPTION = Description(
    settings=(
        Setting(
            "s3_bucket",
            parsers.matching(
                r"[A-Za-z0-9][A-Za-z0-9._-]{0,253}",
                "the bucket's name alone, such as my-bucket: letters, digits, '-' and '.'",
            ),
            native=("S3_BUCKET_NAME", "AWS_STORAGE_BUCKET_NAME", "BUCKET_NAME"),
            help="The name of the bucket. It chooses this backend.",
        ),
        Setting(
            "s3_region",
            parsers.matching(r"[A-Za-z0-9-]+", "a region such as eu-central-1"),
            native=("AWS_REGION", "AWS_S3_REGION_NAME", "AWS_DEFAULT_REGION"),
            help="The region of the bucket. Default: the region in the endpoint URL, else `us-east-1`.",
        ),
        Setting(
            "s3_endpoint_url",
            parsers.web_address,
            native=("AWS_ENDPOINT_URL_S3", "S3_ENDPOINT_URL", "AWS_ENDPOINT_URL"),
            help="The URL of the service. Default: Amazon S3.",
        ),
        Setting(
            "s3_public_endpoint_url",
            parsers.web_address,
            help="The URL of the service for browsers, if the app uses another one, such as an internal address.",
        ),
        Setting(
            "s3_access_key_id",
            native=("AWS_ACCESS_KEY_ID",),
            help="The access key. Default: boto3 looks for credentials, in a profile or in a role of the machine.",
        ),
        Setting(
            "s3_secret_access_key",
            parsers.secret,
            native=("AWS_SECRET_ACCESS_KEY",),
            help="The secret that belongs to the access key.",
        ),
        Setting(
            "s3_session_token",
            parsers.secret,
            native=("AWS_SESSION_TOKEN",),
            help="The session token of temporary credentials.",
        ),
        PUBLIC_URL,
    ),
    implied_by=("s3_bucket",),
    suggested_by=(
        "s3_region",
        "s3_endpoint_url",
        "s3_public_endpoint_url",
        "s3_access_key_id",
        "s3_secret_access_key",
        "s3_session_token",
    ),
    needs=("s3_bucket",),
    sdk="boto3",
    install="flask-persistent-uploads[s3]",
    persists=True,
    private_links="public_url",
)

# If one of these variables is set, or one of these files exists, boto3 may find credentials by itself.
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
_MACHINE_VENDOR = Path("/sys/class/dmi/id/sys_vendor")  # "Amazon EC2" on a machine whose metadata may hold credentials


def session_token(settings: Settings) -> str | None:
    """Return the session token that belongs to the access key.

    A native token belongs to the host's own role, not to an access key that has the extension's own name.
    """
    token = settings["s3_session_token"]
    if token is None or (settings.is_own("s3_access_key_id") and not settings.is_own("s3_session_token")):
        return None
    return str(token.reveal())


def problems(settings: Settings, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what is wrong with the credentials and the endpoint of a bucket."""
    names = ("s3_access_key_id", "s3_secret_access_key")
    absent = [settings.variable(name) for name in names if not settings.is_set(name)]
    if len(absent) == 2 and not _credentials_in_reach(settings, environ):
        yield Problem("There is a bucket, but no credentials.", f"Set {' and '.join(absent)}.", absent[0])
    elif len(absent) == 1:
        (present,) = (settings.variable(name) for name in names if settings.is_set(name))
        yield Problem(f"{present} is set, but {absent[0]} is not.", f"Set {absent[0]} too.", absent[0])
    yield from _endpoint_problems(settings)


def _credentials_in_reach(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Return whether boto3 may find credentials by itself, without using the network."""
    home = Path(environ.get("HOME", "/"))
    if any(environ.get(name) for name in _CHAIN) or any((home / name).exists() for name in _CHAIN_FILES):
        return True
    if settings.is_set("s3_endpoint_url") or environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return False
    return _MACHINE_VENDOR.is_file() and _MACHINE_VENDOR.read_text().startswith("Amazon EC2")


def _endpoint_problems(settings: Settings) -> Iterator[Problem]:
    """Yield what is wrong with the endpoint. Often it is the address of the bucket itself, copied from a console."""
    endpoint, bucket = settings["s3_endpoint_url"], settings["s3_bucket"]
    if endpoint is None or bucket is None:
        return
    scheme, _, address = endpoint.partition("://")
    rest = f"{scheme}://{address.removeprefix(f'{bucket}.')}"
    # Other services ignore the region. The guides for R2 and Spaces set "us-east-1".
    service = services.find(endpoint) if ".amazonaws.com" in address else None
    region, name = settings["s3_region"], settings.variable("s3_region")
    if service and service.region and settings.is_own("s3_region") and region != service.region:
        yield Problem(f"{name} is {region}, but the endpoint is in {service.region}.", f"Remove {name}.", name)
    if (rest != endpoint and services.find(rest) is not None) or urlsplit(endpoint).path == f"/{bucket}":
        name = settings.variable("s3_endpoint_url")
        remedy = f"Remove the name from the URL. It belongs in {settings.variable('s3_bucket')}."
        yield Problem(f"{name} contains the name of the bucket.", remedy, name)
