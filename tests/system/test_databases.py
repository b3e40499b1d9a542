"""Every database driver stores a path like any ``str``, and the text that it returns leads to the file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

import psycopg
import psycopg2
import pytest
import sqlalchemy
from flask import Flask
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from flask_persistent_uploads import StoredFile, Uploads

from ..conftest import PNG, MakeApp


@pytest.fixture
def uploads() -> Uploads:
    return Uploads()


@pytest.fixture
def app(make_app: MakeApp, uploads: Uploads) -> Iterator[Flask]:
    app = make_app(uploads, UPLOADS_BACKEND="memory")
    with app.app_context():
        yield app


@pytest.fixture
def paths(app: Flask, uploads: Uploads) -> list[StoredFile]:
    return [uploads.save(PNG, filename=f"it's {number}, %s.png") for number in range(3)]


def leads_to_the_file(app: Flask, path: object) -> bool:
    assert type(path) is str
    answer = app.test_client().get(f"/{path}", buffered=True)
    return answer.status_code == 200 and answer.data == PNG


def test_sqlite3_returns_paths_that_lead_to_the_files(app: Flask, paths: list[StoredFile]) -> None:
    with sqlite3.connect(":memory:") as database:
        database.execute("create table report (photo text, photos text, details text)")
        database.execute("insert into report values (?, ?, ?)", (paths[0], ",".join(paths), json.dumps(paths)))
        photo, photos, details = database.execute("select * from report where photo = ?", (paths[0],)).fetchone()
    database.close()
    assert leads_to_the_file(app, photo)
    assert all(leads_to_the_file(app, path) for path in [*photos.split(","), *json.loads(details)])


class Base(DeclarativeBase):
    pass


class Report(Base):
    __tablename__ = "report_orm"
    id: Mapped[int] = mapped_column(primary_key=True)
    photo: Mapped[str] = mapped_column(sqlalchemy.String(255))
    details: Mapped[list[str]] = mapped_column(sqlalchemy.JSON)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql+psycopg", "postgresql+psycopg2"])
def test_sqlalchemy_returns_paths_that_lead_to_the_files(
    app: Flask, paths: list[StoredFile], request: pytest.FixtureRequest, dialect: str
) -> None:
    address = "sqlite://"
    if dialect != "sqlite":
        uri: str = request.getfixturevalue("postgres")
        address = uri.replace("postgresql", dialect, 1)
    engine = sqlalchemy.create_engine(address)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Report(photo=paths[0], details=paths))
        session.commit()
    with Session(engine) as session:
        report = session.scalars(sqlalchemy.select(Report).where(Report.photo == paths[0])).one()
        assert leads_to_the_file(app, report.photo)
        assert all(leads_to_the_file(app, path) for path in report.details)
    engine.dispose()


def test_psycopg_returns_paths_that_lead_to_the_files(app: Flask, postgres: str, paths: list[StoredFile]) -> None:
    with psycopg.connect(postgres) as database:
        database.execute("create temporary table report (photo varchar(255), photos text[])")
        database.execute("insert into report values (%s, %s)", (paths[0], list(paths)))
        row = database.execute("select photo, photos from report where photo = %s", (paths[0],)).fetchone()
    assert row is not None
    assert leads_to_the_file(app, row[0])
    assert all(leads_to_the_file(app, path) for path in row[1])


def test_psycopg2_returns_paths_that_lead_to_the_files(app: Flask, postgres: str, paths: list[StoredFile]) -> None:
    database = psycopg2.connect(postgres)
    with database.cursor() as cursor:
        cursor.execute("create temporary table report (photo varchar(255), photos text[])")
        cursor.execute("insert into report values (%s, %s)", (paths[0], list(paths)))
        cursor.execute("select photo, photos from report where photo = %s", (paths[0],))
        row = cursor.fetchone()
    database.close()
    assert row is not None
    assert leads_to_the_file(app, row[0])
    assert all(leads_to_the_file(app, path) for path in row[1])
