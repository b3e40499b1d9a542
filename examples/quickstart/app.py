"""A form and a list of pictures. Run it with: flask --app app run"""

from flask import Flask, redirect, render_template_string
from werkzeug.wrappers import Response

from flask_persistent_uploads import Uploads, save_uploads

PAGE = """<!doctype html>
<title>Pictures</title>
<form method="post" enctype="multipart/form-data">
  <input type="file" name="pictures" accept="image/*" multiple required> <button>Upload</button>
</form>
{% for picture in pictures %}<p><img src="{{ upload_url(picture.key) }}" alt="" height="200">{% endfor %}
"""

uploads = Uploads()


def create_app() -> Flask:
    app = Flask(__name__)
    uploads.init_app(app)

    @app.get("/")
    def index() -> str:
        newest_first = sorted(uploads.entries(), key=lambda entry: entry.modified, reverse=True)
        return render_template_string(PAGE, pictures=newest_first)

    @app.post("/")
    def upload() -> Response:
        save_uploads("pictures", allow="image/*")
        return redirect("/", code=303)

    return app
