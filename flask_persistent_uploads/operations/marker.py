"""The identity of a store: a small file in it that says who it is, since when, and who has used it.

A marker that another deploy left is proof that the store outlived it. A store that lost its files lost its marker with
them, so that the witness is kept elsewhere: ``UPLOADS_STORE_ID``, in the environment, where every host keeps it.
"""

from __future__ import annotations

import io
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, NamedTuple

from .. import keys
from ..backends.base import Backend
from ..errors import BackendRefused, BackendUnavailable, FileExists, FileMissing
from .platform import Host

KEY = keys.own("store.json")

_KEPT = 200  # instances whose record is kept
_LARGEST = 1 << 20  # bytes
_ATTEMPTS = 3


class Seen(NamedTuple):
    """The record of one instance and deploy: on which :attr:`Host.kind`, and when it used the store first."""

    platform: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Marker:
    """Which store this is. ``instances`` are the records of the latest 200, by :attr:`Host.id`, in their order."""

    id: str
    since: datetime
    instances: Mapping[str, Seen] = field(default_factory=dict)

    def survived(self, host: Host) -> int:
        """How many other instances or deploys of this platform have used the store: restarts, on a disk of one.

        Records of other platforms prove nothing here: a marker may come with the image that was built elsewhere.
        """
        here = {name for name, seen in self.instances.items() if seen.platform == host.kind}
        return len(here - {host.id})

    def with_record(self, host: Host) -> Marker:
        older = [(name, seen) for name, seen in self.instances.items() if name != host.id]
        return replace(self, instances=dict([*older[1 - _KEPT :], (host.id, Seen(host.kind, _now()))]))


def read(backend: Backend) -> Marker | None:
    """The marker of the store; ``None`` if it has none. Raises ``BackendError``."""
    # Asked for first, because a CDN would keep its "not found" of a file that is about to be made.
    if backend.stat(KEY) is None:
        return None
    try:
        with backend.open(KEY) as stream:
            return _parse(stream.read(_LARGEST))
    except FileMissing:
        return None
    except ValueError as error:
        raise BackendRefused(
            f"The marker of the store, {KEY}, cannot be read: delete it, and the next start makes a new one.", key=KEY
        ) from error


def establish(backend: Backend) -> Marker:
    """The marker of the store, made if it has none. Raises ``BackendError``."""
    found = read(backend)
    if found is not None:
        return found
    born = _born()
    try:
        _write(backend, born, overwrite=False)
    except FileExists:  # another instance was faster
        found = read(backend)
        if found is None:  # a search that lags must not make the store forget who it is
            raise BackendUnavailable(
                "The marker of the store is not found yet: the next look tries again.", key=KEY
            ) from None
        return found
    return born


def sign_in(backend: Backend, host: Host) -> Marker:
    """The marker, made if the store has none, with the record of this instance. Raises ``BackendError``.

    Two that sign at the same time may lose one record between them, so that it is read again, and by every look.
    """
    found = establish(backend)
    for _ in range(_ATTEMPTS):
        if host.id in found.instances:
            break
        signed = found.with_record(host)
        _write(backend, signed, overwrite=True)
        found = read(backend) or signed
    return found


def born_at(store_id: str) -> datetime | None:
    """When the store of this id was made, as the id itself says; ``None`` for an id that is not one of ours."""
    found = re.fullmatch(r"(\d{8}T\d{6})Z-[0-9a-f]{8}", store_id)
    if found is None:
        return None
    try:
        return datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def alarm(expected: str | None, marker: Marker | None, instance: str, *, variables: str = "UPLOADS_") -> str | None:
    """What is wrong if this is not the store that ``UPLOADS_STORE_ID`` names; ``None`` if it is, or none is named.

    ``instance`` is how the instance calls itself. What stands behind the last colon is the remedy.
    """
    if expected is None or (marker is not None and marker.id == expected):
        return None
    found = f"this one, {marker.id}, was born {ago(marker.since)} ago" if marker else "there is no marker here"
    birth = born_at(expected)
    age = f" (born {ago(birth)} ago)" if birth else ""
    meant = f"; only if the change is meant, set {variables}STORE_ID={marker.id}" if marker else ""
    return (
        f"ANOTHER STORE. The store {expected} that this app was set up with{age} is not here; {found}. "
        f"Instance {instance} does not see the files of that store: "
        f"mount its disk, or name its bucket, or restore its files if they are lost{meant}"
    )


def ago(moment: datetime) -> str:
    """How long ago, in the largest unit that fits: ``40 s``, ``5 min``, ``3 h``, ``14 days``."""
    seconds = max(0, int((_now() - moment).total_seconds()))
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _born() -> Marker:
    now = _now().replace(microsecond=0)
    return Marker(f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}", now)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _write(backend: Backend, marker: Marker, *, overwrite: bool) -> None:
    content = {
        "id": marker.id,
        "since": marker.since.isoformat(),
        "instances": {name: [seen.platform, seen.since.isoformat()] for name, seen in marker.instances.items()},
    }
    data = json.dumps(content, indent=1).encode()
    backend.save(
        KEY,
        io.BytesIO(data),
        content_type="application/json",
        size=len(data),
        filename="store.json",
        overwrite=overwrite,
    )


def _parse(data: bytes) -> Marker:
    """Raises ``ValueError`` for what is no marker."""
    try:
        content: Any = json.loads(data)
        records = {str(name): Seen(str(where), _moment(since)) for name, (where, since) in content["instances"].items()}
        return Marker(str(content["id"]), _moment(content["since"]), records)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("not a marker") from error


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment
