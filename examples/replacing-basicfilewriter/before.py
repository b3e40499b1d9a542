"""An app that calls ``file.save()``. When a deploy wipes the disk, its database still has the paths of lost files."""

import os
import sqlite3
import uuid

from flask import Flask, Response, jsonify, request, send_from_directory

app = Flask(__name__)
app.config["UPLOAD_FOLDER"] = "uploads"
DATABASE = os.environ.get("DATABASE", "reports.db")


def basicFileWriter() -> dict[str, str]:
    os.makedirs(app.config["UPLOAD_FOLDER"], exist_ok=True)
    paths = {}
    for field, file in request.files.items():
        if file.filename:
            path = os.path.join("uploads", str(uuid.uuid4()) + file.filename)
            file.save(path)
            paths[field] = path
    return paths


@app.get("/uploads/<path:filename>")
def uploaded_file(filename: str) -> Response:
    return send_from_directory(os.path.abspath(app.config["UPLOAD_FOLDER"]), filename)


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
