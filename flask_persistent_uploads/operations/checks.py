"""Checks that depend on each other, and what they find. ``flask uploads doctor`` consists of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..errors import BackendError, Problem

OK, WARNING, FAILURE, SKIPPED = "ok", "warning", "failure", "skipped"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    :attr:`status`   ``OK``, ``WARNING``, ``FAILURE`` or ``SKIPPED``
    :attr:`problem`  what was found, with its remedy, even if nothing is wrong
    :attr:`details`  further problems that belong to it
    """

    status: str
    problem: Problem
    details: tuple[Problem, ...] = ()

    @property
    def remedy(self) -> str:
        """Return the lines of the remedy and of all details; empty if there is nothing to do."""
        return "\n".join([*self.problem.remedy.splitlines(), *map(str, self.details)])

    def as_json(self) -> dict[str, Any]:
        """Return the result for ``json.dumps``. ``details`` holds the parts of each further problem, unchanged."""
        return {
            "verdict": self.status,
            "seen": self.problem.message,
            "remedy": self.remedy or None,
            "setting": self.problem.setting,
            "details": [problem.as_json() for problem in self.details],
        }


def ok(message: str, remedy: str = "", *, setting: str | None = None) -> Finding:
    return Finding(OK, Problem(message, remedy, setting))


def warning(message: str, remedy: str, *, setting: str | None = None) -> Finding:
    return Finding(WARNING, Problem(message, remedy, setting))


def failure(message: str, remedy: str, *, setting: str | None = None) -> Finding:
    return Finding(FAILURE, Problem(message, remedy, setting))


def skipped(message: str, remedy: str = "") -> Finding:
    return Finding(SKIPPED, Problem(message, remedy))


def problem_of(error: Exception) -> Problem:
    """Return the problem of any error: of a disk, a service, or a backend of another package.

    Of an error that is not a ``BackendError``, it names only the type, because the text may hold a secret or a path.
    """
    if isinstance(error, BackendError):
        return error.problem
    return Problem(
        f"An unexpected error occurred ({type(error).__name__}).",
        "Check that the disk or the service works. If it does, report the error to the author of the backend.",
    )


@dataclass(frozen=True, slots=True)
class Check(Generic[T]):
    """One thing to examine about a subject.

    :attr:`name`       its name in the report
    :attr:`run`        the function that examines the subject; ``None`` means that the check does not apply
    :attr:`needs`      the names of checks that must not fail, because this one would only repeat their failure
    :attr:`essential`  whether a failure means that uploads do not work: no file can be stored, or none can be seen
    :attr:`preserves`  whether a failure means that stored files will be lost
    """

    name: str
    run: Callable[[T], Finding | None]
    needs: tuple[str, ...] = ()
    essential: bool = False
    preserves: bool = False

    def bind(self, subject: T) -> Check[None]:
        """Return the same check with its subject, to run beside checks of other subjects."""
        run = self.run
        return Check(self.name, lambda _: run(subject), self.needs, self.essential, self.preserves)


def run_checks(checks: Iterable[Check[T]], subject: T) -> list[tuple[Check[T], Finding]]:
    """Run each check after those that it needs, and return the findings in that order.

    A check is left out if it does not apply, or if one that it needs failed or was itself left out for that reason. A
    check that raises an error has failed.
    """
    found: list[tuple[Check[T], Finding]] = []
    unusable: set[str] = set()
    for check in _in_order(checks):
        if unusable.isdisjoint(check.needs):
            finding = _run(check, subject)
            if finding is not None:
                found.append((check, finding))
            if finding is None or finding.status != FAILURE:
                continue
        unusable.add(check.name)
    return found


def _run(check: Check[T], subject: T) -> Finding | None:
    try:
        return check.run(subject)
    except Exception as error:  # noqa: BLE001 - a broken disk or another package's backend may raise anything
        return Finding(FAILURE, problem_of(error))


def _in_order(checks: Iterable[Check[T]]) -> Iterator[Check[T]]:
    """Yield each check after those that it needs, otherwise in the given order."""
    waiting = {check.name: check for check in checks}
    while waiting:
        ready = next(check for check in waiting.values() if waiting.keys().isdisjoint(check.needs))
        yield waiting.pop(ready.name)
