"""A value with any character survives in the terminal and in the JSON, whichever setting has it."""

from __future__ import annotations

import pytest

from flask_persistent_uploads import config
from flask_persistent_uploads.backends import BUILTIN_BACKENDS
from flask_persistent_uploads.errors import Problem, printable
from flask_persistent_uploads.operations.startup import StartupRefused

from .cases import IMAGEKIT, S3, Report, Set, examine, healthy, run

SETTINGS = sorted(
    {setting.name for setting in config.COMMON} | {one.name for b in BUILTIN_BACKENDS for one in b.settings()}
)
VALUES = {
    "colon": "eu: west",
    "newline": "eu\nwest: 1",
    "quotes": """it's a "b" `c`""",
    "braces": "{0} {name} %s %(x)s",
    "sentence": "x is not set. Set it; set Y to Z: now",
    "arrow": "-> remedy\n-> again",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Set:
    def put(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def refusals() -> tuple[Problem, ...]:
    """Return why the app refuses to start; empty if it starts."""
    try:
        healthy()
    except StartupRefused as refusal:
        return refusal.problems
    return ()


def reported(report: Report) -> list[dict[str, object]]:
    """Return the problems in the JSON of the report."""
    check = report.check("configuration")
    whole = {"message": check["seen"], "remedy": check["remedy"], "setting": check["setting"]}
    return [whole, *check["details"]]


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("name", SETTINGS)
def test_every_problem_reaches_the_json_and_the_terminal_unaltered(name: str, value: str, environment: Set) -> None:
    others = {} if name == "backend" else IMAGEKIT if name.startswith("imagekit") else S3
    environment(**{**others, f"UPLOADS_{name}".upper(): value})
    problems, report, terminal = refusals(), examine(), run("--offline")
    shown = " ".join(terminal.text.split())
    for problem in problems:
        assert problem.as_json() in reported(report)
        for part in (problem.message, *problem.remedy.splitlines()):
            assert " ".join(printable(part).split()) in shown
    if not problems:
        assert report.check("configuration")["verdict"] == "ok"
        value_shown, _ = report.settings[f"UPLOADS_{name}".upper()]
        assert value_shown in {value, str(config_value(value, name))} or value_shown.startswith("…")


def config_value(value: str, name: str) -> object:
    """Return what a setting makes of a value that it accepts."""
    (row,) = {s.name: s for b in BUILTIN_BACKENDS for s in (*config.COMMON, *b.settings()) if s.name == name}.values()
    return row.parse(value)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_region_is_repeated_with_its_own_remedy(value: str, environment: Set) -> None:
    environment(**S3, UPLOADS_S3_REGION=value)
    report = examine()
    check = report.check("configuration")
    assert check["seen"] == f"UPLOADS_S3_REGION is {value!r}."
    assert check["remedy"] == "Set UPLOADS_S3_REGION to a region such as eu-central-1."
    assert check["setting"] == "UPLOADS_S3_REGION"
    assert report.headline == f"UPLOADS DO NOT WORK. UPLOADS_S3_REGION is {value!r}."


@pytest.mark.parametrize("value", [value for value in VALUES.values() if "\n" not in value])
def test_a_folder_is_repeated_with_its_own_remedy(
    value: str, environment: Set, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("place") / value.replace("/", "")
    folder.write_text("not a folder")
    environment(UPLOADS_DIR=str(folder))
    report = examine()
    check = report.check("folder")
    assert check["seen"] == f"{folder} is not a folder."
    assert check["remedy"] == "Remove it, or set UPLOADS_DIR to another folder."
    assert report.headline == f"UPLOADS DO NOT WORK. {folder} is not a folder."
