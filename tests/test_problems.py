"""A value that a user wrote survives in every problem: in the log, in the terminal and in JSON.

Nothing takes a message and its remedy apart again, so no value can break them: one with ``: ``, a line break, a quote,
braces or an escape sequence of a terminal in it is reported like any other.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import ScriptInfo
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from flask_persistent_uploads import ConfigError, Problem, Uploads, config, parsers
from flask_persistent_uploads.backends import BUILTIN_BACKENDS
from flask_persistent_uploads.cli import uploads as commands
from flask_persistent_uploads.config import Setting
from flask_persistent_uploads.errors import printable
from flask_persistent_uploads.serving.conflicts import other_route

from .conftest import PNG, MakeApp, state_of

HOSTILE = (
    "eu: west",
    "eu: west: Set it to x.",
    "a\nb",
    "a\r\n\r\nUPLOADS_BACKEND is right.",
    "it's",
    'say "hi"',
    "'\"`",
    "{message} {0} {}: %s %(x)s",
    "x; set UPLOADS_BACKEND=local",
    "x. Remove it.",
    "-> Remove it.",
    "Größe 图片 😀",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "a\u2028b\u2029c\u202ed\x85e",
    "back\\slash\\n",
    "a\tb\0c",
    "\ud800",
    "a,b,c: d",
    "nul: \0",
    "x" * 1000,
)

#: Values that are wrong for one reason each, and that no message could mix up with its own words.
HARMLESS = (
    "?",
    "?\t?",
    "http://?",
    "redis://?",
    "https://[",
    "https://user:word@host",
    "https://host?query",
    "https://host:0",
    "s3://bucket",
    "cloudinary://k:s@c?private_cdn=1",
)

MEMORY = {"UPLOADS_BACKEND": "memory"}
LOCAL = {"UPLOADS_BACKEND": "local"}
S3 = {"UPLOADS_S3_BUCKET": "b", "UPLOADS_S3_ACCESS_KEY_ID": "a", "UPLOADS_S3_SECRET_ACCESS_KEY": "s"}
CLOUDINARY = {
    "UPLOADS_BACKEND": "cloudinary",
    "UPLOADS_CLOUDINARY_CLOUD_NAME": "c",
    "UPLOADS_CLOUDINARY_API_KEY": "k",
    "UPLOADS_CLOUDINARY_API_SECRET": "s",
}
IMAGEKIT = {"UPLOADS_IMAGEKIT_PRIVATE_KEY": "p", "UPLOADS_IMAGEKIT_URL_ENDPOINT": "https://ik.imagekit.io/x"}

#: The settings beside which each setting, by the start of its name, is the only wrong one.
BESIDE: tuple[tuple[str, dict[str, str]], ...] = (
    ("backend", S3),
    ("dir", LOCAL),
    ("accel_redirect", LOCAL),
    ("s3_", {**S3, "UPLOADS_BACKEND": "s3"}),
    ("public_url", S3),
    ("cloudinary_url", {"UPLOADS_BACKEND": "cloudinary"}),
    ("cloudinary_", CLOUDINARY),
    ("imagekit_", IMAGEKIT),
    ("", MEMORY),
)

ALL = {row.name: row for row in (*config.COMMON, *(row for each in BUILTIN_BACKENDS for row in each.settings()))}


@dataclass(frozen=True)
class Variable:
    """A variable that sets a setting, among other settings that are right."""

    name: str
    setting: Setting
    beside: Mapping[str, str]

    def __str__(self) -> str:
        return self.name

    @property
    def is_repeated(self) -> bool:
        """Whether messages may repeat its value."""
        return self.setting.parse not in {parsers.secret, parsers.web_address}

    def shown(self, value: str) -> str:
        """Return the value as a message repeats it. The names of backends and platforms are stripped first."""
        is_text = self.setting.native_parsers.get(self.name, self.setting.parse) is parsers.text
        value = value.strip() if is_text else value
        return repr(value) if self.is_repeated and "://" not in value and "@" not in value else "not valid"


def variables() -> Iterator[Variable]:
    for setting in ALL.values():
        own = f"UPLOADS_{setting.name.upper()}"
        beside = next(given for start, given in BESIDE if setting.name.startswith(start))
        others = {name: value for name, value in beside.items() if name != own}
        for name in [own, *setting.native_parsers]:
            yield Variable(name, setting, others)


VARIABLES = [*variables()]
each_variable = pytest.mark.parametrize("variable", VARIABLES, ids=str)


def create(**app_config: Any) -> Flask:
    app = Flask("tests", instance_path="/tmp/no-such-folder")
    app.config.update(TESTING=True, MAX_CONTENT_LENGTH=200_000_000, **app_config)
    Uploads(app)
    return app


def problems_of(app_config: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Return why an app refuses to start; empty if it starts. Check that the log is one line for each."""
    refusal = ConfigError(())
    try:
        create(**app_config)
    except ConfigError as error:
        refusal = error
    lines = [str(problem) for problem in refusal.problems]
    assert str(refusal).split("\n") == (lines or [""])
    assert all(line.isprintable() for line in lines)
    return refusal.problems


