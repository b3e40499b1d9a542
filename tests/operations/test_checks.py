"""Checks run after those that they need, and a failing check hides only those that need it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_persistent_uploads.errors import BackendRefused, Problem
from flask_persistent_uploads.operations import bucket_checks
from flask_persistent_uploads.operations.checks import (
    FAILURE,
    SKIPPED,
    WARNING,
    Check,
    Finding,
    failure,
    ok,
    run_checks,
    skipped,
    warning,
)
from flask_persistent_uploads.operations.doctor import disk, identity, offline, online

Results = dict[str, Finding | None]


def check(name: str, *needs: str) -> Check[Results]:
    """Return a check whose subject says what it finds."""
    return Check(name, lambda results: results.get(name, ok(f"{name} is ok.")), needs)


CHECKS = (check("d", "b", "c"), check("a"), check("b", "a"), check("c", "a"), check("e", "d"), check("f"))


def names(results: Results) -> list[str]:
    return [found.name for found, _ in run_checks(CHECKS, results)]


def test_a_check_runs_after_those_that_it_needs_otherwise_in_the_given_order() -> None:
    assert names({}) == ["a", "b", "c", "d", "e", "f"]


@pytest.mark.parametrize(
    ("failing", "shown"),
    [("a", "af"), ("b", "abcf"), ("c", "abcf"), ("d", "abcdf"), ("e", "abcdef"), ("f", "abcdef")],
)
def test_a_failing_check_hides_those_that_need_it_directly_or_not(failing: str, shown: str) -> None:
    assert sorted(names({failing: failure("It is broken.", "Repair it.")})) == list(shown)


@pytest.mark.parametrize("finding", [None, warning("Careful.", "Look."), skipped("Not looked at."), ok("Fine.")])
def test_a_check_that_does_not_fail_hides_nothing(finding: Finding | None) -> None:
    assert set(names({"a": finding})) | {"a"} == set("abcdef")


def test_a_check_that_does_not_apply_has_no_finding() -> None:
    assert names({"a": None}) == ["b", "c", "d", "e", "f"]


def test_a_need_that_is_not_among_the_checks_is_ignored() -> None:
    assert [found.name for found, _ in run_checks([check("a", "elsewhere")], {})] == ["a"]


def broken(_: Results) -> Finding:
    raise RuntimeError("a secret")


def test_a_check_that_raises_has_failed_and_its_text_is_not_repeated() -> None:
    found = run_checks([Check("a", broken), check("b", "a"), check("c")], {})
    assert [(one.name, finding.status) for one, finding in found] == [("a", FAILURE), ("c", "ok")]
    assert found[0][1].problem.message == "An unexpected error occurred (RuntimeError)."
    assert "secret" not in str(found)


def test_a_check_that_raises_a_backend_error_has_its_problem() -> None:
    def refused(_: Results) -> Finding:
        raise BackendRefused("It is refused: no.", remedy="Correct A.", setting="A")

    ((_, finding),) = run_checks([Check("a", refused)], {})
    assert finding == Finding(FAILURE, Problem("It is refused: no.", "Correct A.", "A"))


def test_an_interrupt_is_not_a_finding() -> None:
    def interrupt(_: Results) -> Finding:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_checks([Check("a", interrupt)], {})


def test_checks_of_different_subjects_run_side_by_side() -> None:
    length: Callable[[str], Finding] = lambda text: ok(f"{len(text)} characters.")  # noqa: E731
    bound = [Check("length", length, needs=("a",), essential=True).bind("four"), check("a").bind({})]
    found = run_checks(bound, None)
    assert [(one.name, one.essential, finding.problem.message) for one, finding in found] == [
        ("a", False, "a is ok."),
        ("length", True, "4 characters."),
    ]


def test_every_check_of_doctor_has_its_own_name_and_needs_checks_that_exist() -> None:
    tables = (offline.CHECKS, disk.CHECKS, bucket_checks.CHECKS, online.CHECKS, (identity.ON_DISK,))
    names = [found.name for table in tables for found in table]
    assert len(names) == len(set(names))
    assert {need for table in tables for found in table for need in found.needs} <= set(names)
    assert identity.ON_DISK.name == identity.IN_SERVICE.name, "only one of them is used"


def test_the_remedy_has_a_line_for_each_detail_and_json_has_the_details_unaltered() -> None:
    details = (Problem("A is 'x: \n\"{}'.", "Set A.", "A"), Problem("B is wrong."))
    finding = Finding(WARNING, Problem("Two problems.", "Do this.\nDo that.", "C"), details)
    assert finding.remedy.splitlines() == ["Do this.", "Do that.", "A is 'x: \\n\"{}'. Set A.", "B is wrong."]
    assert finding.as_json() == {
        "verdict": "warning",
        "seen": "Two problems.",
        "remedy": finding.remedy,
        "setting": "C",
        "details": [
            {"message": "A is 'x: \n\"{}'.", "remedy": "Set A.", "setting": "A"},
            {"message": "B is wrong.", "remedy": "", "setting": None},
        ],
    }


def test_a_finding_without_a_remedy_has_none_in_json() -> None:
    assert skipped("Not looked at.").as_json() == {
        "verdict": SKIPPED,
        "seen": "Not looked at.",
        "remedy": None,
        "setting": None,
        "details": [],
    }
