"""Which text is a key, and how new and reserved keys are made."""

from __future__ import annotations

import copy
import json
import pickle
import posixpath
import re
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flask_persistent_uploads import InvalidKey, content_types, keys
from flask_persistent_uploads.intake.validation import display_name

any_text = st.text(st.characters(), max_size=300)  # lone surrogates too, because clients can send them


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
def test_the_keys_of_older_apps_are_valid_and_are_returned_unchanged(key: str) -> None:
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
def test_text_that_leaves_the_folder_or_cannot_be_stored_is_not_a_key(key: str) -> None:
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
def test_a_new_key_is_plain_and_short_for_any_filename(filename: str, folder: str) -> None:
    key = keys.new(filename, folder=folder)
    assert NEW_KEY.fullmatch(key)
    assert len(key) <= 200
    assert keys.check(key) == key
    assert not folder or key.startswith(f"{folder}/")


@given(any_text)
def test_a_new_key_is_plain_for_any_name_and_extension_from_intake(filename: str) -> None:
    name = display_name(filename)
    assert NEW_KEY.fullmatch(keys.new(name, extension=content_types.extension(name)))


def test_no_two_new_keys_are_the_same() -> None:
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


def test_a_given_extension_replaces_the_one_in_the_filename() -> None:
    assert keys.new("photo.jpg", extension="png").endswith("-photo.png")
    assert keys.new("blob", extension="png").endswith("-blob.png")


@pytest.mark.parametrize(
    "folder",
    [
        *("/a", "a/", "a//b", "..", "../a", "a/../b", "a\\b", "A", "a b", "é", ".a", "a/.b", "a\n", "a" * 101),
        *("uploads", "uploads/a"),
    ],
)
def test_a_folder_with_other_characters_or_with_the_prefix_is_refused(folder: str) -> None:
    with pytest.raises(InvalidKey) as raised:
        keys.new("x.png", folder=folder)
    assert raised.value.message == f"{folder!r} is not a folder for new files."
    assert raised.value.remedy.startswith("Use a-z, 0-9")


def test_a_folder_may_begin_with_the_same_letters_as_the_prefix() -> None:
    assert keys.new("x.png", folder="uploads2").startswith("uploads2/")
    assert keys.new("x.png", folder="uploads", prefix="media").startswith("uploads/")


# -- reserved_key

RESERVED = keys.reserved_key("store.json")


def test_a_reserved_key_is_accepted_and_its_text_is_not() -> None:
    assert keys.check(RESERVED) is RESERVED
    assert RESERVED == ".uploads/store.json"
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
def test_text_made_from_a_reserved_key_is_not_a_key(spell: Callable[[str], str]) -> None:
    assert spell(RESERVED) == RESERVED
    with pytest.raises(InvalidKey):
        keys.check(spell(RESERVED))


@pytest.mark.parametrize("spell", [copy.copy, copy.deepcopy, lambda key: pickle.loads(pickle.dumps(key))])
def test_a_copy_of_a_reserved_key_is_not_a_key(spell: Callable[[str], str]) -> None:
    with pytest.raises(InvalidKey):
        keys.check(spell(RESERVED))


@given(any_text)
def test_no_text_is_a_reserved_key(text: str) -> None:
    for spelling in (f".uploads{text}", f".uploads/{text}", f"x/.uploads{text}", f"{RESERVED}{text}"):
        assert not is_key(spelling)
