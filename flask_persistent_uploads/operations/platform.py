"""Which host this is, which of its instances, and what is known of such hosts: one table, with its date."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..config import quoted
from ..errors import ConfigError

#: When the vendors' pages behind :data:`PLATFORMS` were read.
READ = "2026-11"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What is known of one kind of host. ``None`` is not known, or no limit; fields in ``unverified`` are hearsay.

    :attr:`known_by`       variables, any of which tells that we are there
    :attr:`confirmed_by`   variables that are there as well, unless somebody sets the others by hand
    :attr:`running`        a variable that is there only while the app runs, not while it is built or released
    :attr:`releasing`      a variable that is there only while a release is prepared
    :attr:`instance`       variables that name an instance, or a deploy, of which one disk may see many
    :attr:`wiped`          whether what lies on the root file system is gone with the next deploy or restart
    :attr:`volumes`        whether a file system that is mounted apart stays; else only one over the network does
    :attr:`volume`         how to get a disk that stays, in words
    :attr:`volume_path`    a variable that holds where such a disk is mounted; :attr:`volume_at` where it always is
    :attr:`shared`         whether all instances see the same disk; ``False``: each has its own
    :attr:`max_body`       bytes that a request may have
    :attr:`max_seconds`    until a request must be answered
    :attr:`idle_seconds`   without requests, after which an instance may be put to sleep
    :attr:`stop_signal`    sent before the end, which comes ``stop_seconds`` later
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

#: The specific before the general: many of these run on Kubernetes or Docker.
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
        known_by=("DYNO",),  # "web.1" after every restart again: the host name is what is new
        max_seconds=30,  # to the first byte of the answer, from when the whole body has arrived
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
        max_seconds=300,  # for the body to arrive
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
        volume_at="/home",  # in containers of one's own with WEBSITES_ENABLE_APP_SERVICE_STORAGE=true
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
        max_body=6 * _MB,  # base64 counts
        max_seconds=29,  # of the API Gateway before it
        unverified=frozenset({"shared", "max_body"}),
    ),
    # These two set no variable by which they are known: UPLOADS_PLATFORM says it.
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
    """The host that this process runs on: what kind, and which instance and deploy of it.

    ``names`` are the instance's own, for the log. ``doubt`` says why the environment may be wrong about the platform.
    ``building``: the app is being built or released, which happens where no disk is mounted. ``stated``: somebody set
    the platform by hand. ``machine`` stays the same over the restarts of a machine of one's own.
    """

    platform: Platform
    names: tuple[str, ...]
    doubt: str | None = None
    building: bool = False
    stated: bool = False
    machine: str = ""

    def __str__(self) -> str:
        """The instance, for the log."""
        return f"{' '.join(self.names)} ({self.id})"

    @property
    def kind(self) -> str:
        """What a marker's records tell apart: the platform, or a single machine, which an image is not copied to."""
        return self.platform.id if self.platform.wiped else f"{self.platform.id} {self.machine}"

    @property
    def id(self) -> str:
        """One for every process of an instance and deploy, as far as the platform tells them apart: 12 hex digits."""
        return hashlib.sha256("\0".join([self.platform.id, *self.names]).encode()).hexdigest()[:12]


def detect(
    environ: Mapping[str, str], override: str | None = None, *, variables: str = "UPLOADS_", root: Path = Path("/")
) -> Host:
    """The host, as its environment tells, or as ``override`` (``UPLOADS_PLATFORM``) does; no network is asked.

    Raises ``ConfigError`` for an ``override`` that is none of the ids in :data:`PLATFORMS`.
    """
    platform = _named(override, variables) if override else _recognised(environ, root)
    doubt = None
    if platform.confirmed_by and not override and not any(environ.get(name) for name in platform.confirmed_by):
        known = next(name for name in platform.known_by if environ.get(name))
        doubt = f"{known} claims {platform.name}, but {' and '.join(platform.confirmed_by)} is not set"
    names = tuple(environ[name] for name in platform.instance if environ.get(name))
    return Host(
        platform,
        names or (_own_name(platform, root),),
        doubt=doubt,
        building=_builds(platform, environ),
        stated=override is not None,
        machine=_machine(root),
    )


def _named(override: str, variables: str = "UPLOADS_") -> Platform:
    wanted = override.strip().lower()
    for platform in PLATFORMS:
        if platform.id == wanted:
            return platform
    known = ", ".join(platform.id for platform in PLATFORMS)
    raise ConfigError(f"{variables}PLATFORM is {quoted(override)}, which is not known: set it to one of {known}.")


def _recognised(environ: Mapping[str, str], root: Path) -> Platform:
    for platform in PLATFORMS:
        if any(environ.get(name) for name in platform.known_by):
            return platform
    in_a_container = any((root / name).exists() for name in _CONTAINER_FILES)
    return _named("docker" if in_a_container else "machine")


def _builds(platform: Platform, environ: Mapping[str, str]) -> bool:
    if platform.releasing is not None and environ.get(platform.releasing):
        return True
    confirmed = any(environ.get(name) for name in platform.confirmed_by)
    return platform.running is not None and confirmed and not environ.get(platform.running)


def _own_name(platform: Platform, root: Path) -> str:
    """Where the platform gives no name: a container's host name is its own; a machine is another after a reboot."""
    boot = "" if platform.wiped else _read(root / _BOOT)
    return boot or socket.gethostname()


def _machine(root: Path) -> str:
    """As machine-id(5) says: unique, and not to be shown."""
    identity = _read(root / "etc/machine-id") or socket.gethostname()
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
