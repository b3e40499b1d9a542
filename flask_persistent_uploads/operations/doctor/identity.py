"""Check that the store is the expected one, by its marker."""

from __future__ import annotations

from ...config import Settings
from ...text import plural
from .. import bucket_checks, marker
from ..checks import FAILURE, Check, Finding, ok, skipped
from ..marker import Marker
from ..platform import Host
from ..trial import StoreTrial
from ..verdict import history
from .case import Case
from .online import explain

NAME = "store"


def of_disk(case: Case) -> Finding | None:
    """Check that the folder is the store that the app was set up with."""
    if case.backend is None or case.host.building:  # while an app is built, its disk is not mounted
        return None
    if case.marker_problem is not None:
        return Finding(FAILURE, case.marker_problem)
    if case.marker is None:
        return _compare(case.settings, case.host, None, "The first request to the app creates it.")
    return _compare(case.settings, case.host, case.marker, f"It has {history(case.marker, case.host)}.")


def of_service(trial: StoreTrial) -> Finding:
    """Check that the bucket or account is the store that the app was set up with."""
    try:
        found = trial.call(lambda: marker.read(trial.backend))
    except Exception as error:  # noqa: BLE001 - another package's backend may raise anything
        if trial.bucket is not None and bucket_checks.is_denied(error):  # another check names the missing permission
            return skipped("The credentials are not allowed to read the marker of the store.")
        return explain(trial, NAME, error)
    if found is None:
        note = "The first upload or the first health check creates it."
    elif found.instances:
        note = f"It has been used by {plural(len(found.instances), 'instance')}."
    else:
        note = "It has not been used yet."
    return _compare(trial.settings, trial.host, found, note)


def _compare(settings: Settings, host: Host, found: Marker | None, note: str) -> Finding:
    """Compare a marker with the expected one. ``note`` is a further sentence about the store."""
    if problem := marker.alarm(settings, found, str(host)):
        return Finding(FAILURE, problem)
    if found is None:
        return ok(f"The store has no marker yet. {note}")
    message = f"The store {found.id} was created {marker.age(found.since)} ago. {note}"
    if settings.store_id is not None:
        return ok(message)
    variable = settings.variable("store_id")
    return ok(message, f"To be alerted if the store is lost, set {variable}={found.id}", setting=variable)


ON_DISK: Check[Case] = Check(NAME, of_disk, needs=("folder",))
IN_SERVICE: Check[StoreTrial] = Check(NAME, of_service, needs=("access",))
