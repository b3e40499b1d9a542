"""Whether all instances of a running app use one store: what its health address answers when asked again and again."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NamedTuple

from . import web

TIMES = 20


class Instance(NamedTuple):
    """One instance behind an address; ``store`` is ``None`` while it has not seen its store yet."""

    id: str
    store: str | None
    since: str | None
    backend: str
    problem: str | None


class Survey(NamedTuple):
    """``answers`` counts what each instance gave; ``failures`` count what was no health answer, by its kind."""

    answers: Counter[Instance]
    failures: Counter[str]

    @property
    def stores(self) -> set[str]:
        return {instance.store for instance in self.answers if instance.store is not None}

    @property
    def content(self) -> bool:
        """All answers came from instances that work, on one store."""
        return len(self.stores) == 1 and not self.failures and not any(one.problem for one in self.answers)

    def as_json(self) -> dict[str, Any]:
        return {
            "headline": self.headline(),
            "stores": len(self.stores),
            "instances": [{**one._asdict(), "answers": times} for one, times in self.answers.most_common()],
            "failures": dict(self.failures),
        }

    def headline(self) -> str:
        instances, stores = len(self.answers), len(self.stores)
        if not self.answers:
            return "No health answer came: is the extension installed there, and is this the address of the app?"
        if stores > 1:
            return (
                f"{instances} instances, {stores} different stores: "
                f"files saved by one are missing on the other, and some requests are 404."
            )
        if any(one.problem for one in self.answers):
            return "UPLOADS DO NOT WORK on an instance."
        if self.failures:
            return "Some requests were not answered."
        if not stores:
            return "No instance has seen its store yet: ask again."
        if instances == 1:
            return "1 instance answered, with 1 store."
        return f"{instances} instances, 1 store: they share their files."


def survey(url: str, *, times: int = TIMES) -> Survey:
    """Ask ``url`` (of a health address) ``times`` times, each on a new connection, as a balancer would spread them."""
    answers: Counter[Instance] = Counter()
    failures: Counter[str] = Counter()
    for _ in range(times):
        try:
            answer = web.ask(url, headers={"Accept": "application/json", "Cache-Control": "no-cache"}, follow=True)
            answers[_instance(json.loads(answer.body))] += 1
        except web.Unreachable as error:
            failures[str(error)] += 1
        except (ValueError, KeyError, TypeError):
            failures[f"status {answer.status}, and no health answer"] += 1
    return Survey(answers, failures)


def _instance(answer: Any) -> Instance:
    names = ("instance", "store", "since", "backend", "problem")
    values = [answer[name] for name in names]
    if not isinstance(values[0], str) or not all(value is None or isinstance(value, str) for value in values):
        raise ValueError("not a health answer")
    return Instance(*values)
