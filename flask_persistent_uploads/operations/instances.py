"""Whether all instances of a running app use one store: what its health address answers when asked again and again."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from typing import Any, NamedTuple

from . import web
from .verdict import counted

TIMES = 20
_UNTIL_NEXT_LOOK = 11.0  # seconds: a disk is looked at every 10


class Instance(NamedTuple):
    """What one process behind an address knows; ``store`` is ``None`` while it has not seen its store.

    ``sees`` are the instances whose records it found in the store: its own and, where they share it, the others'.
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


class Survey(NamedTuple):
    """``said`` is what each instance said last of each store, ``times`` how often; ``failures`` were no answers."""

    said: dict[tuple[str, str | None], Instance]
    times: Counter[tuple[str, str | None]]
    failures: Counter[str]

    @property
    def stores(self) -> list[list[Instance]]:
        """Those who share a store: the same marker, and the others' records in it.

        The marker alone does not tell, as a copy of a disk has it too.
        """
        groups: list[list[Instance]] = []
        for one in self.said.values():
            if one.store is not None:
                same = [group for group in groups if any(_share(one, other) for other in group)]
                merged = [one, *itertools.chain.from_iterable(same)]
                groups = [group for group in groups if group not in same] + [merged]
        return groups

    @property
    def instances(self) -> int:
        return max(len({one.id for one in self.said.values()}), len(self.stores))

    @property
    def content(self) -> bool:
        """All answers came from instances that work, on one store that lasts."""
        return len(self.stores) == 1 and not self.failures and not self._complaints()

    @property
    def remedy(self) -> str | None:
        if len(self.stores) < 2:
            return None
        return "keep files in one place for all: a bucket or a service (flask uploads setup s3), or run one instance"

    def headline(self) -> str:
        stores, who = len(self.stores), counted(self.instances, "instance")
        if not self.said:
            return "No health answer came: is the extension installed there, and is this the address of the app?"
        if stores > 1:
            return (
                f"{who}, {stores} different stores: "
                f"files saved by one are missing on the other, and some requests are 404."
            )
        if complaints := self._complaints():
            return " ".join([f"{who}, {counted(stores, 'store')}.", *complaints])
        if self.failures:
            return f"{who}, 1 store, but some requests had no answer."
        if self.instances == 1:
            return "1 instance answered, with 1 store."
        return f"{who}, 1 store: they share their files."

    def _complaints(self) -> list[str]:
        wiped = "What this store keeps is lost at the next deploy: flask uploads doctor says why, in the app's shell."
        said = [one.problem or one.alarm or (wiped if one.survives is False else None) for one in self.said.values()]
        unseen = {one.id for one in self.said.values()} - {one.id for group in self.stores for one in group}
        said += [f"Instance {one} has not seen its store." for one in unseen]
        complaints = sorted({text for text in said if text})
        return [*complaints, "Some requests had no answer."] if complaints and self.failures else complaints

    def as_json(self) -> dict[str, Any]:
        return {
            "headline": self.headline(),
            "content": self.content,
            "remedy": self.remedy,
            "stores": len(self.stores),
            "instances": [{**one._asdict(), "answers": self.times[key]} for key, one in self.said.items()],
            "failures": dict(self.failures),
        }


def survey(url: str, *, times: int = TIMES) -> Survey:
    """Ask ``url`` (of a health address) ``times`` times, each on a new connection, as a balancer would spread them.

    Where the first round leaves it open whether a disk is shared or copied, a second one is asked after a while.
    """
    found = Survey({}, Counter(), Counter())
    _ask(url, times, found)
    if len(found.stores) > len({one.store for group in found.stores for one in group}):
        time.sleep(_UNTIL_NEXT_LOOK)
        _ask(url, times, found)
    return found


def _ask(url: str, times: int, found: Survey) -> None:
    for _ in range(times):
        try:
            answer = web.ask(url, headers={"Accept": "application/json", "Cache-Control": "no-cache"}, follow=True)
            one = _instance(json.loads(answer.body))
        except web.Unreachable as error:
            found.failures[str(error)] += 1
        except (ValueError, KeyError, TypeError, RecursionError):
            found.failures[f"status {answer.status}, and no health answer"] += 1
        else:
            earlier = found.said.get((one.id, one.store), one)  # of another worker, whose look may be newer
            found.said[one.id, one.store] = one._replace(sees=tuple(sorted({*one.sees, *earlier.sees})))
            found.times[one.id, one.store] += 1


def _share(one: Instance, other: Instance) -> bool:
    if one.store != other.store or one.id == other.id:
        return one.store == other.store
    seen = (one.id in other.sees, other.id in one.sees)
    # A copy of a disk holds the records of before. A service is looked at seldom: one may not see the other yet.
    return all(seen) if one.on_a_disk and other.on_a_disk else any(seen)


def _instance(answer: Any) -> Instance:
    texts = [answer[name] for name in ("instance", "store", "since", "backend", "alarm", "problem")]
    identity, sees = texts[0], answer["instances"]
    plain = all(text is None or (isinstance(text, str) and text.isprintable()) for text in texts)
    if not plain or not isinstance(identity, str) or answer["survives"] not in {True, False, None}:
        raise ValueError("not a health answer")
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