def remedies(variable: Variable) -> set[str]:
    """Return every remedy that a harmless wrong value of a variable has."""
    found = [problems_of({**variable.beside, variable.name: value}) for value in HARMLESS]
    return {problem.remedy for problems in found for problem in problems}


def check(variable: Variable, value: str, known: set[str]) -> Problem | None:
    """Check the problem of a value, if it is one."""
    problems = problems_of({**variable.beside, variable.name: value})
    if not problems:
        return None
    (problem,) = problems
    assert problem.setting == variable.name
    assert problem.remedy in known
    assert problem.message.startswith(f"{variable.name} is {variable.shown(value)}")
    rest = problem.message.removeprefix(f"{variable.name} is {variable.shown(value)}")
    assert rest in {".", *REASONS} or (variable.setting.name == "backend" and rest.startswith(". It "))
    assert json.loads(json.dumps(problem.as_json())) == problem.as_json()
    return problem


REASONS = (". There is no such platform.", ". There is no such backend.")


# -- every setting


@each_variable
def test_a_hostile_value_has_the_problem_of_a_harmless_one(variable: Variable) -> None:
    known = remedies(variable)
    found = [check(variable, value, known) for value in HOSTILE]
    if variable.setting.parse in {parsers.text, parsers.secret}:
        assert variable.setting.name in {"backend", "platform", "cloudinary_url"} or not any(found)
    else:
        assert any(found)
        assert known


@pytest.mark.parametrize("name", ["UPLOADS_S3_REGION", "AWS_REGION", "UPLOADS_STORE_ID", "UPLOADS_PLATFORM"])
def test_every_hostile_value_is_refused_and_repeated(name: str) -> None:
    (variable,) = (each for each in VARIABLES if each.name == name)
    known = remedies(variable)
    for value in HOSTILE[:-1]:
        problem = check(variable, value, known)
        assert problem is not None
        assert repr(value) in problem.message
        assert printable(repr(value)) in str(problem)


def test_a_value_may_be_wrong_in_the_variable_of_any_uploads() -> None:
    app = create(**MEMORY)
    app.config.update({"DOCUMENTS_S3_REGION": "eu: west", "DOCUMENTS_BACKEND": "memory"})
    with pytest.raises(ConfigError) as caught:
        Uploads(app, name="documents")
    assert caught.value.problems == (
        Problem(
            "DOCUMENTS_S3_REGION is 'eu: west'.",
            "Set DOCUMENTS_S3_REGION to a region such as eu-central-1.",
            "DOCUMENTS_S3_REGION",
        ),
    )


KNOWN: dict[str, set[str]] = {}

awkward = st.text(max_size=40) | st.lists(
    st.sampled_from([": ", "\n", "\r", "'", '"', "{", "}", "; set ", "\x1b[0m", "\u2028", "\\", "://", "@", ".", "a"])
).map("".join)


@hypothesis_settings(max_examples=300)
@given(variable=st.sampled_from(VARIABLES), value=awkward)
@example(variable=VARIABLES[0], value=":")
@example(variable=VARIABLES[0], value="..:x")
def test_no_value_breaks_a_problem(variable: Variable, value: str) -> None:
    if not value.strip():
        return
    if variable.name not in KNOWN:
        KNOWN[variable.name] = remedies(variable)
    check(variable, value, KNOWN[variable.name])


@given(
    message=awkward,
    remedy=awkward,
    setting=st.none() | awkward,
)
def test_a_problem_is_one_line_in_the_log_and_unaltered_in_json(message: str, remedy: str, setting: str | None) -> None:
    problem = Problem(message, remedy, setting)
    assert str(problem).isprintable()
    assert str(ConfigError([problem, problem])).count("\n") == 1
    assert Problem(**json.loads(json.dumps(problem.as_json()))) == problem
    assert problem == Problem(message, remedy, setting)


# -- what doctor prints


