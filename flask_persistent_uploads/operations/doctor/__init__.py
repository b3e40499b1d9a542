"""``flask uploads doctor``: check whether uploads work and survive, and say what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TypeVar

from .. import bucket_checks
from ..checks import Check, run_checks
from ..trial import StoreTrial
from . import disk, identity, offline, online
from .case import Case
from .report import Report, summarize

__all__ = ["Case", "Report", "examine"]

T = TypeVar("T")


def examine(case: Case, *, offline_only: bool = False) -> Report:
    """Run every check that applies, and return the report.

    Unless ``offline_only`` is set, save a small file in the store, read it and delete it again. The report tells if the
    file may be left in the store.
    """
    checks = [*_bind(offline.CHECKS, case), *_bind(disk.CHECKS, case)]
    if case.folder is not None:
        checks.append(identity.ON_DISK.bind(case))
    with contextlib.ExitStack() as stack:
        if case.backend is not None and not offline_only:
            trial = stack.enter_context(StoreTrial(case.backend, case.settings, case.host))
            checks += [*_bind(bucket_checks.CHECKS, trial), *_bind(online.CHECKS, trial)]
            if case.folder is None:
                checks.append(identity.IN_SERVICE.bind(trial))
        findings = run_checks(checks, None)
    return summarize(case, findings, offline=offline_only)


def _bind(checks: Iterable[Check[T]], subject: T) -> list[Check[None]]:
    return [check.bind(subject) for check in checks]
