"""The report of ``flask uploads doctor``: a headline, the settings that are set, and every finding."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ... import parsers
from ...config import Settings
from ...parsers import Secret
from ..checks import FAILURE, WARNING, Check, Finding
from . import identity
from .case import Case

_SHOWN = 4  # characters of a secret
_WRONG = "(not valid)"  # in place of a wrong value

# A setting with such a name is masked even if its parser does not say that it is a secret: backends of other packages
# declare their settings by the arguments of a constructor.
_SECRET_NAME = re.compile("key|secret|token|passw|credential|connection_string")

Result = tuple[Check[None], Finding]


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """A variable that is set, where it was found, and its value with secrets masked."""

    variable: str
    origin: str
    value: str


@dataclass(frozen=True, slots=True)
class Report:
    """What doctor found.

    :attr:`headline`  whether uploads work and survive, in one or two sentences
    :attr:`survives`  whether stored files survive; ``None`` if that is unknown, or if uploads do not work
    :attr:`findings`  the name of each check and its finding
    """

    headline: str
    survives: bool | None
    settings: tuple[ShownSetting, ...]
    findings: tuple[tuple[str, Finding], ...]

    @property
    def failed(self) -> bool:
        return self.count(FAILURE) > 0

    def count(self, status: str) -> int:
        """Return how many findings have this status."""
        return sum(finding.status == status for _, finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the report for ``json.dumps``."""
        return {
            "headline": self.headline,
            "survives": self.survives,
            "failures": self.count(FAILURE),
            "warnings": self.count(WARNING),
            "settings": [asdict(setting) for setting in self.settings],
            "checks": [{"name": name, **finding.as_json()} for name, finding in self.findings],
        }


def summarize(case: Case, findings: Sequence[Result], *, offline: bool) -> Report:
    """Return the report on all findings. ``offline`` is whether the store was not tried."""
    headline, survives = _outcome(case, findings, offline=offline)
    name = case.settings.uploads
    if name != case.requested:
        other = f"The Uploads {name!r} keeps the app from starting, so {case.requested!r} was not examined."
        headline = f"{other} {headline}"
    named = tuple((check.name, finding) for check, finding in findings)
    return Report(headline, survives, tuple(_settings(case)), named)


def _outcome(case: Case, findings: Sequence[Result], *, offline: bool) -> tuple[str, bool | None]:
    """Return the headline, and whether stored files survive. They are decided together, so that they always agree."""
    failed = [(check, finding.problem.message) for check, finding in findings if finding.status == FAILURE]
    if lost := [message for check, message in failed if check.preserves]:
        return f"UPLOADS WILL BE LOST. {lost[0]}", False
    if broken := [message for check, message in failed if check.essential]:
        return f"UPLOADS DO NOT WORK. {broken[0]}", None
    if case.verdict is None:
        return "UPLOADS DO NOT WORK. The app does not start.", None
    if other_store := [message for check, message in failed if check.name == identity.NAME]:
        return other_store[0], None
    survives, reason = case.verdict.survives, case.verdict.reason.message
    if survives is None:
        return f"It is unknown whether uploads survive. {reason}", None
    if offline and case.folder is None:
        return f"According to the settings, uploads survive. {reason}", survives
    return f"Uploads survive. {reason}", survives


def _settings(case: Case) -> Iterator[ShownSetting]:
    wrong = {problem.setting for problem in case.problems}
    for name, variable in case.settings.sources.items():
        shown = _WRONG if variable in wrong else _masked(case.settings, name)
        yield ShownSetting(variable, case.settings.origins[name], shown)


def _masked(settings: Settings, name: str) -> str:
    """Return the value of a setting. Of a secret, at most the last four characters are shown."""
    value = settings[name]
    if isinstance(value, Secret) or _SECRET_NAME.search(name):
        text = value.reveal() if isinstance(value, Secret) else str(value)
        return f"…{text[-_SHOWN:]}" if len(text) > 3 * _SHOWN else "…"
    (parse,) = {setting.parse for setting in settings.declared if setting.name == name}
    if "://" in str(value) and "@" in str(value) and parse is not parsers.web_address:  # a password may be in it
        return "…"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
