"""Paths as browsers and attackers send them over real sockets, to files on a disk and in S3."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from ..conftest import PNG
from ..servers import BUCKET, Gunicorn, S3Server
from ..serving.test_routes import LEGACY, NOT_SERVED
from .client import fetch, once
from .test_redeploy import APP

SECRET = b"a file beside the uploads"


@pytest.fixture(scope="module", params=["local", "s3"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server
) -> Iterator[Gunicorn]:
    """Start an app with the files of an older app, and a secret file beside them."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "uploads").mkdir()
    (folder / "secret").write_bytes(SECRET)
    for key in LEGACY.values():
        if request.param == "local":
            (folder / "uploads" / key).write_bytes(PNG + key.encode())
        else:
            s3_server.client().put_object(Bucket=BUCKET, Key=f"uploads/{key}", Body=PNG + key.encode())
    local = {"UPLOADS_DIR": str(folder / "uploads")}
    environment = local if request.param == "local" else s3_server.environment()
    with Gunicorn(APP, environment=environment, folder=folder) as server:
        yield server


@pytest.mark.parametrize(("asked", "key"), LEGACY.items())
def test_paths_of_older_apps_are_served(server: Gunicorn, asked: str, key: str) -> None:
    for path in (f"/uploads/{quote(asked)}", f"/uploads/{quote(asked)}?t=1700000000"):
        assert fetch(server.url + path).data == PNG + key.encode()


@pytest.mark.parametrize(
    "path", [*NOT_SERVED, "/uploads/../../secret", "/uploads%5c..%5csecret", "/uploads/x/../../secret"]
)
def test_only_uploads_are_served(server: Gunicorn, path: str) -> None:
    first = once(server.url, "GET", path)
    final = fetch(server.url + path) if first.status == 302 else first
    assert final.status == (404 if len(path) < 4000 else 414)  # the answer of gunicorn itself
    assert SECRET not in final.data
    assert first.headers.get("Location", "http://127.0.0.1").startswith("http://127.0.0.1")
