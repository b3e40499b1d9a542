"""What the README and the pages of ``docs/`` say agrees with the code, and every block in them is tested."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import flask_persistent_uploads
from flask_persistent_uploads import Uploads, errors, parsers
from flask_persistent_uploads.operations.bucket import CORS_RULE
from flask_persistent_uploads.operations.platform import PLATFORMS

from ..servers import ROOT
from ..settings_table import PAGE as SETTINGS_PAGE
from ..settings_table import all_settings, with_tables
from .pages import BLOCKS, PAGES, block, blocks_in, request_in_memory

README_WORDS = 900


def test_every_block_names_its_language() -> None:
    assert {each.language for each in BLOCKS} <= {"python", "sh", "html", "json", "text"}
    assert len(BLOCKS) * 2 == sum(len(re.findall(r"^ *```", text, re.MULTILINE)) for text in PAGES.values())


def test_every_block_of_python_json_and_text_is_used_by_a_test() -> None:
    """All blocks of shell commands are tested together, and so are all blocks of HTML."""
    calls = [
        tuple(str(argument.value) for argument in node.args if isinstance(argument, ast.Constant))
        for file in Path(__file__).parent.glob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "block"
    ]
    used = {(call[0], block(*call)) for call in calls if len(call) == 2}
    assert {(each.page, each.text) for each in blocks_in("python", "json", "text")} <= used


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].split()) <= README_WORDS


def test_the_promised_make_targets_exist() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = {name for text in PAGES.values() for name in re.findall(r"`make (\w+)`", text)}
    assert {"demo", "test", "soak", "bench"} <= named <= set(targets)


def test_the_tree_of_errors_is_the_one_of_the_code() -> None:
    assert errors.__doc__
    tree = [line[4:] for line in errors.__doc__.splitlines() if line.startswith("    ")]
    assert block("docs/errors.md", "UploadsError\n").splitlines() == tree


def test_the_cors_rule_is_the_one_that_setup_adds() -> None:
    assert json.loads(block("docs/javascript.md", "AllowedOrigins")) == [dict(CORS_RULE)]


def test_every_public_name_has_a_paragraph() -> None:
    methods = [name for name in vars(Uploads) if not name.startswith("_")]
    names = [*flask_persistent_uploads.__all__, *(f"uploads.{name}" for name in methods), "uploads.name"]
    assert sorted(re.findall(r"^### `([\w.]+)`$", PAGES["docs/api.md"], re.MULTILINE)) == sorted(names)


def test_the_endpoints_exist() -> None:
    rows = re.findall(r"^\| `(persistent_\w+\.\w+)` \| `GET (\S+)` \|$", PAGES["docs/api.md"], re.MULTILINE)
    assert len(rows) == 2
    with request_in_memory() as app:
        rules = {(rule.endpoint, re.sub(r"<path:(\w+)>", r"<\1>", rule.rule)) for rule in app.url_map.iter_rules()}
    assert set(rows) <= rules
    assert ("persistent_documents.file", "/documents/<path>") in rules


def test_the_tables_of_settings_are_those_of_the_code() -> None:
    assert SETTINGS_PAGE.read_text() == with_tables(SETTINGS_PAGE.read_text()), "run: make docs"
    assert [setting.name for setting in all_settings() if not setting.help] == []


def test_every_variable_that_is_named_exists() -> None:
    known = {setting.name.upper() for setting in all_settings()} | {"SHELF_LABEL"}
    native = {name for setting in all_settings() for name in setting.native_parsers}
    for page, text in PAGES.items():
        assert set(re.findall(r"\b(?:UPLOADS|DOCUMENTS|OLD)_([A-Z0-9_]+)", text)) <= known, page
        assert set(re.findall(r"\b(?:AWS|S3|CLOUDINARY|IMAGEKIT|IMAGE_KIT)_[A-Z0-9_]+", text)) <= native, page


def test_the_table_of_hosts_tells_what_the_code_knows() -> None:
    lines = re.findall(r"^\| [^|]+ \| `[a-z-]+` \|.*$", PAGES["docs/hosts.md"], re.MULTILINE)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [name for _, name, *_ in rows] == [f"`{platform.id}`" for platform in PLATFORMS]
    for platform, (*_, seconds, size) in zip(PLATFORMS, rows, strict=True):
        found = re.match(r"(\d+) s", seconds)
        assert (int(found[1]) if found else None) == platform.max_seconds, platform.id
        assert ("?" in seconds) == ("max_seconds" in platform.unverified), platform.id
        found = re.match(r"[\d.]+ Mi?B", size)
        assert (parsers.size(found[0]) if found else None) == platform.max_body, platform.id
        assert ("?" in size) == ("max_body" in platform.unverified), platform.id


# -- links


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_every_page_can_be_reached_from_the_index() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)", PAGES["docs/index.md"]))
    assert linked == {Path(page).name for page in PAGES} - {"README.md", "index.md"}
    for path in re.findall(r"`(examples/[\w-]+)`", "".join(PAGES.values())):
        assert (ROOT / path).is_dir(), path
