"""How values and problems are written for people, and how times and JSON from outside are read."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_persistent_uploads import Problem
from flask_persistent_uploads.text import (
    format_bytes,
    format_date,
    parse_json,
    parse_time,
    plural,
    problem_lines,
    wrap,
)

# -- sizes, numbers and dates


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1001, "1.001 kB"),
        (999_499, "999.5 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1 MB"),
        (999_999, "1 MB"),
        (10**6, "1 MB"),
        (4_500_000, "4.5 MB"),
        (10**7, "10 MB"),
        (2**24, "16.78 MB"),
        (123_456_789, "123.5 MB"),
        (999_949_999, "999.9 MB"),
        (999_950_000, "1 GB"),
        (10**9, "1 GB"),
        (15 * 10**8, "1.5 GB"),
        (999_950_000_000, "1 TB"),
        (10**12, "1 TB"),
        (10**15, "1 PB"),
        (2**63, "9223 PB"),
    ],
)
def test_a_size_reads_well_at_the_edge_of_every_unit(size: int, text: str) -> None:
    assert format_bytes(size) == text


@given(st.integers(0, 999 * 10**15))
def test_a_size_has_at_most_four_digits_and_never_an_exponent(size: int) -> None:
    found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,3})?) (byte|bytes|kB|MB|GB|TB|PB)", format_bytes(size))
    assert found is not None
    assert len(found[1].replace(".", "")) <= 4
    factor = {"byte": 1, "bytes": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}[found[2]]
    assert float(found[1]) * factor == pytest.approx(size, rel=0.0006)


@pytest.mark.parametrize(("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1000, "1000 files")])
def test_only_one_is_singular(number: int, text: str) -> None:
    assert plural(number, "file") == text


def test_a_date_is_written_with_the_name_of_the_month() -> None:
    assert format_date(datetime(2026, 1, 3, 23, 59, tzinfo=timezone.utc)) == "3 January 2026"


# -- times and JSON from outside


@pytest.mark.parametrize("text", ["2026-01-03T10:00:00Z", "2026-01-03T10:00:00+00:00", "2026-01-03T11:00:00+01:00"])
def test_a_time_with_a_zone_is_read(text: str) -> None:
    assert parse_time(text) == datetime(2026, 1, 3, 10, tzinfo=timezone.utc)


@given(st.datetimes(timezones=st.just(timezone(timedelta(hours=-5)))))
def test_a_time_that_was_written_is_read_back(moment: datetime) -> None:
    assert parse_time(moment.isoformat()) == moment


@pytest.mark.parametrize(
    "text", ["", "Z", "now", "2026-01-03", "2026-01-03T10:00:00", "2026-13-03T10:00:00Z", "1767434400"]
)
def test_any_other_text_is_not_a_time(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages are Python's own
        parse_time(text)


@pytest.mark.parametrize("value", [None, True, 1.5, "é\n", [], {"a": [1, {"b": None}]}])
def test_json_is_read_from_text_and_from_bytes(value: object) -> None:
    text = json.dumps(value)
    assert parse_json(text) == parse_json(text.encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{'a': 1}",
        "[1] 2",
        b"\xff",
        b"\xff\xfe[",
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "9" * 5000,
    ],
    ids=lambda text: ascii(text)[:12],
)
def test_text_that_is_not_json_is_a_value_error_however_deep_it_is(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages are Python's own
        parse_json(text)


# -- problems

ODD_VALUES = [
    "eu: west",
    "a: b: c",
    "line\nbreak",
    "carriage\rreturn",
    "tab\there",
    "next\x85line",
    "line\u2028separator",
    "form\x0cfeed",
    "escape \x1b[2J\x1b]0;title\x07",
    "right\u202eto left",
    "nul\0",
    "\udcff",
    'it\'s "quoted"',
    "{braces} {0} %s %(name)s",
    "-> arrow",
    "back\\slash",
    "ends with a colon:",
]


@pytest.mark.parametrize("value", ODD_VALUES, ids=ascii)
def test_an_odd_value_survives_in_a_problem_and_controls_no_terminal(value: str) -> None:
    problem = Problem(f"X is {value}.", f"Set X to another value than {value}")
    lines = list(problem_lines(problem, 1000))
    escaped = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in value)
    assert lines[0] == f"X is {escaped}."
    if "\n" in value:  # a line break in a remedy is one: remedies may be lines to copy
        assert lines[1:] == ["  -> Set X to another value than line", "  -> break"]
    else:
        assert lines[1:] == [f"  -> Set X to another value than {escaped}"]
    assert all(line.isprintable() for line in lines)
    assert json.loads(json.dumps(problem.as_json())) == {
        "message": problem.message,
        "remedy": problem.remedy,
        "setting": None,
    }


@given(st.text(st.characters(), max_size=200), st.text(st.characters(), max_size=200), st.integers(1, 100))
def test_any_problem_can_be_written_for_a_terminal(message: str, remedy: str, width: int) -> None:
    lines = list(problem_lines(Problem(message, remedy), width, indent="  "))
    assert all(line.isprintable() for line in lines)


def test_a_problem_without_a_remedy_is_its_message_alone() -> None:
    assert list(problem_lines(Problem("The disk is full."), 80)) == ["The disk is full."]


def test_each_line_of_a_remedy_follows_an_arrow_with_its_indentation() -> None:
    problem = Problem("The rule is missing.", 'Add it:\n{\n  "Rules": []\n}')
    assert list(problem_lines(problem, 80, indent="    ")) == [
        "    The rule is missing.",
        "      -> Add it:",
        "      -> {",
        '      ->   "Rules": []',
        "      -> }",
    ]


def test_long_lines_are_wrapped_below_their_own_beginning() -> None:
    problem = Problem("one two three four", "five six seven eight")
    assert list(problem_lines(problem, 14)) == [
        "one two three",
        "four",
        "  -> five six",
        "     seven",
        "     eight",
    ]


def test_a_long_word_stays_whole_so_that_it_can_be_copied() -> None:
    url = "https://example.com/a-very-long-address/with-hyphens"
    assert wrap(f"See {url} now.", 20) == ["See", url, "now."]


def test_an_empty_text_is_one_empty_line() -> None:
    assert wrap("", 80) == wrap("   ", 80) == [""]
