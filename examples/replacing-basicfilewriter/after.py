"""The same app with the extension: ``Uploads(app)`` and an import replace the route and the function."""

import os
import sqlite3

from flask import Flask, Response, jsonify, request

from flask_persistent_uploads import Uploads
from flask_persistent_uploads import save_uploads as basicFileWriter

app = Flask(__name__)
Uploads(app)
DATABASE = os.environ.get("DATABASE", "reports.db")


@app.post("/reports")
def create_report() -> tuple[Response, int]:
    paths = basicFileWriter()
    photos = ",".join(paths.values())
    with sqlite3.connect(DATABASE) as database:
        database.execute("create table if not exists report (name text, photo text, photos text)")
        row = (request.form.get("name", ""), paths.get("photo"), photos)
        database.execute("insert into report values (?, ?, ?)", row)
    return jsonify({"status": "created", "files": paths}), 201


@app.get("/reports")
def list_reports() -> Response:
    with sqlite3.connect(DATABASE) as database:
        database.execute("create table if not exists report (name text, photo text, photos text)")
        rows = database.execute("select name, photo, photos from report").fetchall()
    return jsonify([{"name": name, "photo": photo, "photos": photos.split(",")} for name, photo, photos in rows])
