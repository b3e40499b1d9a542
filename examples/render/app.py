"""Reports with a photo each. The settings decide where photos are kept; DATABASE_URL names the database of the rows.

Both must survive a deploy. A SQLite file on a disk that is wiped is lost like the photos would be. So set DATABASE_URL
to a PostgreSQL database or, with a persistent disk, to a SQLite file on that disk. Leave it out in development only.
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
    photo: Mapped[str]  # the path that save_uploads returned: "uploads/reports/…"


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 20_000_000  # the whole form; UPLOADS_MAX_SIZE limits the photo in it
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
            uploads.delete(paths["photo"])  # no row names it
            raise
        return redirect("/", code=303)

    @app.errorhandler(HTTPException)
    def show_error(error: HTTPException) -> Response:
        text = error.description
        if isinstance(error, RequestEntityTooLarge) and not isinstance(error, UploadRejected):
            text = "This is too large. Choose a smaller photo."  # Werkzeug's own error, above MAX_CONTENT_LENGTH
        response = Response(render_template_string(PAGE, error=text), error.code, mimetype="text/html")
        if "Retry-After" in (headers := error.get_response().headers):
            response.headers["Retry-After"] = headers["Retry-After"]
        return response

    return app


def database() -> Engine:
    url = os.environ.get("DATABASE_URL") or "sqlite:///reports.db"
    for scheme in ("postgres://", "postgresql://"):  # hosts write these; name the driver
        if url.startswith(scheme):
            url = url.replace(scheme, "postgresql+psycopg://", 1)
    engine = create_engine(url, pool_pre_ping=True)  # hosts close idle connections
    try:
        Base.metadata.create_all(engine)
    except DBAPIError:  # at the first start, another worker created the table after this one had looked for it
        Base.metadata.create_all(engine)
    return engine
