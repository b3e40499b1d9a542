"""The table of content types, the types that browsers may show, and the header that names a download."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_options_header

from flask_persistent_uploads import content_types


def test_the_table_has_each_extension_once() -> None:
    tree = ast.parse(Path(content_types.__file__).read_text())
    (table,) = (node for node in ast.walk(tree) if isinstance(node, ast.Dict))
    names = Counter(key.value for key in table.keys if isinstance(key, ast.Constant))
    assert names == Counter(list(content_types.BY_EXTENSION))


def test_the_table_is_in_lower_case_and_without_parameters() -> None:
    for extension, content_type in content_types.BY_EXTENSION.items():
        assert re.fullmatch(r"[a-z0-9]{1,16}", extension)
        assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+", content_type)


@pytest.mark.parametrize(
    ("name", "extension", "content_type"),
    [
        ("x.webp", "webp", "image/webp"),
        ("reports/photo.JPG", "jpg", "image/jpeg"),
        ("a.tar.gz", "gz", "application/gzip"),
        ("a.php.png", "png", "image/png"),
        ("x.unheard", "unheard", content_types.UNKNOWN),
        ("noext", "", content_types.UNKNOWN),
        ("x.", "", content_types.UNKNOWN),
        ("", "", content_types.UNKNOWN),
        ("v1.0/png", "", content_types.UNKNOWN),
    ],
)
def test_the_extension_of_the_last_segment_claims_the_type(name: str, extension: str, content_type: str) -> None:
    assert content_types.extension(name) == extension
    assert content_types.of_name(name) == content_type


# -- types that browsers show

SHOWN = {"jpg", "jpeg", "jpe", "jfif", "png", "gif", "webp", "avif", "pdf", "mp4", "m4v", "webm", "mp3", "txt"}


def test_exactly_these_extensions_are_shown_by_browsers() -> None:
    assert {name for name, kind in content_types.BY_EXTENSION.items() if kind in content_types.INLINE} == SHOWN


def test_every_type_that_browsers_show_is_in_the_table() -> None:
    assert set(content_types.BY_EXTENSION.values()) >= content_types.INLINE


@pytest.mark.parametrize("content_type", ["image/svg+xml", "text/html", "application/xml", "text/javascript", "", "*"])
def test_a_type_that_may_hold_scripts_is_never_shown(content_type: str) -> None:
    assert content_type not in content_types.INLINE


# -- the header of a download

NAMES = [
    *("plan (1).pdf", 'a"b.html', 'a"; filename="evil.exe', "a\r\nX-Evil: 1.html", "a\0.html", "a\\b.html", "a;b.html"),
    *(
        "图片.svg",
        "Crème.svg",
        "x\u202egnp.exe",
        "a\u2028b.html",
        "100%25.svg",
        "a'b.html",
        "../../etc/passwd",
        "😀",
    ),
]


@pytest.mark.parametrize("filename", NAMES)
def test_any_download_name_fits_into_one_plain_header(filename: str) -> None:
    header = content_types.attachment(filename)
    assert re.fullmatch(r"attachment; filename=\"[A-Za-z0-9 ._()-]+\"(; filename\*=UTF-8''[A-Za-z0-9._~%-]*)?", header)
    kind, options = parse_options_header(header)
    assert kind == "attachment"
    assert options == {"filename": filename}


def test_a_browser_without_rfc_8187_gets_the_nearest_plain_name() -> None:
    assert content_types.attachment("Crème;.svg").startswith('attachment; filename="Creme.svg"; ')
    assert content_types.attachment("图片").startswith('attachment; filename="download"; ')


@given(st.text(min_size=1))
def test_no_name_breaks_out_of_the_header(filename: str) -> None:
    header = content_types.attachment(filename)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
    assert parse_options_header(header) == ("attachment", {"filename": filename})
