"""Writes values and problems for people, and reads times and JSON from outside."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from .errors import Problem, printable


def format_bytes(number: int) -> str:
    """Return a size in decimal units, with at most four digits: ``1 byte``, ``4.5 MB``, ``16.78 GB``."""
    if number < 1000:
        return plural(number, "byte")
    amount = float(number)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        amount /= 1000
        digits = f"{amount:.4g}"
        if float(digits) < 1000:  # 999,950 bytes are 1 MB, not 1000 kB
            return f"{digits} {unit}"
    return f"{amount:.0f} PB"


def plural(number: int, noun: str) -> str:
    """Return ``1 restart``, ``2 restarts``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_date(moment: datetime) -> str:
    """Return ``3 January 2026``."""
    return f"{moment.day} {moment:%B %Y}"


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 time with its zone. Raises ``ValueError`` for anything else."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 does not read "Z"
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment


def parse_json(text: str | bytes) -> Any:
    """Read JSON from outside. Raises ``ValueError`` if it is not JSON or is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def wrap(text: str, width: int, *, indent: str = "", hanging: str = "") -> list[str]:
    """Break text into lines for a terminal, at spaces only, so that names and URLs can be copied.

    Unprintable characters are escaped: names and responses from outside may hold control sequences.
    """
    return textwrap.wrap(
        printable(text),
        width,
        initial_indent=indent,
        subsequent_indent=indent + hanging,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def problem_lines(problem: Problem, width: int, *, indent: str = "") -> Iterator[str]:
    """Write a problem for a terminal: the message, then each line of the remedy after an arrow."""
    yield from wrap(problem.message, width, indent=indent)
    for line in problem.remedy.split("\n") if problem.remedy else ():
        yield from wrap(f"-> {line}", width, indent=f"{indent}  ", hanging="   ")