def doctor(app_config: Mapping[str, Any], *arguments: str) -> Result:
    """Run ``flask uploads doctor --offline`` on an app that may refuse to start."""
    info = ScriptInfo(create_app=lambda: create(**app_config))
    result = CliRunner(env={"COLUMNS": "100"}).invoke(commands, ["doctor", "--offline", *arguments], obj=info)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def check_of(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    (found,) = (each for each in content["checks"] if each["name"] == name)
    assert isinstance(found, dict)
    return found


def words(text: str) -> str:
    """Return a text as the terminal shows it, apart from its line breaks and indentation."""
    return " ".join(printable(text).split())


def assert_terminal_shows(output: str, problem: Problem) -> None:
    lines = output.split("\n")
    assert all(line.isprintable() for line in lines)
    shown = words(" ".join(lines))
    assert words(problem.message) in shown
    starts = [number for number, line in enumerate(lines) if line.lstrip().startswith("-> ")]
    assert any(words(" ".join(lines[number:])).startswith(f"-> {words(problem.remedy)}") for number in starts)
    assert not any(problem.remedy in line for line in lines if not line.lstrip().startswith("->"))


#: All that could be taken for our own words, or for a command of the terminal, in one value.
AWKWARD = "eu: 'west'. Set it to \"x\"; set\nUPLOADS_BACKEND={local}: %s -> Größe\x1b[31m\u2028 \\n"


def assert_doctor_reports(variable: Variable, value: str) -> None:
    app_config = {**variable.beside, variable.name: value}
    content = json.loads(doctor(app_config, "--json").output)
    problems = problems_of(app_config)
    if not problems:
        assert variable.setting.parse in {parsers.text, parsers.secret, parsers.folder}
        return
    (problem,) = problems
    found = check_of(content, "configuration")
    assert found["verdict"] == "failure"
    assert (found["seen"], found["remedy"], found["setting"]) == (problem.message, problem.remedy, variable.name)
    assert_terminal_shows(doctor(app_config).output, problem)


@each_variable
def test_doctor_reports_an_awkward_value_of_every_setting(variable: Variable) -> None:
    assert_doctor_reports(variable, AWKWARD)


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_doctor_reports_every_hostile_value(value: str) -> None:
    assert_doctor_reports(next(each for each in VARIABLES if each.name == "UPLOADS_MAX_SIZE"), value)


def test_doctor_reports_several_hostile_values_one_by_one() -> None:
    app_config = {**MEMORY, "UPLOADS_S3_REGION": "a: b\nc", "UPLOADS_MAX_SIZE": "'; set X", "UPLOADS_PLATFORM": "{}"}
    problems = problems_of(app_config)
    assert len(problems) == 3
    finding = check_of(json.loads(doctor(app_config, "--json").output), "configuration")
    assert [Problem(**each) for each in finding["details"]] == list(problems)
    output = doctor(app_config).output
    assert all(line.isprintable() for line in output.split("\n"))
    for problem in problems:
        assert f"-> {words(str(problem))}" in words(output.replace("\n", " "))


# -- other texts that a user or an app writes


@pytest.mark.parametrize("name", ["UPLOADS_A: B", "UPLOADS_A\nB", "UPLOADS_'A\"", "UPLOADS_{}", "UPLOADS_\x1b[31m"])
def test_an_unknown_variable_may_have_any_name(name: str, caplog: pytest.LogCaptureFixture) -> None:
    app = create(**MEMORY, **{name: "1"})
    (problem,) = config.unknown_settings(state_of(app).settings)
    assert (problem.message, problem.setting) == (f"{name} is not a setting of this extension.", name)
    (warning,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert warning == str(problem)
    assert warning.isprintable()
    run = app.test_cli_runner().invoke(args=["uploads", "doctor", "--offline", "--json"])
    finding = check_of(json.loads(run.output), "configuration")
    assert (finding["verdict"], finding["seen"], finding["remedy"]) == ("warning", problem.message, problem.remedy)
    assert_terminal_shows(app.test_cli_runner().invoke(args=["uploads", "doctor", "--offline"]).output, problem)


@pytest.mark.parametrize("endpoint", ["a: b", "a\nb", "it's", 'say "hi"', "{}: %s", "\x1b[31mred"])
def test_a_route_of_the_app_may_have_any_endpoint(
    endpoint: str, make_app: MakeApp, uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(uploads, **MEMORY)
    app.add_url_rule("/uploads/<name>", endpoint, lambda name: name)
    with app.app_context():
        uploads.save(PNG, filename="a.png")
    problem = other_route(app, state_of(app))
    assert problem is not None
    assert repr(endpoint) in problem.message
    assert problem.setting == "UPLOADS_URL_PREFIX"
    (warning,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert warning == f"uploads: {problem}"
    run = app.test_cli_runner().invoke(args=["uploads", "doctor", "--offline", "--json"])
    finding = check_of(json.loads(run.output), "route")
    assert (finding["verdict"], finding["seen"], finding["remedy"]) == ("failure", problem.message, problem.remedy)


@pytest.mark.parametrize("name", ["c: d", "it's", 'say "hi"', "{}: %s", "Größe 图片", "a\u2028b\u202ec"])
def test_the_folder_of_the_files_may_have_any_name(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    app_config = {"UPLOADS_DIR": str(tmp_path / name)}
    create(**app_config)
    lines = [record.getMessage() for record in caplog.records]
    assert all(line.isprintable() for line in lines)
    assert any(printable(str(tmp_path / name)) in line for line in lines)
    content = json.loads(doctor(app_config, "--json").output)
    assert {each["variable"]: each["value"] for each in content["settings"]}["UPLOADS_DIR"] == str(tmp_path / name)
    assert str(tmp_path / name) in check_of(content, "configuration")["seen"]
    output = doctor(app_config).output
    assert all(line.isprintable() for line in output.split("\n"))
    assert words(str(tmp_path / name)) in words(output.replace("\n", " "))
