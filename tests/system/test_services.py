"""An app on Cloudinary and ImageKit: visitors and operators get the right words, and accounts never mix."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask, Response
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from flask_persistent_uploads import Uploads, save_uploads

from ..conftest import PNG, MakeApp
from ..fakes import service
from ..fakes.cloudinary import FakeCloudinary
from ..fakes.imagekit import FakeImageKit
from ..servers import free_ports

NOT_AVAILABLE = "The file store is not available at the moment. Please try again later."

Prepare = Callable[[FakeCloudinary, FakeImageKit], None]


@pytest.fixture
def cloudinary() -> Iterator[FakeCloudinary]:
    with FakeCloudinary() as fake:
        fake.add(cloud="one", api_key="1", api_secret="secret-1")
        fake.add(cloud="two", api_key="2", api_secret="secret-2")
        yield fake


@pytest.fixture
def imagekit() -> Iterator[FakeImageKit]:
    with FakeImageKit() as fake:
        fake.add("three", "private_3")
        fake.add("four", "private_4")
        yield fake


@pytest.fixture
def settings(cloudinary: FakeCloudinary, imagekit: FakeImageKit) -> dict[str, str]:
    """Return the settings of four ``Uploads``, each with an account of its own."""
    settings = {}
    for name, number in (("ONE", 1), ("TWO", 2)):
        settings[f"{name}_CLOUDINARY_URL"] = f"cloudinary://{number}:secret-{number}@{name.lower()}"
        settings[f"{name}_CLOUDINARY_UPLOAD_PREFIX"] = cloudinary.url
        settings[f"{name}_PUBLIC_URL"] = f"{cloudinary.url}/{name.lower()}"
    for name, number in (("THREE", 3), ("FOUR", 4)):
        settings[f"{name}_IMAGEKIT_PRIVATE_KEY"] = f"private_{number}"
        settings[f"{name}_IMAGEKIT_URL_ENDPOINT"] = f"{imagekit.url}/ik/{name.lower()}"
        settings[f"{name}_IMAGEKIT_BASE_URL"] = imagekit.url
    return settings


def a_small_plan(cloudinary: FakeCloudinary, imagekit: FakeImageKit) -> None:
    for plan in (cloudinary.accounts["one"].max_bytes, imagekit.accounts["three"].max_bytes):
        plan.update(dict.fromkeys(plan, 1000))


def out_of_calls(cloudinary: FakeCloudinary, imagekit: FakeImageKit) -> None:
    message = "Limit reached. Try again on 2026-11-21 13:00:00 UTC"
    for fake in (cloudinary, imagekit):
        fake.fail(service.status(429, message, {"X-RateLimit-Reset": "1200000"}), times=9)


def other_credentials(cloudinary: FakeCloudinary, imagekit: FakeImageKit) -> None:
    cloudinary.accounts["one"].api_secret = "changed"
    imagekit.accounts["three"].private_key = "changed"


def app_with_a_form(make_app: MakeApp, settings: dict[str, str], name: str) -> Flask:
    """Return an app that stores a photo and answers with the sentence for visitors."""
    app = make_app(Uploads(name=name), **settings)

    @app.post("/")
    def save() -> str:
        return str(save_uploads(name=name)["photo"])

    @app.errorhandler(HTTPException)
    def answer(error: HTTPException) -> Response:
        return Response(f"{error.code}: {error.description}", error.code)

    return app


def upload(app: Flask, content: bytes, filename: str) -> TestResponse:
    return app.test_client().post("/", data={"photo": (io.BytesIO(content), filename)})


@pytest.mark.parametrize("name", ["one", "three"])
@pytest.mark.parametrize(
    ("prepare", "content", "status", "visitor", "operator"),
    [
        (a_small_plan, PNG + b"x" * 2000, 413, "'photo.png' was rejected. The file is too large.", ""),
        (a_small_plan, b"", 415, "'photo.csv' is empty. Empty files cannot be stored.", ""),
        (other_credentials, PNG, 502, NOT_AVAILABLE, "did not accept the"),
        (out_of_calls, PNG, 503, NOT_AVAILABLE, "limit of API calls is reached. Wait until"),
    ],
    ids=["too large", "empty", "credentials", "rate limit"],
)
def test_a_refusal_has_a_plain_sentence_for_visitors_and_a_remedy_in_the_log(
    make_app: MakeApp,
    settings: dict[str, str],
    cloudinary: FakeCloudinary,
    imagekit: FakeImageKit,
    caplog: pytest.LogCaptureFixture,
    name: str,
    prepare: Prepare,
    content: bytes,
    status: int,
    visitor: str,
    operator: str,
) -> None:
    app = app_with_a_form(make_app, settings, name)
    prepare(cloudinary, imagekit)
    answer = upload(app, content, "photo.png" if content else "photo.csv")
    assert (answer.status_code, answer.text[: len(visitor) + 5]) == (status, f"{status}: {visitor}")
    assert operator in caplog.text
    assert "may be left" not in caplog.text
    assert not any(
        secret in f"{answer.text} {caplog.text}" for secret in ("secret-1", "private_3", "changed", "signature")
    )
    assert not any(account.assets for account in cloudinary.accounts.values())
    assert not any(account.files for account in imagekit.accounts.values())


@pytest.mark.parametrize(
    ("name", "setting"),
    [("one", "ONE_CLOUDINARY_URL"), ("three", "THREE_IMAGEKIT_PRIVATE_KEY")],
)
def test_a_remedy_names_the_variable_of_its_uploads(
    make_app: MakeApp,
    settings: dict[str, str],
    cloudinary: FakeCloudinary,
    imagekit: FakeImageKit,
    caplog: pytest.LogCaptureFixture,
    name: str,
    setting: str,
) -> None:
    app = app_with_a_form(make_app, settings, name)
    other_credentials(cloudinary, imagekit)
    assert setting not in upload(app, PNG, "photo.png").text
    assert f"Correct {setting}." in caplog.text


@pytest.mark.parametrize(
    ("name", "address"), [("one", "ONE_CLOUDINARY_UPLOAD_PREFIX"), ("three", "THREE_IMAGEKIT_BASE_URL")]
)
@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "nowhere.invalid"])
def test_without_a_connection_no_file_is_named_as_left_behind(
    make_app: MakeApp, settings: dict[str, str], caplog: pytest.LogCaptureFixture, name: str, address: str, host: str
) -> None:
    app = app_with_a_form(make_app, {**settings, address: f"http://{host.format(port=free_ports(1)[0])}"}, name)
    answer = upload(app, PNG, "photo.png")
    assert (answer.status_code, answer.text) == (503, f"503: {NOT_AVAILABLE}")
    assert "cannot be reached" in caplog.text
    assert not [line for line in caplog.messages if "may be left" in line or "could not be deleted" in line]


@pytest.mark.parametrize("name", ["one", "three"])
def test_a_file_that_may_be_left_behind_is_named_in_the_log_and_not_to_visitors(
    make_app: MakeApp,
    settings: dict[str, str],
    cloudinary: FakeCloudinary,
    imagekit: FakeImageKit,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    app = app_with_a_form(make_app, settings, name)
    for fake in (cloudinary, imagekit):
        fake.fail(service.lost, on="upload")
        fake.fail(service.status(503), times=99)
    answer = upload(app, PNG, "photo.png")
    assert (answer.status_code, answer.text) == (503, f"503: {NOT_AVAILABLE}")
    assert re.search(r"These files may be left in the store: \w+-photo\.png\.", caplog.text)


def test_twelve_threads_on_two_accounts_of_each_service_mix_no_files(
    make_app: MakeApp, settings: dict[str, str], cloudinary: FakeCloudinary, imagekit: FakeImageKit
) -> None:
    uploads = [Uploads(name=name) for name in ("one", "two", "three", "four")]
    app: Flask = make_app(uploads[0], **settings)
    for other in uploads[1:]:
        other.init_app(app)

    def round_trip(number: int) -> tuple[str, str, bool]:
        mine = uploads[number % 4]
        content = PNG + f"{mine.name} {number}".encode()
        with app.app_context():
            path = mine.save(content, filename=f"{mine.name}.png", folder=f"n{number % 3}")
            with mine.open(path) as stream:
                return mine.name, path.key, stream.read() == content

    with ThreadPoolExecutor(12) as pool:
        done = list(pool.map(round_trip, range(240)))
    assert [right for _, _, right in done].count(False) == 0
    with app.app_context():
        for one in uploads:
            assert {entry.key for entry in one.backend.entries()} == {key for name, key, _ in done if name == one.name}
    kept = {name: account.assets.values() for name, account in cloudinary.accounts.items()}
    assert all(name.encode() in asset.data for name, assets in kept.items() for asset in assets)
    files = {name: account.files.values() for name, account in imagekit.accounts.items()}
    assert all(name.encode() in file.data for name, stored in files.items() for file in stored)
