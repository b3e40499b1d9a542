"""Which host this is, as far as it tells by the environment, and whether its disk outlives the next deploy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

#: The variable by which a host is known, its name, and what it calls a disk that stays. Read in the vendors' pages
#: 2026-11; on each of them the disk of an app is wiped by every deploy and restart.
_WIPED = (
    ("RENDER", "Render", "add a disk"),
    ("KOYEB_SERVICE_ID", "Koyeb", "add a volume"),
    ("KOYEB_APP_NAME", "Koyeb", "add a volume"),
    ("DYNO", "Heroku", None),
    ("RAILWAY_ENVIRONMENT_ID", "Railway", "add a volume"),
    ("FLY_MACHINE_ID", "Fly.io", "add a volume"),
    ("FLY_APP_NAME", "Fly.io", "add a volume"),
    ("K_SERVICE", "Cloud Run", None),
)


def wiped_disk(directory: Path, environ: Mapping[str, str], *, variables: str = "UPLOADS_") -> str | None:
    """A sentence with the remedy if files in ``directory`` are lost at the next deploy; ``None`` if nothing says so.

    ``variables`` is what the names of the settings begin with. A directory on a mount of its own counts as a disk that
    stays. It need not exist, and is not made by looking.
    """
    folder = f"and set {variables}DIR to a folder below its mount path"
    for variable, platform, disk in _WIPED:
        if environ.get(variable):
            if _mounted_apart(directory):
                return None
            remedy = f"set {variables}S3_BUCKET and its credentials, or {variables}CLOUDINARY_URL" + (
                f", or {disk} {folder}" if disk else ""
            )
            return f"{platform} wipes this disk at every deploy and restart: {remedy}."
    return None


def _mounted_apart(directory: Path) -> bool:
    existing = Path(os.path.realpath(directory))
    while not existing.exists():
        existing = existing.parent
    return existing.stat().st_dev != Path("/").stat().st_dev
