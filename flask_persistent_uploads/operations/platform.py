"""Detect the hosting platform and the instance, and describe each platform in one table."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..config import quoted
from ..errors import ConfigError, Problem

#: When the facts in :data:`PLATFORMS` were last compared with the vendors' documentation.
LAST_VERIFIED = "2026-11"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The facts about one hosting platform. ``None`` means unknown, or no limit.

    :attr:`known_by`       environment variables, any of which identifies the platform
    :attr:`confirmed_by`   variables that the platform sets as well; if all of them are missing, somebody may have set
                           the others by hand
    :attr:`running`        a variable that is set only while the app runs, not while it is built or released
    :attr:`releasing`      a variable that is set only while a release command runs
    :attr:`instance`       variables that together identify an instance and its deploy
    :attr:`wiped`          whether each deploy or restart erases the root file system
    :attr:`volumes`        whether a separate mount persists; if not, only a network file system does
    :attr:`volume`         how to get a persistent disk, as a clause in the imperative
    :attr:`volume_path`    a variable that holds the mount path of such a disk
    :attr:`volume_at`      the mount path of such a disk, if it is always the same
    :attr:`shared`         ``True``: all instances share one disk; ``False``: each instance has its own
    :attr:`max_body`       the largest request body, in bytes
    :attr:`max_seconds`    how long a request may take
    :attr:`idle_seconds`   how long an instance may be without requests before it is put to sleep
    :attr:`stop_signal`    the signal that announces the end of an instance
    :attr:`stop_seconds`   how long after the signal the instance is killed
    :attr:`unverified`     the fields for which the vendor's documentation gives no proof
    """

    id: str
    name: str
    known_by: tuple[str, ...] = ()
    confirmed_by: tuple[str, ...] = ()
    running: str | None = None
    releasing: str | None = None
    instance: tuple[str, ...] = ()
    wiped: bool = True
    volumes: bool = False
    volume: str | None = None
    volume_path: str | None = None
    volume_at: str | None = None
    shared: bool | None = None
    max_body: int | None = None
    max_seconds: int | None = None
    idle_seconds: int | None = None
    stop_signal: str = "SIGTERM"
    stop_seconds: int | None = None
    unverified: frozenset[str] = field(default=frozenset())


_MB, _MIB = 10**6, 2**20

#: The first match wins. Kubernetes and Docker come last, because many other platforms run on them.
PLATFORMS = (
    Platform(
        id="render",
        name="Render",
        known_by=("RENDER",),
        confirmed_by=("RENDER_SERVICE_ID",),
        running="RENDER_INSTANCE_ID",
        instance=("RENDER_INSTANCE_ID", "RENDER_GIT_COMMIT"),
        volumes=True,
        volume="add a disk",
        shared=False,  # a service with a disk has one instance
        idle_seconds=900,  # free services
        stop_seconds=30,
    ),
    Platform(
        id="koyeb",
        name="Koyeb",
        known_by=("KOYEB_SERVICE_ID", "KOYEB_APP_NAME"),
        instance=("KOYEB_INSTANCE_ID", "KOYEB_REGIONAL_DEPLOYMENT_ID"),
        volumes=True,
        volume="add a volume",
        shared=False,
        max_seconds=100,
        idle_seconds=300,
        unverified=frozenset({"max_seconds", "shared", "stop_signal"}),
    ),
    Platform(
        id="heroku",
        name="Heroku",
        known_by=("DYNO",),  # not for instance: it is "web.1" after every restart, while the host name changes
        max_seconds=30,  # from the end of the request body to the first byte of the response
        idle_seconds=1800,
        stop_seconds=30,
        unverified=frozenset({"known_by", "idle_seconds", "stop_signal", "stop_seconds", "volume"}),
    ),
    Platform(
        id="railway",
        name="Railway",
        known_by=("RAILWAY_ENVIRONMENT_ID",),
        instance=("RAILWAY_REPLICA_ID", "RAILWAY_DEPLOYMENT_ID"),
        volumes=True,
        volume="add a volume",
        volume_path="RAILWAY_VOLUME_MOUNT_PATH",
        shared=False,
        max_seconds=300,  # until the request body has arrived
        idle_seconds=600,
        stop_seconds=0,
    ),
    Platform(
        id="fly",
        name="Fly.io",
        known_by=("FLY_MACHINE_ID", "FLY_APP_NAME"),
        releasing="RELEASE_COMMAND",
        instance=("FLY_MACHINE_ID", "FLY_MACHINE_VERSION"),
        volumes=True,
        volume="add a volume",
        shared=False,
        max_seconds=60,
        stop_signal="SIGINT",
        stop_seconds=5,
        unverified=frozenset({"max_seconds", "releasing"}),
    ),
    Platform(
        id="cloud-run",
        name="Cloud Run",
        known_by=("K_SERVICE", "CLOUD_RUN_JOB"),
        instance=("K_REVISION", "HOSTNAME"),
        shared=True,
        max_body=32 * _MIB,  # over HTTP/1
        max_seconds=300,
        stop_seconds=10,
        unverified=frozenset({"instance", "shared", "max_seconds", "stop_signal", "stop_seconds"}),
    ),
    Platform(
        id="azure",
        name="Azure App Service",
        known_by=("WEBSITE_SITE_NAME",),
        confirmed_by=("WEBSITE_INSTANCE_ID",),
        instance=("WEBSITE_INSTANCE_ID", "HOSTNAME"),
        volume_at="/home",  # custom containers need WEBSITES_ENABLE_APP_SERVICE_STORAGE=true
        shared=True,
        max_seconds=230,
        unverified=frozenset({"stop_signal", "volume_at"}),
    ),
    Platform(
        id="vercel",
        name="Vercel",
        known_by=("VERCEL",),
        instance=("VERCEL_DEPLOYMENT_ID",),
        max_body=4_500_000,
        max_seconds=300,
        unverified=frozenset({"known_by", "instance", "wiped"}),
    ),
    Platform(
        id="lambda",
        name="AWS Lambda",
        known_by=("AWS_LAMBDA_FUNCTION_NAME",),
        instance=("AWS_LAMBDA_LOG_STREAM_NAME",),
        shared=True,
        max_body=6 * _MB,  # after base64 encoding
        max_seconds=29,  # the limit of API Gateway
        unverified=frozenset({"shared", "max_body"}),
    ),
    # These two set no variable that identifies them: they are recognised by UPLOADS_PLATFORM only.
    Platform(id="app-runner", name="AWS App Runner", max_seconds=120, unverified=frozenset({"known_by"})),
    Platform(id="digitalocean", name="DigitalOcean App Platform", max_seconds=100, unverified=frozenset({"known_by"})),
    Platform(
        id="kubernetes",
        name="Kubernetes",
        known_by=("KUBERNETES_SERVICE_HOST",),
        volumes=True,
        volume="mount a persistent volume",
        stop_seconds=30,
        unverified=frozenset({"known_by", "stop_seconds"}),
    ),
    Platform(
        id="docker",
        name="Docker",
        volumes=True,
        volume="mount a named volume",
        stop_seconds=10,
        unverified=frozenset({"known_by", "stop_seconds"}),
    ),
    Platform(id="machine", name="this machine", wiped=False, volumes=True),
)

