"""Find out whether all instances of a running app use the same store, by requesting its health check many times."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from ..text import parse_json, plural
from . import web

#: How many requests to send by default.
TIMES = 20
_UNTIL_NEXT_CHECK = 11.0  # seconds: instances check a disk every 10 seconds


@dataclass(frozen=True, slots=True)
class Instance:
    """What one instance reports about its store.

    :attr:`store`      the id of its store; ``None`` until the instance has reached its store
    :attr:`sees`       the instances whose records it found in the store: itself and, if the store is shared, others
    :attr:`on_a_disk`  whether the store is a folder on a disk, not a service
    :attr:`answers`    how many of the requests it answered
    """

    id: str
    store: str | None
    since: str | None
    backend: str
    survives: bool | None
    alarm: str | None
    problem: str | None
    sees: tuple[str, ...] = ()
    on_a_disk: bool = False
    answers: int = 1


@dataclass(frozen=True, slots=True)
class Survey:
    """The answers of a running app.

    :attr:`instances`  the latest answer of each instance; two answers if it was seen with two stores
    :attr:`failures`   how many requests failed, for each reason, the most frequent first
    """

    instances: tuple[Instance, ...]
    failures: Mapping[str, int]

    @property
    def stores(self) -> list[list[Instance]]:
        """Return the instances grouped by store.

        Instances share a store if they report the same marker and see each other's records in it. The marker alone is
        not enough, because a copy of a disk contains it too.
        """
        groups: list[list[Instance]] = []
        for one in self.instances:
            if one.store is not None:
                same = [group for group in groups if any(_share_a_store(one, other) for other in group)]
                merged = [one, *itertools.chain.from_iterable(same)]
                groups = [group for group in groups if group not in same] + [merged]
        return groups

    @property
    def instance_count(self) -> int:
        return max(len({one.id for one in self.instances}), len(self.stores))

    @property
    def healthy(self) -> bool:
        """Return whether every request was answered by a working instance, and all use one store that persists."""
        return len(self.stores) == 1 and not self.failures and not self._complaints()

    @property
    def headline(self) -> str:
        """Return the result in one or more full sentences."""
        stores, who = len(self.stores), plural(self.instance_count, "instance")
        if not self.instances:
            return "No instance reported its health."
        if stores > 1:
            return (
                f"{who} use {stores} different stores. "
                f"Files saved by one instance are missing on the others, and some requests answer 404."
            )
        if stores == 0 or self._without_store():
            result = f"{who} answered."
        elif self.instance_count == 1:
            result = "1 instance answered and uses 1 store."
        else:
            result = f"{who} share 1 store."
        failed = ["Some requests failed."] if self.failures else []
        return " ".join([result, *self._complaints(), *failed])

    @property
    def remedy(self) -> str | None:
        """Return what to do if no instance reported its health, or if the instances use different stores."""
        if not self.instances:
            return "Check that this is the address of the app, and that the app uses this extension."
        if len(self.stores) < 2:
            return None
        return "Use one bucket or service for all instances (flask uploads setup s3), or run only one instance."

    def as_json(self) -> dict[str, Any]:
        """Return all results as values for ``json.dumps``."""
        return {
            "headline": self.headline,
            "healthy": self.healthy,
            "remedy": self.remedy,
            "stores": len(self.stores),
            "instances": [asdict(one) for one in self.instances],
            "failures": dict(self.failures),
        }

    def _complaints(self) -> list[str]:
        lost = "The files in this store are lost at the next deploy. Run flask uploads doctor on the host to see why."
        said = [one.problem or one.alarm or (lost if one.survives is False else None) for one in self.instances]
        said += [f"Instance {one} has not reached its store yet." for one in self._without_store()]
        return sorted({text for text in said if text})

    def _without_store(self) -> set[str]:
        return {one.id for one in self.instances} - {one.id for one in self.instances if one.store is not None}


def survey(url: str, *, times: int = TIMES) -> Survey:
    """Request a health check ``times`` times, each time on a new connection, so that a load balancer spreads them.

    If it is unclear whether the instances share a disk or have copies of it, wait for their next check and repeat the
    requests.
    """
    answers, failures = _request(url, times)
    first = _summary(answers, failures)
    if len(first.stores) == len({one.store for group in first.stores for one in group}):
        return first
    time.sleep(_UNTIL_NEXT_CHECK)
    more_answers, more_failures = _request(url, times)
    return _summary(answers + more_answers, failures + more_failures)


def _request(url: str, times: int) -> tuple[list[Instance], list[str]]:
    """Return what the instances report, and why each of the other requests failed."""
    answers, failures = [], []
    for _ in range(times):
        try:
            response = web.request(
                url, headers={"Accept": "application/json", "Cache-Control": "no-cache"}, follow=True
            )
            answers.append(_parse(parse_json(response.body)))
        except web.Unreachable as error:
            failures.append(str(error))
        except (ValueError, KeyError, TypeError):
            failures.append(f"the response, with status {response.status}, is not a health report")
    return answers, failures


def _summary(answers: Iterable[Instance], failures: Iterable[str]) -> Survey:
    latest: dict[tuple[str, str | None], Instance] = {}
    for one in answers:
        if earlier := latest.get((one.id, one.store)):
            # The earlier answer may come from another worker of the instance, which checked the store later.
            sees = tuple(sorted({*one.sees, *earlier.sees}))
            one = replace(one, sees=sees, answers=earlier.answers + 1)
        latest[one.id, one.store] = one
    return Survey(tuple(latest.values()), MappingProxyType(dict(Counter(failures).most_common())))


def _share_a_store(one: Instance, other: Instance) -> bool:
    if one.store != other.store or one.id == other.id:
        return one.store == other.store
    seen = (one.id in other.sees, other.id in one.sees)
    # A copy of a disk holds the records from before it was copied, so both must see each other. A service is checked
    # seldom, so one of them may not have seen the other yet.
    return all(seen) if one.on_a_disk and other.on_a_disk else any(seen)


def _parse(answer: Any) -> Instance:
    """Read a health report. Raises ``ValueError``, ``KeyError`` or ``TypeError`` if this is not one."""
    texts = [answer[name] for name in ("instance", "store", "since", "backend", "alarm", "problem")]
    identity, sees = texts[0], answer["instances"]
    plain = all(text is None or (isinstance(text, str) and text.isprintable()) for text in texts)
    if not plain or not isinstance(identity, str) or answer["survives"] not in {True, False, None}:
        raise ValueError("not a health report")
    return Instance(
        id=identity,
        store=answer["store"],
        since=answer["since"],
        backend=str(answer["backend"]),
        survives=answer["survives"],
        alarm=answer["alarm"],
        problem=answer["problem"],
        sees=tuple(sorted(map(str, sees))),
        on_a_disk=answer["free_bytes"] is not None,
    )
