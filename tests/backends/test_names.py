"""Names for services that would rewrite a key: reversible, unique, and of harmless characters."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flask_persistent_uploads import InvalidKey, keys
from flask_persistent_uploads.backends import names

from ..test_keys import is_key

# Keys of any characters, and keys of the few characters that the rules are about.
tricky_text = st.text("aAv12_.-/ %é", min_size=1, max_size=24)
any_segment = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/\\"), min_size=1, max_size=20)
any_key = (st.lists(any_segment, min_size=1, max_size=6).map("/".join) | tricky_text).filter(is_key)
tricky_key = tricky_text.filter(is_key)


@pytest.mark.parametrize(
    ("key", "with_extension", "without"),
    [
        ("a.png", "a.png", "a_2epng"),
        ("a/EVENT 3.webp", "a/EVENT_203.webp", "a/EVENT_203_2ewebp"),
        ("a_b.png", "a_5fb.png", "a_5fb_2epng"),
        ("a_20b", "a_5f20b", "a_5f20b"),
        ("100%.png", "100_25.png", "100_25_2epng"),
        ("é.TXT", "_c3_a9.TXT", "_c3_a9_2eTXT"),
        ("🧩", "_f0_9f_a7_a9", "_f0_9f_a7_a9"),
        ("a.tar.gz", "a_2etar.gz", "a_2etar_2egz"),
        ("a.b/c", "a_2eb/c", "a_2eb/c"),
        ("a.b/c.d", "a_2eb/c.d", "a_2eb/c_2ed"),
        (".hidden", "_2ehidden", "_2ehidden"),
        ("a/.hidden", "a/_2ehidden", "a/_2ehidden"),
        ("...", "_2e_2e_2e", "_2e_2e_2e"),
        ("a.", "a_2e", "a_2e"),
        ("a.jp g", "a_2ejp_20g", "a_2ejp_20g"),
        (f"a.{'x' * 16}", f"a.{'x' * 16}", f"a_2e{'x' * 16}"),
        (f"a.{'x' * 17}", f"a_2e{'x' * 17}", f"a_2e{'x' * 17}"),
        ("v1/two", "_761/two", "_761/two"),
        ("a/v12/b.png", "a/_7612/b.png", "a/_7612/b_2epng"),
        ("v1/v2/v3", "_761/_762/v3", "_761/_762/v3"),
        ("v1", "v1", "v1"),
        ("v1a/b", "v1a/b", "v1a/b"),
        ("av1/b", "av1/b", "av1/b"),
    ],
)
def test_other_characters_are_escaped(key: str, with_extension: str, without: str) -> None:
    assert keys.check(key) == key
    assert names.escape(key, extension=True) == with_extension
    assert names.escape(key, extension=False) == without


@pytest.mark.parametrize("extension", [True, False])
@given(any_key)
def test_a_name_is_unescaped_to_its_key(extension: bool, key: str) -> None:
    assert names.unescape(names.escape(key, extension=extension)) == key


@pytest.mark.parametrize("extension", [True, False])
@given(tricky_key, tricky_key)
def test_different_keys_have_different_names(extension: bool, one: str, other: str) -> None:
    assume(one != other)
    assert names.escape(one, extension=extension) != names.escape(other, extension=extension)


@given(any_key)
def test_a_name_has_only_characters_that_every_service_keeps(key: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9/_-]+", names.escape(key, extension=False))
    assert re.fullmatch(r"[A-Za-z0-9/_-]+(\.[A-Za-z0-9]{1,16})?", names.escape(key, extension=True))


@pytest.mark.parametrize("extension", [True, False])
@given(any_key)
def test_a_name_has_the_segments_of_its_key_and_no_folder_that_looks_like_a_version(extension: bool, key: str) -> None:
    segments = names.escape(key, extension=extension).split("/")
    assert len(segments) == len(key.split("/"))
    assert all(segments)
    assert not [segment for segment in segments[:-1] if re.fullmatch(r"v\d+", segment)]


@given(st.text(max_size=30), st.sampled_from(["", "reports", "a/b.c_d"]))
def test_a_new_key_changes_only_in_dots_and_underscores(filename: str, folder: str) -> None:
    key = keys.new(filename, folder=folder)
    plain = key.replace("_", "_5f").replace(".", "_2e")
    assert names.escape(key, extension=False) == plain
    stem, dot, suffix = key.rpartition("/")[2].rpartition(".")
    expected = plain.removesuffix(f"_2e{suffix}") + f".{suffix}" if stem and dot else plain
    assert names.escape(key, extension=True) == expected


@pytest.mark.parametrize(
    "name",
    [
        *("", "_", "a_", "_2", "a_2", "_zz", "_2g", "_/a", "a_/20", "__20"),
        *("_ff", "_c3", "_c3_28", "_ed_a0_80", "_c0_ae"),  # not UTF-8
        *("_2E", "_C3_a9", "a b", "a%20b", "a+b", "é", "a~", "a\\b", "a:b", "a\n", "\n", "_2e\n", "_\uff12\uff10"),
    ],
)
def test_text_that_is_not_a_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidKey):
        names.unescape(name)


@given(st.text(max_size=20) | st.text("_0123aefAF/.", max_size=12))
def test_any_text_is_a_name_or_is_refused(name: str) -> None:
    try:
        key = names.unescape(name)
    except InvalidKey:
        return
    assert key
