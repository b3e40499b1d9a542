"""``flask uploads doctor``: whether uploads work and will survive, check by check, and what to do."""

from __future__ import annotations

import dataclasses
import re
from functools import partial
from typing import Any, NamedTuple

from ...config import Secret, Settings
from .case import FAILURE, WARNING, Case, Check, Finding, unbroken
from .offline import CHECKS, OF_A_FOLDER, folder, store
from .online import Trial

_SHOWN = 4  # signs of a secret
_SECRETIVE = ("_api_key", "_access_key_id", "_public_key")

#: Without these no file can be stored or seen.
_NEEDED = {"configuration", "sdk", "folder", "service", "clock_skew", "region", "save", "stat", "read", "link", "space"}


class Setting(NamedTuple):
    """One that was set: the ``variable`` that it came from, where that was found, its value with secrets masked."""

    variable: str
    origin: str
    value: str


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """``headline`` says whether uploads will survive. ``findings`` are named, in the order of the checks."""

    headline: str
    survives: bool | None
    settings: tuple[Setting, ...]
    findings: tuple[tuple[str, Finding], ...]

    @property
    def failed(self) -> bool:
        return self.count(FAILURE) > 0

    def count(self, verdict: str) -> int:
        return sum(finding.verdict == verdict for _, finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        return {
            "headline": self.headline,
            "survives": self.survives,
            "failures": self.count(FAILURE),
            "warnings": self.count(WARNING),
            "settings": [setting._asdict() for setting in self.settings],
            "checks": [{"name": name, **finding._asdict()} for name, finding in self.findings],
        }


def examine(case: Case, *, offline: bool = False) -> Report:
    """Every check that applies. Online, a small file is saved in the store and deleted again."""
    findings: list[tuple[str, Finding]] = []
    for check in CHECKS:
        if check in OF_A_FOLDER and _failed(findings, folder):
            continue
        finding = unbroken(partial(check, case))
        if finding is not None:
            findings.append((check.__name__, finding))
    if case.backend is not None and not case.problems and not _failed(findings, folder):
        if case.folder is not None and (finding := unbroken(partial(store, case))) is not None:
            findings.append((store.__name__, finding))
        if not offline:
            findings += Trial(case, case.backend).run()
    survives = case.verdict.survives if case.verdict else None
    named = tuple((name.replace("_", " "), finding) for name, finding in findings)
    headline = _headline(case, findings)
    if case.instead_of is not None:
        headline = f"Of {case.name!r}, not {case.instead_of!r}, as it keeps the app from starting: {headline}"
    if offline and survives and case.folder is None and headline.startswith("Uploads survive"):
        headline = f"By the settings alone, uploads survive{headline.removeprefix('Uploads survive')}"
    return Report(headline, survives, tuple(_settings(case)), named)


def _failed(findings: list[tuple[str, Finding]], check: Check) -> bool:
    return any(name == check.__name__ and finding.verdict == FAILURE for name, finding in findings)


def _headline(case: Case, findings: list[tuple[str, Finding]]) -> str:
    verdict, failed = case.verdict, {name: finding for name, finding in findings if finding.verdict == FAILURE}
    broken = next((finding for name, finding in failed.items() if name in _NEEDED), None)
    if verdict is None or (broken and verdict.survives is not False):
        return f"UPLOADS DO NOT WORK. {broken.seen if broken else 'The app does not start'}."
    if verdict.survives is False:
        return f"UPLOADS WILL BE LOST. {verdict.reason}."
    if "lifecycle" in failed:
        return f"UPLOADS WILL BE LOST. {failed['lifecycle'].seen}."
    if "store" in failed:
        return f"{failed['store'].seen}."
    if verdict.survives is None:
        return f"Nobody can tell whether uploads survive. {verdict.reason}."
    return f"Uploads survive: {verdict.reason}."


def _settings(case: Case) -> list[Setting]:
    settings = case.settings
    return [
        Setting(source, settings.origins[field], _shown(settings, field, source, case.problems))
        for field, source in settings.sources.items()
    ]


def _shown(settings: Settings, field: str, source: str, problems: tuple[str, ...]) -> str:
    if any(re.match(rf"{re.escape(source)} is (?!set\b)", problem) for problem in problems):
        return "(not right)"
    value = getattr(settings, field)
    if "@" in str(value) and "://" in str(value):  # an address with a password in it
        return "…"
    if isinstance(value, Secret) or field.endswith(_SECRETIVE):
        text = value.reveal() if isinstance(value, Secret) else str(value)
        return f"…{text[-_SHOWN:]}" if len(text) > 3 * _SHOWN else "…"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
