"""Keys: what is one, how new ones are made, and how any spelling of a path leads to one."""

from __future__ import annotations

import copy
import json
import pickle
import posixpath
import re
from collections.abc import Callable
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flask_persistent_uploads import InvalidKey, content_types, keys
from flask_persistent_uploads.intake.validation import display_name

any_text = st.text(st.characters(), max_size=300)  # lone surrogates too, as clients can send them
any_key = st.lists(
    st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/\\"), min_size=1, max_size=20),
    min_size=1,
    max_size=6,
).map("/".join)


def is_key(text: str) -> bool:
    try:
        keys.check(text)
    except InvalidKey:
        return False
    return True


# -- check


@pytest.mark.parametrize(
    "key",
    [
        "x",
        "reports/3f9c-event-3.webp",
        "3b53c5aEVENT 3.webp",
        "😀 (1).png",
        "a,b.png",
        "100%25.png",
        "a..b",
        "...",
        "a/.hidden",
        "uploads",
        "a" * 255,
        "é" * 127,
        "😀" * 63,
        "/".join(["a" * 239] * 4) + "b",
    ],
)
def test_names_that_databases_hold_are_keys_and_are_not_rewritten(key: str) -> None:
    assert keys.check(key) == key


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "../a", "a/..", "a/../b"),
        *("a\\b", "..\\a", "a\0", "a\nb", "a\r", "a\x1b", "a\x7f", "a\x85", "a\ud800", "\udcff.png"),
        *(".uploads", ".uploads-part", "a/.uploads/b"),
        *(".UPLOADS/store.json", ".Uploads/store.json", ".uPLOADS-part", "a/.UpLoAdS/b", ".UPLOAD\u017f/store.json"),
        *("a" * 256, "é" * 128, "😀" * 64, "a/" + "é" * 128, "/".join(["a" * 239] * 4) + "bc"),
    ],
)
def test_what_leaves_the_folder_or_cannot_be_kept_is_no_key(key: str) -> None:
    with pytest.raises(InvalidKey):
        keys.check(key)


@given(any_text)
def test_a_key_stays_below_any_root(text: str) -> None:
    assume(is_key(text))
    assert posixpath.normpath(f"/root/{text}") == f"/root/{text}"
    assert len(text.encode()) <= keys.MAX_KEY_BYTES


# -- new

NEW_KEY = re.compile(r"([a-z0-9._-]+/)*[0-9a-f]{32}(-[a-z0-9][a-z0-9-]{0,39})?(\.[a-z0-9]{1,16})?")


@given(any_text, st.sampled_from(["", "reports", "a/b.c", "a" * 100]))
def test_a_new_key_is_plain_and_short_whatever_the_client_calls_its_file(filename: str, folder: str) -> None:
    key = keys.new(filename, folder=folder)
    assert NEW_KEY.fullmatch(key)
    assert len(key) <= 200
    assert keys.check(key) == key
    assert not folder or key.startswith(f"{folder}/")


@given(any_text)
def test_a_new_key_is_plain_with_the_extension_that_intake_hands_on(filename: str) -> None:
    name = display_name(filename)
    assert NEW_KEY.fullmatch(keys.new(name, extension=content_types.extension(name)))


