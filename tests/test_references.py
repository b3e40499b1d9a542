"""Every spelling of a path that a database or a URL may hold leads to the right key, or is refused."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flask_persistent_uploads import InvalidKey, keys, references

from .test_keys import RESERVED, any_text, is_key

any_key = st.lists(
    st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/\\"), min_size=1, max_size=20),
    min_size=1,
    max_size=6,
).map("/".join)


# -- parse_one


@pytest.mark.parametrize(
    "reference",
    [
        *(
            "x.png",
            "x.png?t=1700000000",
            "uploads/x.png",
            "uploads/x.png?t=1",
            "uploads\\x.png",
            "uploads/uploads/x.png",
        ),
        *("/uploads/x.png", "/uploads/x.png?t=1", "/uploads/x.png#top", "\\uploads\\x.png", "/uploads/uploads/x.png"),
        *("https://any.host/uploads/x.png", "http://any.host:8080/app/uploads/x.png?v=2&w=3", "//cdn/uploads/x.png"),
        *("https://any.host/%75ploads/x%2Epng", "/uploads/x%2epng"),
    ],
)
def test_every_spelling_names_the_same_file(reference: str) -> None:
    assert references.parse_one(reference) == "x.png"


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        ("/uploads/EVENT%203.webp", "EVENT 3.webp"),
        ("https://any.host/uploads/%E5%9B%BE%20(1).png", "图 (1).png"),
        ("/uploads/100%2525.png", "100%25.png"),
        ("uploads/100%25.png", "100%25.png"),
        ("uploads\\reports\\x.png", "reports/x.png"),
        ("what?.png", "what?.png"),
        ("uploads/what?.png", "what?.png"),
        ("/uploads/what%3F.png", "what?.png"),
        ("reports/uploads/x.png", "reports/uploads/x.png"),
    ],
)
def test_a_url_is_decoded_once_and_a_path_is_taken_literally(reference: str, key: str) -> None:
    assert references.parse_one(reference) == key


def test_the_prefixes_come_from_the_settings() -> None:
    for reference in ("media/x.png", "/files/x.png", "https://any.host/files/x.png", "https://bucket/media/x.png"):
        assert references.parse_one(reference, prefix="media", url_prefix="/files") == "x.png"
    assert references.parse_one("uploads/x.png", prefix="media", url_prefix="/files") == "uploads/x.png"


@given(any_key)
def test_the_url_of_a_key_leads_back_to_it(key: str) -> None:
    assume(is_key(key))
    assume(not key.startswith("uploads/"))
    assert references.parse_one(f"/uploads/{quote(key)}") == key
    assert references.parse_one(f"https://any.host/uploads/{quote(key)}?t=1") == key


@given(st.text(st.characters(), max_size=20).map(keys.new))
def test_every_spelling_of_a_new_key_leads_to_it(key: str) -> None:
    spelled = (key, f"uploads/{key}", f"/uploads/{key}", f"https://any.host/uploads/{key}?t=1", f"uploads\\{key}")
    assert {references.parse_one(spelling) for spelling in spelled} == {key}


# -- parse


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (None, []),
        ("", []),
        (" \n", []),
        ("[]", []),
        ('["", null]', []),
        ("uploads/a.png", ["a.png"]),
        (" uploads/a.png\n", ["a.png"]),
        ("uploads/a.png,uploads/b.png", ["a.png", "b.png"]),
        ("uploads/a.png , /uploads/b.png,https://any.host/uploads/c.png,", ["a.png", "b.png", "c.png"]),
        ("uploads\\a.png,uploads\\b.png", ["a.png", "b.png"]),
        ("uploads/Smith, John.png,uploads/b,c.png", ["Smith, John.png", "b,c.png"]),
        ('["uploads/a.png", "/uploads/b%20c.png", "d,e.png"]', ["a.png", "b c.png", "d,e.png"]),
        ("[draft] plan.pdf", ["[draft] plan.pdf"]),
    ],
)
def test_a_column_names_one_file_or_several_or_none(reference: str | None, expected: list[str]) -> None:
    assert references.parse(reference) == expected


def test_a_list_with_one_bad_path_is_refused() -> None:
    with pytest.raises(InvalidKey):
        references.parse("uploads/a.png,uploads/../b.png")


# -- threats

TRAVERSALS = [
    *("../../etc/passwd", "/etc/passwd", "..\\..\\win.ini", "/uploads/../app.py", "/uploads/..%2f..%2fetc/passwd"),
    *("/uploads/%2e%2e/%2e%2e/x", "/uploads/..%5c..%5cx", "/uploads/%252e%252e%252fx", "uploads/../../x", "....//x"),
    *("/uploads/./x", "/uploads/a/../x", "/uploads//etc/passwd", "/uploads/x/", "/uploads/%00", "/uploads/x%00.png"),
    *("/uploads/..;/x", "/uploads/%c0%ae%c0%ae/x", "/uploads/%ff.png", "file:///etc/passwd", "uploads/.uploads/store"),
    *("\uff0e\uff0e\uff0fx", "/uploads/.%09./x", "/uploads/a%0d%0aSet-Cookie:x", "/uploads/" + "../" * 2000 + "x"),
    *("//srv/share/x", "\\\\srv\\share\\x", "C:\\windows\\win.ini", "..\\uploads/..\\x", "~/.ssh/id_rsa", "["),
    *("[" * 100_000, '["../x"]', '[["../x"]]', "[1, {}]", "uploads/a,uploads/../b", "uploads/uploads/../x"),
]
OPEN_REDIRECTS = [
    *("//evil.com", "///evil.com", "\\\\evil.com", "/\\evil.com", "https:evil.com", "https://evil.com", "https:/evil"),
    *("/uploads//evil.com", "/uploads/%09//evil.com", "/uploads/%20//evil.com", "/uploads/%00//evil.com", "@evil.com"),
    *(
        "/uploads/%1f//evil.com",
        "/uploads/%2f%2fevil.com",
        "/uploads/%5c%5cevil.com",
        "/uploads/@evil.com",
        ".evil.com",
    ),
    *("/uploads/https://evil.com", "/uploads/https:%5c%5cevil.com", "http://[evil", "http://[::1]/x", "javascript:x"),
    *(
        "https://a@evil.com/uploads/x",
        "http://evil.com\\@a/uploads/x",
        "data:text/html,x",
        "\t//evil.com",
        "//[/uploads/x",
    ),
]


@pytest.mark.parametrize(
    "parse", [references.parse, lambda text: [references.parse_one(text)]], ids=["parse", "parse_one"]
)
@pytest.mark.parametrize("reference", TRAVERSALS + OPEN_REDIRECTS, ids=lambda text: ascii(text)[1:40])
def test_an_attack_is_refused_or_names_a_harmless_key(reference: str, parse: Callable[[str], list[str]]) -> None:
    for attack in (reference, unquote(reference), unquote(unquote(reference))):
        try:
            found = parse(attack)
        except InvalidKey:
            continue
        for key in found:
            assert keys.check(key) == key
            assert posixpath.normpath(f"/root/{key}") == f"/root/{key}"
            assert urlsplit(f"/uploads/{quote(key)}")[:3] == ("", "", f"/uploads/{quote(key)}")


@given(any_text)
def test_any_text_is_a_list_of_keys_or_is_refused(reference: str) -> None:
    try:
        found = references.parse(reference)
    except InvalidKey:
        return
    assert all(map(is_key, found))


def test_a_leading_slash_never_leads_to_another_file() -> None:
    for spelling in ("uploads/files/x.png", "/uploads/files/x.png", "https://host/uploads/files/x.png"):
        assert references.parse_one(spelling, prefix="uploads", url_prefix="/files") == "files/x.png"
    assert references.parse_one("/files/x.png", prefix="uploads", url_prefix="/files") == "x.png"


def test_a_list_of_other_values_than_paths_is_refused() -> None:
    for text in ('[1, "uploads/x.png"]', '[{"path": "uploads/x.png"}]'):
        with pytest.raises(InvalidKey):
            references.parse(text)


def test_a_very_long_reference_is_refused_quickly() -> None:
    with pytest.raises(InvalidKey):
        references.parse_one("uploads/" * 80_000 + "x")


@pytest.mark.parametrize("parse", [references.parse_one, references.parse])
@pytest.mark.parametrize(
    "reference",
    [
        *(RESERVED, f"uploads/{RESERVED}", f"/uploads/{RESERVED}", f"uploads\\{RESERVED}", f"/uploads/{RESERVED}?t=1"),
        *(
            RESERVED.upper(),
            f"uploads/{RESERVED.upper()}",
            "/uploads/.Uploads/store.json",
            "/uploads/%2EUPLOADS/store.json",
        ),
    ],
)
def test_no_reference_leads_to_a_reserved_key(reference: str, parse: Callable[[str], object]) -> None:
    with pytest.raises(InvalidKey):
        parse(reference)
