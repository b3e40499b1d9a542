"""The tree of errors, and that an app's own handlers catch ours without knowing us."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from flask_persistent_uploads import errors

Class = type[errors.UploadsError]


def make(error: Class) -> errors.UploadsError:
    """An error as the package itself would raise it."""
    if error is errors.WrongLength:
        return errors.WrongLength("k.png", expected=2, found=1)
    return error("k.png")


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


def app_that_raises(error: Class) -> Flask:
    app = Flask("tests")

    @app.get("/")
    def view() -> str:
        raise make(error)

    return app


@pytest.mark.parametrize("error", STATUSES, ids=lambda error: error.__name__)
def test_an_error_answers_with_its_status_and_its_description(error: Class) -> None:
    response = app_that_raises(error).test_client().get("/")
    assert response.status_code == STATUSES[error]
    if error not in (errors.FileMissing, errors.FileExists, errors.WrongLength):
        assert "k.png" in response.text


@pytest.mark.parametrize("error", STATUSES, ids=lambda error: error.__name__)
def test_a_handler_for_http_exceptions_catches_ours(error: Class) -> None:
    app = app_that_raises(error)

    @app.errorhandler(HTTPException)
    def answer(raised: HTTPException) -> ResponseReturnValue:
        return {"code": raised.code, "description": raised.description}, 418

    response = app.test_client().get("/")
    assert response.status_code == 418
    assert response.get_json()["code"] == STATUSES[error]
    assert response.get_json()["description"]


@pytest.mark.parametrize("error", STATUSES.keys() - {errors.BackendFull}, ids=lambda error: error.__name__)
def test_a_handler_for_a_status_catches_ours(error: Class) -> None:
    app = app_that_raises(error)

    @app.errorhandler(STATUSES[error])
    def answer(raised: HTTPException) -> ResponseReturnValue:
        return "the app's own page", 418

    assert app.test_client().get("/").text == "the app's own page"


def test_a_backend_that_cannot_be_reached_says_when_to_come_back() -> None:
    assert app_that_raises(errors.BackendUnavailable).test_client().get("/").headers["Retry-After"] == "5"
    waiting = errors.BackendUnavailable("busy", retry_after=30)
    assert dict(waiting.get_headers())["Retry-After"] == "30"


def test_the_tree_that_is_drawn_is_the_tree_that_is() -> None:
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


def test_all_but_config_errors_are_http_exceptions() -> None:
    not_http = {e for e in descendants(errors.UploadsError) if not issubclass(e, HTTPException)}
    assert not_http == {errors.ConfigError}


def test_errors_carry_the_facts() -> None:
    rejected = errors.TypeNotAllowed("no", field="photo", filename="x.svg")
    assert (rejected.field, rejected.filename, rejected.description) == ("photo", "x.svg", "no")
    assert errors.FileMissing("a/b").key == "a/b"
    assert errors.ConfigError(["a", "b"]).problems == ("a", "b")
    assert str(errors.ConfigError(["a", "b"])) == "a\nb"


def test_files_that_could_not_be_removed_are_named() -> None:
    assert errors.BackendRefused("It said no.").orphans == ()
    error = errors.BackendRefused("It said no.")
    error.leave_behind(["a/1.png", "a/2.png"])
    assert error.orphans == ("a/1.png", "a/2.png")
    assert error.description == "It said no. What may be left there: a/1.png, a/2.png."
