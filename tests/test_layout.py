"""The layout that the design prescribes: imports point downwards, and no room is too big to read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import flask_persistent_uploads
from flask_persistent_uploads.config import variable

PACKAGE = Path(flask_persistent_uploads.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

#: From the bottom to the top. A module imports only from its own room and from those before it.
ROOMS = (
    "errors",
    "log",
    "parsers",
    "text",
    "signals",
    "content_types",
    "stored",
    "keys",
    "references",
    "config",
    "backends",
    "intake",
    "operations",
    "serving",
    "cli",
    "assembly",
    "extension",
    "testing",
    "",  # the package itself
)

MAX_LINES = {"module": 350, "class": 250, "function": 40}


def name_of(path: Path) -> str:
    """The name of a module below the package: ``backends.s3.backend``; empty for the package itself."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


NAMES = {name_of(path): path for path in MODULES}


def imports_of(path: Path) -> set[str]:
    """The modules of the package that a module imports anywhere: at its top, in a function, or for typing."""
    parts = name_of(path).split(".") if name_of(path) else []
    package = parts if path.name == "__init__.py" else parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                below = ".".join([*base, alias.name])
                found.add(below if below in NAMES else ".".join(base))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not any(name.startswith("flask_persistent_uploads") for name in names), "imports are relative"
    return found - {name_of(path)}


def sizes(path: Path) -> Iterator[tuple[str, str, int]]:
    """Kind, name and number of lines of a module, its classes and its functions; a function without its docstring."""
    text = path.read_text()
    yield "module", name_of(path), text.count("\n")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            yield "class", node.name, (node.end_lineno or 0) - node.lineno + 1
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield "function", node.name, (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_every_module_has_a_room() -> None:
    assert {name.split(".")[0] for name in NAMES} == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downwards(path: Path) -> None:
    room = name_of(path).split(".")[0]
    upwards = {name for name in imports_of(path) if ROOMS.index(name.split(".")[0]) > ROOMS.index(room)}
    assert not upwards


def test_no_modules_import_each_other_in_a_circle() -> None:
    order = [*TopologicalSorter({name: imports_of(path) for name, path in NAMES.items()}).static_order()]
    assert len(order) == len(NAMES)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_too_long_to_read(path: Path) -> None:
    too_long = [(kind, name, lines) for kind, name, lines in sizes(path) if lines > MAX_LINES[kind]]
    assert not too_long


def test_there_is_one_logger() -> None:
    assert [name for name, path in NAMES.items() if "getLogger(" in path.read_text()] == ["log"]


def test_the_names_of_variables_are_made_in_one_place() -> None:
    glue = re.compile(r"upper\(\)\}_|UPLOADS_\{|\+ ?\"_\"")
    assert [name for name, path in NAMES.items() if glue.search(path.read_text())] == []
    assert variable("documents", "s3_bucket") == "DOCUMENTS_S3_BUCKET"
