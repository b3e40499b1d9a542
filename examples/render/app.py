"""Reports with a photo each. Files are kept where UPLOADS_… says, and rows in the database of DATABASE_URL.

Both must outlive the machine: a SQLite file on a disk that is wiped is as lost as the photos would be. So DATABASE_URL
is a PostgreSQL or, with a persistent disk, a SQLite file on that disk; only in development it may be left out.
"""

import os

from flask import Flask, abort, redirect, render_template_string, request
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Response

from flask_persistent_uploads import UploadRejected, Uploads, save_uploads

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Reports</title>
<style>
  body { max-width: 40rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 sans-serif }
  label, input, button { display: block; font: inherit; margin: .25rem 0 }
  img { max-width: 100%; max-height: 20rem }
  [role=alert] { padding: .5rem 1rem; border-left: .25rem solid #b00020 }
</style>
<main>
  <h1><a href="/">Reports</a></h1>
  {% if error %}<p role="alert">{{ error }}</p>{% endif %}
  <form action="/" method="post" enctype="multipart/form-data">
    <label for="title">What happened?</label>
    <input id="title" name="title" required maxlength="200">
    <label for="photo">Photo</label>
    <input id="photo" name="photo" type="file" accept="image/*" required>
    <button>Send</button>
  </form>
  {% for report in reports %}
  <article>
    <h2>{{ report.title }}</h2>
    <img src="{{ upload_url(report.photo) }}" alt="Photo: {{ report.title }}" loading="lazy">
  </article>
  {% endfor %}
</main>
</html>
"""

uploads = Uploads()


class Base(DeclarativeBase):
    pass


class Report(Base):
    __tablename__ = "report"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    photo: Mapped[str]  # the path that save_uploads gave: "uploads/reports/…"


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 20_000_000  # the whole form; UPLOADS_MAX_SIZE bounds the photo in it
    uploads.init_app(app)
    engine = database()

    @app.get("/")
    def index() -> str:
        with Session(engine) as session:
            newest = session.scalars(select(Report).order_by(Report.id.desc()).limit(50)).all()
        return render_template_string(PAGE, reports=newest)

    @app.post("/")
    def create_report() -> Response:
        title = request.form.get("title", "").strip()
        if not 0 < len(title) <= 200:
            abort(400, "Write what happened, in at most 200 characters.")
        paths = save_uploads("photo", folder="reports", allow="image/*")
        if "photo" not in paths:
            abort(400, "Choose a photo.")
        try:
            with Session(engine) as session, session.begin():
                session.add(Report(title=title, photo=paths["photo"]))
        except SQLAlchemyError:
            uploads.delete(paths["photo"])  # without a row, nobody would ever find it
            raise
        return redirect("/", code=303)

    @app.errorhandler(HTTPException)
    def say_it_in_words(error: HTTPException) -> Response:
        words = error.description
        if error.code is not None and error.code >= 500:  # what it says is for who runs the app, and in the log
            words = "Your report could not be saved. Try again in a while."
        if isinstance(error, RequestEntityTooLarge) and not isinstance(error, UploadRejected):
            words = "This is too large: choose a smaller photo."  # Werkzeug's own, beyond MAX_CONTENT_LENGTH
        answer = Response(render_template_string(PAGE, error=words), error.code, mimetype="text/html")
        if "Retry-After" in (told := error.get_response().headers):
            answer.headers["Retry-After"] = told["Retry-After"]
        return answer

    return app


def database() -> Engine:
    url = os.environ.get("DATABASE_URL") or "sqlite:///reports.db"
    for scheme in ("postgres://", "postgresql://"):  # as hosts write it; the driver is the one in requirements.txt
        if url.startswith(scheme):
            url = url.replace(scheme, "postgresql+psycopg://", 1)
    engine = create_engine(url, pool_pre_ping=True)  # a host closes connections that are idle for long
    try:
        Base.metadata.create_all(engine)
    except DBAPIError:  # at the very first start another worker made the table between our look and our making
        Base.metadata.create_all(engine)
    return engine
