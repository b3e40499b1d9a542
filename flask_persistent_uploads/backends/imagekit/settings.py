"""Declares the settings of the ImageKit backend."""

from __future__ import annotations

from ... import parsers
from ...config import Setting
from ..description import Description

DESCRIPTION = Description(
    settings=(
        Setting(
            "imagekit_private_key",
            parsers.secret,
            native=("IMAGEKIT_PRIVATE_KEY",),
            help="The private key. It chooses this backend.",
        ),
        Setting("imagekit_public_key", native=("IMAGEKIT_PUBLIC_KEY",), help="Accepted, but not used."),
        Setting(
            "imagekit_url_endpoint",
            parsers.web_address,
            native=("IMAGEKIT_URL_ENDPOINT",),
            help="The base URL from which ImageKit delivers your files, such as `https://ik.imagekit.io/<id>`.",
        ),
        Setting(
            "imagekit_base_url",
            parsers.web_address,
            native=("IMAGE_KIT_BASE_URL",),
            help="The base URL of ImageKit's API, for tests. The spelling `IMAGE_KIT_…` is that of ImageKit's SDK. "
            "Default: ImageKit's own.",
        ),
        Setting(
            "imagekit_private",
            parsers.boolean,
            default=False,
            help="`true`: store new files as private; links then expire. Default: links are public and permanent.",
        ),
    ),
    implied_by=("imagekit_private_key", "imagekit_url_endpoint"),
    suggested_by=("imagekit_public_key",),
    needs=("imagekit_private_key", "imagekit_url_endpoint"),
    sdk="imagekitio",
    install="flask-persistent-uploads[imagekit]",
    persists=True,
    private_links="imagekit_private",
)
