"""Declares the settings of the Cloudinary backend, and reads the account that they describe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, unquote, urlsplit

from ... import parsers
from ...config import Setting, Settings
from ...errors import ConfigError, Problem
from ..description import PUBLIC_URL, Description, require

DESCRIPTION = Description(
    settings=(
        Setting(
            "cloudinary_url",
            parsers.secret,
            native=("CLOUDINARY_URL",),
            help="The account, as `cloudinary://<api key>:<api secret>@<cloud name>`. It chooses this backend.",
        ),
        Setting(
            "cloudinary_cloud_name",
            parsers.matching(r"[A-Za-z0-9_-]+", "the cloud's name alone: letters, digits and '-'"),
            native=("CLOUDINARY_CLOUD_NAME",),
            help="The cloud name. You can set it and the next two settings instead of the URL.",
        ),
        Setting("cloudinary_api_key", native=("CLOUDINARY_API_KEY",), help="The API key."),
        Setting("cloudinary_api_secret", parsers.secret, native=("CLOUDINARY_API_SECRET",), help="The API secret."),
        Setting(
            "cloudinary_upload_prefix",
            parsers.web_address,
            native=("CLOUDINARY_UPLOAD_PREFIX",),
            help="The base URL of Cloudinary's API, for accounts outside the US. Default: `https://api.cloudinary.com`.",
        ),
        Setting(
            "cloudinary_private",
            parsers.boolean,
            default=False,
            help='`true`: store files as "authenticated"; links then expire. Default: links are public and permanent.',
        ),
        PUBLIC_URL,
    ),
    implied_by=("cloudinary_url", "cloudinary_cloud_name"),
    suggested_by=("cloudinary_api_key", "cloudinary_api_secret", "CLOUDINARY_API_KEY", "CLOUDINARY_API_SECRET"),
    needs=("cloudinary_cloud_name", "cloudinary_api_key", "cloudinary_api_secret"),
    sdk="cloudinary",
    install="flask-persistent-uploads[cloudinary]",
    persists=True,
    private_links="cloudinary_private",
)


@dataclass(frozen=True, slots=True)
class Account:
    """A Cloudinary account.

    :attr:`public_url`    the base URL from which files are delivered, if the account's URL contains one
    :attr:`upload_prefix` the base URL of the API, if one is set
    :attr:`variables`     for each argument of the backend that the account's URL sets, the variable of that URL
    """

    cloud_name: str
    api_key: str
    api_secret: str = field(repr=False)
    public_url: str | None = None
    upload_prefix: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


def read_url(url: str) -> Account:
    """Read a ``CLOUDINARY_URL``. A host after the cloud's name is the one that delivers the files.

    Unlike the SDK, this keeps the capitals of the cloud's name and percent-decodes the rest. Raises ``ValueError`` with
    a description of a correct URL.
    """
    found = re.fullmatch(
        r"cloudinary://([^:@/<>]+):([^@<>]+)@([A-Za-z0-9_-]+)(?:/([A-Za-z0-9.-]*))?(?:\?(.*))?", url.strip()
    )
    if not found:
        raise ValueError("a URL such as cloudinary://<api key>:<api secret>@<cloud name>")
    key, secret, cloud_name, host, query = found.groups()
    options = dict(parse_qsl(query or ""))
    elsewhere = options.keys() & {"private_cdn", "secure_distribution", "cname"}
    if elsewhere:
        names = ", ".join(sorted(elsewhere))
        raise ValueError(f"a URL without {names}, and name the address that files are delivered from separately")
    return Account(
        cloud_name,
        unquote(key),
        unquote(secret),
        f"https://{host}" if host else None,
        options.get("upload_prefix", "").rstrip("/") or None,
    )


def account(settings: Settings, environ: Mapping[str, str]) -> Account:
    """Return the account that the URL or its three parts describe. Raises ``ConfigError``.

    The extension's own names win over native ones, which other programs may share.
    """
    own_parts = settings.is_own("cloudinary_cloud_name") and settings.is_own("cloudinary_api_key")
    if settings["cloudinary_url"] is None or (own_parts and not settings.is_own("cloudinary_url")):
        return _account_of_parts(settings, environ)
    name, found = settings.variable("cloudinary_url"), _account_of_url(settings, environ)
    from_url = ["cloud_name", "api_key", "api_secret"]
    if found.upload_prefix is None or settings.is_own("cloudinary_upload_prefix"):
        found = replace(found, upload_prefix=settings["cloudinary_upload_prefix"])
    else:
        from_url.append("upload_prefix")
    return replace(found, variables=dict.fromkeys(from_url, name))


def _account_of_url(settings: Settings, environ: Mapping[str, str]) -> Account:
    name, problems = settings.variable("cloudinary_url"), _sdk_problems(environ)
    try:
        found = read_url(settings["cloudinary_url"].reveal())
    except ValueError as error:
        if name == "CLOUDINARY_URL":  # one mistake is one problem
            problems = []
        raise ConfigError([*problems, Problem(f"{name} is not valid.", f"Set {name} to {error}.", name)]) from error
    other, source = settings["cloudinary_cloud_name"], settings.variable("cloudinary_cloud_name")
    # A native name that another program uses does not contradict a URL of the extension's own.
    contradicts = settings.is_own("cloudinary_cloud_name") or not settings.is_own("cloudinary_url")
    if contradicts and other not in {None, found.cloud_name}:
        problems = [*problems, Problem(f"{source} names another cloud than {name}.", f"Remove {source}.", source)]
    if problems:
        raise ConfigError(problems)
    return found


def _account_of_parts(settings: Settings, environ: Mapping[str, str]) -> Account:
    require(settings, DESCRIPTION.needs, _sdk_problems(environ))
    return Account(
        settings["cloudinary_cloud_name"],
        settings["cloudinary_api_key"],
        settings["cloudinary_api_secret"].reveal(),
        upload_prefix=settings["cloudinary_upload_prefix"],
    )


def _sdk_problems(environ: Mapping[str, str]) -> Sequence[Problem]:
    """Return what is wrong with ``CLOUDINARY_URL``: the SDK reads it on import, and fails if it is wrong."""
    name, url = "CLOUDINARY_URL", environ.get("CLOUDINARY_URL") or "cloudinary://"
    if not url.startswith("cloudinary://"):
        remedy = f"Correct {name}; look for a space or a quote before it."
        return [Problem(f"{name} does not begin with cloudinary://.", remedy, name)]
    try:
        urlsplit(url)
    except ValueError:
        return [Problem(f"{name} contains '[' or ']'.", "Write them as %5B and %5D.", name)]
    return []
