"""The README and the pages of ``docs/`` as tests see them: their texts, and the blocks of code in them."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flask import Flask

from flask_persistent_uploads import Uploads

from ..conftest import PNG
from ..servers import ROOT

#: The text of each page, by its path.
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page, with the language that its fence names."""

    page: str
    language: str
    text: str


BLOCKS = tuple(
    Block(page, language, text)
    for page, content in PAGES.items()
    for language, text in re.findall(r"^ *```([^\n]*)\n(.*?)^ *```$", content, re.MULTILINE | re.DOTALL)
)


def block(page: str, containing: str) -> str:
    """Return the one block of a page that contains this text."""
    (found,) = [each.text for each in BLOCKS if each.page == page and containing in each.text]
    return found


def run(code: str, **names: Any) -> dict[str, Any]:
    """Run a block of Python as a module, and return its names."""
    module = {"__name__": "documentation", **names}
    exec(compile(code, "documentation", "exec"), module)
    return module


def blocks_in(*languages: str) -> list[Block]:
    return [each for each in BLOCKS if each.language in languages]


def readme_app() -> Flask:
    """Return the first app of the README."""
    app: Flask = run(block("README.md", "def create_app"))["create_app"]()
    return app


def uploads_of(app: Flask, name: str = "uploads") -> Uploads:
    found: Uploads = app.extensions["flask_persistent_uploads"][name].uploads
    return found


@contextlib.contextmanager
def request_in_memory() -> Iterator[Flask]:
    """Yield an app whose ``uploads`` and ``documents`` are in memory, within a request."""
    app = Flask("documentation")
    app.secret_key = "x"
    app.config.update(UPLOADS_BACKEND="memory", DOCUMENTS_BACKEND="memory")
    Uploads(app)
    Uploads(app, name="documents")
    with app.test_request_context():
        yield app


def picture(name: str = "event.png", content: bytes = PNG) -> tuple[io.BytesIO, str]:
    """Return a file as the test client sends it."""
    return io.BytesIO(content), name
