"""The environment alone chooses the backend: the same database works with each of them."""

from __future__ import annotations

import contextlib
import io
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from flask_persistent_uploads import Uploads, keys
from flask_persistent_uploads.testing import ODD_KEYS, sample

from ..conftest import BACKENDS, MakeApp
from ..fakes.cloudinary import FakeCloudinary
from ..fakes.imagekit import FakeImageKit
from ..servers import S3Server
from .client import fetch

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
BEGINNINGS = {"jpg": JPEG, "jpeg": JPEG, "gif": b"GIF89a\x01\x00\x01\x00\x00\x00\x00"}
NAMES = ("photo.png", "Event 3.webp", "scan.jpg", "Foto (1).jpeg", "anim.gif", "paper.pdf", "table.csv", "notes.txt")


def content_of(key: str) -> bytes:
    return BEGINNINGS.get(key.rpartition(".")[2], b"") + sample(key)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Return 200 files with new keys of all kinds and with names of older apps."""
    new = [keys.new(name, folder=folder) for name in NAMES for folder in ("", "reports", "a.b/c_d") for _ in range(6)]
    legacy = [f"{folder}{odd}" for odd in ODD_KEYS for folder in ("", "alt/", "Ü/")]
    every = [*new, *legacy, *(f"3b53b755-9895-4761-a52c-a521a9d7ec7a {n}&.png" for n in range(8))]
    assert len({*every}) == len(every) == 200
    return {key: content_of(key) for key in every}


@pytest.fixture(scope="module")
def environments(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, str]]]:
    """Return for each backend the variables that its operator sets, for an empty store."""
    s3_server.client().create_bucket(Bucket="switch")
    with FakeCloudinary() as cloudinary, FakeImageKit() as imagekit:
        cloudinary.add()
        imagekit.add()
        yield {
            "memory": {"UPLOADS_BACKEND": "memory"},
            "local": {"MEDIA_ROOT": str(tmp_path_factory.mktemp("media"))},
            "s3": s3_server.environment(UPLOADS_S3_BUCKET="switch"),
            "cloudinary": {
                "CLOUDINARY_URL": "cloudinary://key:secret@demo",
                "CLOUDINARY_UPLOAD_PREFIX": cloudinary.url,
                "UPLOADS_PUBLIC_URL": f"{cloudinary.url}/demo",
            },
            "imagekit": {
                "IMAGEKIT_PRIVATE_KEY": "private_x",
                "IMAGEKIT_URL_ENDPOINT": f"{imagekit.url}/ik/demo",
                "IMAGE_KIT_BASE_URL": imagekit.url,
            },
        }


@pytest.fixture(scope="module")
def database(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a table of paths once, before any backend is chosen."""
    path = tmp_path_factory.mktemp("database") / "app.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table photos (path text)")
        connection.executemany("insert into photos values (?)", [(f"uploads/{key}",) for key in files])
    return path


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_rows_lead_to_the_files_on_every_backend(
    backend: str,
    files: dict[str, bytes],
    database: Path,
    environments: dict[str, dict[str, str]],
    make_app: MakeApp,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environments[backend].items():
        monkeypatch.setenv(name, value)
    uploads = Uploads()
    app = make_app(uploads)
    before = database.read_bytes()
    with app.app_context():
        assert uploads.backend.name == backend
        for key, content in files.items():
            uploads.backend.save(key, io.BytesIO(content), content_type="x/y", size=len(content), filename=key)
        assert sorted(entry.key for entry in uploads.backend.entries()) == sorted(files)
        with contextlib.closing(sqlite3.connect(database)) as connection:
            rows = [path for (path,) in connection.execute("select path from photos")]
        for path in rows:
            with uploads.open(path) as stream:
                assert stream.read() == files[path.removeprefix("uploads/")]
    client = app.test_client()
    served = {}
    for path in rows:
        answer = client.get(f"/{quote(path)}", buffered=True)
        final = fetch(answer.headers["Location"]).data if answer.status_code == 302 else answer.data
        served[path.removeprefix("uploads/")] = final
    assert served == files
    assert database.read_bytes() == before