def test_nobody_can_guess_a_key_from_another() -> None:
    assert len({keys.new("a.png") for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("filename", "end"),
    [
        ("EVENT 3.WEBP", "-event-3.webp"),
        ("a.php.jpg", "-a-php.jpg"),
        ("图片.png", ".png"),
        ("Crème brûlée.jpg", "-creme-brulee.jpg"),
        ("noext", "-noext"),
        (".htaccess", "-htaccess"),
        ("a.jp g", "-a-jp-g"),
        ("x." + "y" * 17, "-x-" + "y" * 17),
        ("../../etc/passwd", "-etc-passwd"),
        ("", ""),
        ("x" * 5000 + ".png", "-" + "x" * 40 + ".png"),
        ("--a--.txt", "-a.txt"),
    ],
)
def test_a_new_key_ends_with_a_slug_and_the_last_extension(filename: str, end: str) -> None:
    assert re.fullmatch(f"[0-9a-f]{{32}}{re.escape(end)}", keys.new(filename))


def test_the_extension_that_the_bytes_prove_takes_the_place_of_the_one_in_the_name() -> None:
    assert keys.new("photo.jpg", extension="png").endswith("-photo.png")
    assert keys.new("blob", extension="png").endswith("-blob.png")


@pytest.mark.parametrize(
    "folder",
    [
        *("/a", "a/", "a//b", "..", "../a", "a/../b", "a\\b", "A", "a b", "é", ".a", "a/.b", "a\n", "a" * 101),
        *("uploads", "uploads/a"),
    ],
)
def test_a_folder_of_other_signs_or_that_repeats_the_prefix_is_refused(folder: str) -> None:
    with pytest.raises(InvalidKey):
        keys.new("x.png", folder=folder)


def test_a_folder_may_begin_like_the_prefix() -> None:
    assert keys.new("x.png", folder="uploads2").startswith("uploads2/")
    assert keys.new("x.png", folder="uploads", prefix="media").startswith("uploads/")


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
    assert keys.parse_one(reference) == "x.png"


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
def test_a_url_is_decoded_once_and_a_path_is_taken_as_it_stands(reference: str, key: str) -> None:
    assert keys.parse_one(reference) == key


def test_the_prefixes_of_the_settings_are_the_ones_that_are_left_out() -> None:
    for reference in ("media/x.png", "/files/x.png", "https://any.host/files/x.png", "https://bucket/media/x.png"):
        assert keys.parse_one(reference, prefix="media", url_prefix="/files") == "x.png"
    assert keys.parse_one("uploads/x.png", prefix="media", url_prefix="/files") == "uploads/x.png"


@given(any_key)
def test_the_url_of_a_key_leads_back_to_it(key: str) -> None:
    assume(is_key(key))
    assume(not key.startswith("uploads/"))
    assert keys.parse_one(f"/uploads/{quote(key)}") == key
    assert keys.parse_one(f"https://any.host/uploads/{quote(key)}?t=1") == key


@given(st.text(st.characters(), max_size=20).map(keys.new))
def test_a_new_key_is_found_in_every_spelling_of_it(key: str) -> None:
    spelled = (key, f"uploads/{key}", f"/uploads/{key}", f"https://any.host/uploads/{key}?t=1", f"uploads\\{key}")
    assert {keys.parse_one(spelling) for spelling in spelled} == {key}


# -- parse


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
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
def test_a_column_names_one_file_several_or_none(reference: str, expected: list[str]) -> None:
    assert keys.parse(reference) == expected


def test_one_bad_path_spoils_the_list() -> None:
    with pytest.raises(InvalidKey):
        keys.parse("uploads/a.png,uploads/../b.png")


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


@pytest.mark.parametrize("parse", [keys.parse, lambda text: [keys.parse_one(text)]], ids=["parse", "parse_one"])
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
def test_any_text_is_a_list_of_keys_or_refused(reference: str) -> None:
    try:
        found = keys.parse(reference)
    except InvalidKey:
        return
    assert all(map(is_key, found))


def test_a_slash_before_a_path_never_leads_to_another_file() -> None:
    for spelling in ("uploads/files/x.png", "/uploads/files/x.png", "https://host/uploads/files/x.png"):
        assert keys.parse_one(spelling, prefix="uploads", url_prefix="/files") == "files/x.png"
    assert keys.parse_one("/files/x.png", prefix="uploads", url_prefix="/files") == "x.png"


def test_a_list_of_other_things_than_paths_is_refused() -> None:
    for text in ('[1, "uploads/x.png"]', '[{"path": "uploads/x.png"}]'):
        with pytest.raises(InvalidKey):
            keys.parse(text)


def test_a_reference_of_any_length_is_cheap_to_refuse() -> None:
    with pytest.raises(InvalidKey):
        keys.parse_one("uploads/" * 80_000 + "x")


# -- own

OWN = keys.own("store.json")


def test_a_key_of_our_own_passes_the_gate_and_its_text_does_not() -> None:
    assert keys.check(OWN) is OWN
    assert OWN == ".uploads/store.json"
    with pytest.raises(InvalidKey):
        keys.check(".uploads/store.json")


@pytest.mark.parametrize(
    "spell",
    [
        str,
        "{}".format,
        "%s".__mod__,
        lambda key: f"{key}",
        lambda key: f"{key!s}",
        lambda key: key[:],
        lambda key: key + "",
        lambda key: key * 1,
        lambda key: key.replace("\\", "/"),
        lambda key: "".join([key]),
        lambda key: key.encode().decode(),
        lambda key: json.loads(json.dumps(key)),
        lambda key: key.split("\\")[0],
        *(lambda key, method=method: getattr(key, method)() for method in ("strip", "lower", "casefold", "expandtabs")),
    ],
)
def test_what_is_made_from_a_key_of_our_own_is_plain_text(spell: Callable[[str], str]) -> None:
    assert spell(OWN) == OWN
    with pytest.raises(InvalidKey):
        keys.check(spell(OWN))


@pytest.mark.parametrize("spell", [copy.copy, copy.deepcopy, lambda key: pickle.loads(pickle.dumps(key))])
def test_a_copy_of_a_key_of_our_own_is_plain_text(spell: Callable[[str], str]) -> None:
    with pytest.raises(InvalidKey):
        keys.check(spell(OWN))


@given(any_text)
def test_no_text_is_a_key_of_our_own(text: str) -> None:
    for spelling in (f".uploads{text}", f".uploads/{text}", f"x/.uploads{text}", f"{OWN}{text}"):
        assert not is_key(spelling)


@pytest.mark.parametrize("parse", [keys.parse_one, keys.parse])
@pytest.mark.parametrize(
    "reference",
    [
        *(OWN, f"uploads/{OWN}", f"/uploads/{OWN}", f"uploads\\{OWN}", f"/uploads/{OWN}?t=1"),
        *(OWN.upper(), f"uploads/{OWN.upper()}", "/uploads/.Uploads/store.json", "/uploads/%2EUPLOADS/store.json"),
    ],
)
def test_no_reference_leads_to_a_key_of_our_own(reference: str, parse: Callable[[str], object]) -> None:
    with pytest.raises(InvalidKey):
        parse(reference)