_CONTAINER_FILES = (".dockerenv", "run/.containerenv")
_BOOT = "proc/sys/kernel/random/boot_id"


@dataclass(frozen=True, slots=True)
class Host:
    """The instance that this process runs in.

    :attr:`names`     the platform's names for the instance and its deploy
    :attr:`doubt`     the problem if the environment contradicts itself about the platform
    :attr:`building`  whether the app is being built or released, while no disk is mounted
    :attr:`stated`    whether the user set the platform
    :attr:`machine`   a hash that identifies the machine and does not change when it restarts
    """

    platform: Platform
    names: tuple[str, ...]
    doubt: Problem | None = None
    building: bool = False
    stated: bool = False
    machine: str = ""

    def __str__(self) -> str:
        """Return the name of the instance for the log."""
        return f"{' '.join(self.names)} ({self.id})"

    @property
    def kind(self) -> str:
        """Return the platform, and the machine if its disk is not wiped. The records in a marker contain it.

        Therefore, a marker that was copied to another machine, with an image or a backup, proves nothing there.
        """
        return self.platform.id if self.platform.wiped else f"{self.platform.id} {self.machine}"

    @property
    def id(self) -> str:
        """Return 12 hex digits that all processes of one instance and deploy share.

        Instances to which the platform gives the same names have the same id.
        """
        return hashlib.sha256("\0".join([self.platform.id, *self.names]).encode()).hexdigest()[:12]


def detect(
    environ: Mapping[str, str],
    override: str | None = None,
    *,
    variable: str = "UPLOADS_PLATFORM",
    root: Path = Path("/"),
) -> Host:
    """Detect the host from its environment, unless ``override`` is the id of the platform. Use no network.

    ``variable`` is the setting that holds ``override``. Raises ``ConfigError`` if no platform has that id.
    """
    platform = _by_id(override, variable) if override else _recognise(environ, root)
    names = tuple(environ[name] for name in platform.instance if environ.get(name))
    return Host(
        platform,
        names or (_fallback_name(platform, root),),
        doubt=None if override else _doubt(platform, environ, variable),
        building=_is_building(platform, environ),
        stated=override is not None,
        machine=_machine_hash(root),
    )


def _by_id(override: str, variable: str = "UPLOADS_PLATFORM") -> Platform:
    wanted = override.strip().lower()
    for platform in PLATFORMS:
        if platform.id == wanted:
            return platform
    known = ", ".join(platform.id for platform in PLATFORMS)
    message = f"{variable} is {quoted(override)}. There is no such platform."
    raise ConfigError(Problem(message, f"Set it to one of {known}.", variable))


def _recognise(environ: Mapping[str, str], root: Path) -> Platform:
    for platform in PLATFORMS:
        if any(environ.get(name) for name in platform.known_by):
            return platform
    in_a_container = any((root / name).exists() for name in _CONTAINER_FILES)
    return _by_id("docker" if in_a_container else "machine")


def _doubt(platform: Platform, environ: Mapping[str, str], variable: str) -> Problem | None:
    if not platform.confirmed_by or any(environ.get(name) for name in platform.confirmed_by):
        return None
    known = next(name for name in platform.known_by if environ.get(name))
    message = f"{known} suggests {platform.name}, but {' and '.join(platform.confirmed_by)} is not set."
    remedy = f"If the app does not run on {platform.name}, remove {known}, or set {variable}=machine."
    return Problem(message, remedy, variable)


def _is_building(platform: Platform, environ: Mapping[str, str]) -> bool:
    if platform.releasing is not None and environ.get(platform.releasing):
        return True
    confirmed = any(environ.get(name) for name in platform.confirmed_by)
    return platform.running is not None and confirmed and not environ.get(platform.running)


def _fallback_name(platform: Platform, root: Path) -> str:
    """Return the host name, which each container gets anew, or the boot id, which a machine gets at each boot."""
    boot = "" if platform.wiped else _read(root / _BOOT)
    return boot or socket.gethostname()


def _machine_hash(root: Path) -> str:
    """Return a hash of the machine id: machine-id(5) says that the id itself must not be exposed."""
    identity = _read(root / "etc/machine-id") or socket.gethostname()
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
