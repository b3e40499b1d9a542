"""The tree of errors, what each says to visitors and to operators, and how the app's own handlers answer them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from flask_persistent_uploads import errors
from flask_persistent_uploads.errors import BackendError, ConfigError, Problem, UploadRejected, printable

Class = type[errors.UploadsError]

KEY = "reports/k.png"
REMEDY = "Correct UPLOADS_S3_SECRET_ACCESS_KEY."


def make(error: Class) -> errors.UploadsError:
    """Make an error with as many facts as its constructor takes."""
    if error is errors.WrongLength:
        return errors.WrongLength(KEY, expected=2, found=1)
    if error in {errors.FileMissing, errors.FileExists}:
        return error(KEY)
    if issubclass(error, BackendError):
        return error(
            f"The bucket refuses {KEY}.",
            remedy=REMEDY,
            setting="UPLOADS_S3_SECRET_ACCESS_KEY",
            key=KEY,
            service_code="SignatureDoesNotMatch",
        )
    return error("'k.png' is refused.")


def descendants(error: Class) -> Iterator[Class]:
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from descendants(child)


STATUSES: dict[Class, int] = {
    errors.UploadMalformed: 400,
    errors.UploadTooLarge: 413,
    errors.TypeNotAllowed: 415,
    errors.FileMissing: 404,
    errors.InvalidKey: 404,
    errors.FileExists: 409,
    errors.BackendRefused: 502,
    errors.WrongLength: 502,
    errors.BackendUnavailable: 503,
    errors.BackendTimeout: 504,
    errors.BackendFull: 507,
}
BACKEND_ERRORS = [error for error in STATUSES if issubclass(error, BackendError)]

each_error = pytest.mark.parametrize("error", STATUSES, ids=lambda error: error.__name__)
each_backend_error = pytest.mark.parametrize("error", BACKEND_ERRORS, ids=lambda error: error.__name__)


def app_that_raises(error: errors.UploadsError) -> Flask:
    app = Flask("tests")

    @app.get("/")
    def view() -> str:
        raise error

    return app


# -- the tree


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn: dict[str, tuple[str, int | None]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│ ]*)(?:[├└]── )?([A-Z]\w+)(?: +(\d{3}))?", line)
        if found:
            depth = len(found[1]) // 4 + ("── " in line)
            path[depth:] = [found[2]]
            drawn[found[2]] = path[depth - 1] if depth else "Exception", int(found[3]) if found[3] else None
    tree: list[Class] = [errors.UploadsError, *descendants(errors.UploadsError)]
    real = {error.__name__: (error.__bases__[0].__name__, STATUSES.get(error)) for error in tree}
    assert drawn == real


def test_all_errors_but_config_errors_are_http_exceptions() -> None:
    not_http = {e for e in descendants(errors.UploadsError) if not issubclass(e, HTTPException)}
    assert not_http == {errors.ConfigError}


# -- how an app answers them


@each_error
def test_an_error_answers_with_its_status_and_its_description(error: Class) -> None:
    raised = make(error)
    assert isinstance(raised, HTTPException)
    response = app_that_raises(raised).test_client().get("/")
    assert response.status_code == STATUSES[error]
    assert (raised.description or "?").replace("'", "&#39;") in response.text


@each_error
def test_a_handler_for_http_exceptions_catches_ours(error: Class) -> None:
    app = app_that_raises(make(error))

    @app.errorhandler(HTTPException)
    def answer(raised: HTTPException) -> ResponseReturnValue:
        return {"code": raised.code, "description": raised.description}, 418

    response = app.test_client().get("/")
    assert response.status_code == 418
    assert response.get_json()["code"] == STATUSES[error]
    assert response.get_json()["description"]


@pytest.mark.parametrize(
    "error", [error for error in STATUSES if error is not errors.BackendFull], ids=lambda error: error.__name__
)
def test_a_handler_for_a_status_catches_ours(error: Class) -> None:
    app = app_that_raises(make(error))

    @app.errorhandler(STATUSES[error])
    def answer(raised: HTTPException) -> ResponseReturnValue:
        return "the app's own page", 418

    assert app.test_client().get("/").text == "the app's own page"


@pytest.mark.parametrize(("error", "status"), [(BackendError("It broke."), 500), (UploadRejected("It is bad."), 400)])
def test_a_base_class_that_is_raised_itself_is_never_a_success(error: Any, status: int) -> None:
    assert app_that_raises(error).test_client().get("/").status_code == status


def test_an_unavailable_backend_answers_with_retry_after() -> None:
    response = app_that_raises(errors.BackendUnavailable("It is down.")).test_client().get("/")
    assert response.headers["Retry-After"] == "5"
    waiting = errors.BackendUnavailable("It is busy.", retry_after=30)
    assert dict(waiting.get_headers())["Retry-After"] == "30"


# -- REST libraries


def smorest_answer(error: Any) -> dict[str, Any]:
    """Answer as flask_smorest.error_handler.ErrorHandlerMixin.handle_http_exception does."""
    payload = {"code": error.code, "status": error.name}
    data = getattr(error, "data", None)
    if data:
        payload |= {name: data[name] for name in ("message", "errors") if name in data}
        assert "headers" not in data
    return payload


def restful_answer(error: Any) -> Any:
    """Answer as flask_restful.Api.handle_error does: ``data`` is the body, whatever it is."""
    return getattr(error, "data", {"message": error.description})


@each_error
@pytest.mark.parametrize("library", [smorest_answer, restful_answer])
def test_rest_libraries_answer_with_our_sentence(error: Class, library: Any) -> None:
    app = app_that_raises(make(error))

    @app.errorhandler(HTTPException)
    def answer(raised: Any) -> ResponseReturnValue:
        return library(raised), raised.code

    response = app.test_client().get("/")
    assert response.status_code == STATUSES[error]
    raised = make(error)
    assert isinstance(raised, HTTPException)
    assert response.get_json()["message"] == raised.description
    assert "errors" not in response.get_json()


@each_error
def test_data_holds_the_description_alone_and_may_be_replaced(error: Class) -> None:
    raised: Any = make(error)
    assert raised.data == {"message": raised.description}
    raised.data = {"messages": {"json": ["wrong"]}}
    assert raised.data == {"messages": {"json": ["wrong"]}}
    assert make(error).data != raised.data  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "error", [error for error in STATUSES if issubclass(error, UploadRejected)], ids=lambda error: error.__name__
)
def test_data_names_the_field_of_a_file_that_is_refused(error: Any) -> None:
    rejected = error("'x.svg' is refused.", field="photo", filename="x.svg")
    assert (rejected.field, rejected.filename) == ("photo", "x.svg")
    assert rejected.data == {
        "message": "'x.svg' is refused.",
        "errors": {"files": {"photo": ["'x.svg' is refused."]}},
    }
    assert smorest_answer(rejected)["errors"] == {"files": {"photo": ["'x.svg' is refused."]}}


# -- what visitors read, and what operators read


@each_backend_error
def test_a_visitor_reads_a_plain_sentence(error: Any) -> None:
    raised = make(error)
    assert isinstance(raised, BackendError)
    raised.leave_behind(["reports/left.png"])
    response = app_that_raises(raised).test_client().get("/")
    for text in (raised.description, response.text, json.dumps(raised.data)):
        for private in (KEY, "k.png", "left.png", REMEDY, "UPLOADS_", "SignatureDoesNotMatch", "bucket"):
            assert private not in text
    assert raised.description == error.description
    assert re.fullmatch(r"[A-Z][a-z ]+\.( [A-Z][a-z ]+\.)?", raised.description)


@each_backend_error
def test_an_operator_reads_the_cause_the_remedy_and_the_orphans(error: Any) -> None:
    raised = make(error)
    assert isinstance(raised, BackendError)
    assert raised.key == KEY
    assert str(raised) == str(raised.problem)
    assert raised.problem == Problem(raised.message, raised.remedy, raised.setting)
    if raised.remedy:
        assert str(raised) == f"The bucket refuses {KEY}. {REMEDY}"
        assert (raised.setting, raised.service_code) == ("UPLOADS_S3_SECRET_ACCESS_KEY", "SignatureDoesNotMatch")
    raised.leave_behind(["a/1.png", "a/2.png"])
    assert str(raised) == f"{raised.problem} These files may be left in the store: a/1.png, a/2.png."


def test_orphans_are_recorded_once_and_in_order() -> None:
    error = errors.BackendRefused("It said no.")
    error.leave_behind(["a/1.png", "a/2.png", "a/1.png"])
    error.leave_behind(["a/2.png", "a/3.png"])
    assert error.orphans == ("a/1.png", "a/2.png", "a/3.png")
    assert errors.BackendRefused("It said no.").orphans == ()


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\x1b[31mb", "a\u2028b", "a\u202eb", "a\x00b"])
def test_what_operators_read_is_one_line_without_control_characters(text: str) -> None:
    error = errors.BackendUnavailable(f"The service said {text}.", remedy=f"See {text}.")
    error.leave_behind([text])
    for line in (str(error), str(error.problem), str(Problem(text, text)), str(ConfigError(Problem(text)))):
        assert line.isprintable()
        assert line.count(printable(text)) >= 1
    assert error.problem.as_json()["message"] == f"The service said {text}."


def test_printable_text_is_left_as_it_is() -> None:
    assert printable("Übergröße 图片 😀 {a: b}; 'c' \\n") == "Übergröße 图片 😀 {a: b}; 'c' \\n"
    assert printable("a\nb\tc\u2028d\ud800") == "a\\nb\\tc\\u2028d\\ud800"


NOTHING_STORED = {
    errors.FileMissing: True,
    errors.InvalidKey: True,
    errors.FileExists: True,
    errors.BackendRefused: True,
    errors.WrongLength: True,
    errors.BackendUnavailable: False,
    errors.BackendTimeout: False,
    errors.BackendFull: True,
}


@each_backend_error
def test_each_error_tells_whether_the_call_may_have_stored_something(error: Any) -> None:
    assert make(error).nothing_stored is NOTHING_STORED[error]  # type: ignore[attr-defined]
    assert errors.BackendUnavailable("No such host.", nothing_stored=True).nothing_stored is True
    assert errors.BackendUnavailable("It is down.").nothing_stored is False


# -- problems and config errors


def test_a_config_error_has_one_line_for_each_problem() -> None:
    problems = [Problem("A is wrong.", "Set A to 1.", "A"), Problem("There is no disk.")]
    error = ConfigError(problems)
    assert error.problems == tuple(problems)
    assert str(error) == "A is wrong. Set A to 1.\nThere is no disk."
    assert ConfigError(problems[0]).problems == (problems[0],)


def test_a_problem_is_a_value_with_three_parts() -> None:
    problem = Problem("X is 'a\nb'.", "Set X to a: b.", "X")
    assert problem == Problem("X is 'a\nb'.", "Set X to a: b.", "X")
    assert problem.as_json() == {"message": "X is 'a\nb'.", "remedy": "Set X to a: b.", "setting": "X"}
    assert json.loads(json.dumps(problem.as_json())) == problem.as_json()
    assert str(problem) == "X is 'a\\nb'. Set X to a: b."
    assert str(Problem("It is down.")) == "It is down."
    with pytest.raises(AttributeError):
        problem.message = ""  # type: ignore[misc]
