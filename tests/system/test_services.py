"""An app on Cloudinary and ImageKit: what they refuse reaches its users in words, and accounts never mix."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from flask_persistent_uploads import Uploads, save_uploads

from ..conftest import PNG, MakeApp
from ..fakes import service
from ..fakes.cloudinary import FakeCloudinary
from ..fakes.imagekit import FakeImageKit

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
        fake.add("three", "private_3", "public_3")
        fake.add("four", "private_4", "public_4")
        yield fake


@pytest.fixture
def settings(cloudinary: FakeCloudinary, imagekit: FakeImageKit) -> dict[str, str]:
    """Four accounts, each of an ``Uploads`` of its own name."""
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


@pytest.mark.parametrize("name", ["one", "three"])
@pytest.mark.parametrize(
    ("prepare", "content", "status", "says"),
    [
        (a_small_plan, PNG + b"x" * 2000, 413, "'photo.png' is refused: It is too large for this"),
        (a_small_plan, b"", 415, "'photo.csv' is empty"),
        (other_credentials, PNG, 502, "did not take the credentials"),
        (out_of_calls, PNG, 503, "limit of calls is reached"),
    ],
    ids=["too large", "empty", "credentials", "rate limit"],
)
def test_what_a_service_refuses_is_answered_in_words(
    make_app: MakeApp,
    settings: dict[str, str],
    cloudinary: FakeCloudinary,
    imagekit: FakeImageKit,
    caplog: pytest.LogCaptureFixture,
    name: str,
    prepare: Prepare,
    content: bytes,
    status: int,
    says: str,
) -> None:
    app = make_app(Uploads(name=name), **settings)

    @app.post("/")
    def save() -> str:
        return str(save_uploads(name=name)["photo"])

    @app.errorhandler(HTTPException)
    def answer(error: HTTPException) -> Response:
        return Response(f"{error.code}: {error.description}", error.code)

    prepare(cloudinary, imagekit)
    filename = "photo.png" if content else "photo.csv"
    told = app.test_client().post("/", data={"photo": (io.BytesIO(content), filename)})
    assert (told.status_code, says in told.text) == (status, True), told.text
    assert not any(
        secret in f"{told.text} {caplog.text}" for secret in ("secret-1", "private_3", "changed", "signature")
    )
    assert not any(account.assets for account in cloudinary.accounts.values())
    assert not any(account.files for account in imagekit.accounts.values())


def test_twelve_threads_on_two_accounts_of_each_service_at_once_cross_nothing(
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
