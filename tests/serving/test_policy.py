"""The names under which browsers save files, and the headers of files that the app sends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_persistent_uploads import content_types, keys
from flask_persistent_uploads.serving import policy


@pytest.mark.parametrize("extension", [*content_types.BY_EXTENSION, "unheard", "php"])
def test_only_a_type_that_browsers_show_has_no_download_name(extension: str) -> None:
    name = f"x.{extension}"
    shown = content_types.of_name(name) in content_types.INLINE
    assert policy.download_name(f"reports/{name}") == (None if shown else name)


HEX = "3b53c0ffee3b53c0ffee3b53c0ffee3b"
UUID = "3b53c0ff-ee3b-53c0-ffee-3b53c0ffee3b"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (f"reports/{HEX}-plan.svg", "plan.svg"),
        (f"{HEX}.svg", "download.svg"),
        (HEX, "download"),
        (f"{HEX}-htaccess", "htaccess"),
        (f"{HEX}EVENT 3.svg", "EVENT 3.svg"),
        (f"{UUID}_plan.html", "plan.html"),
        (f"{UUID}-plan.html", "plan.html"),
        (f"{UUID}plan.html", "plan.html"),
        (f"{UUID}.html", "download.html"),
        (f"{HEX}图.svg", "图.svg"),
        (f"{HEX}-{HEX}-a.svg", f"{HEX}-a.svg"),
        ("a/.htaccess", "download.htaccess"),
        (f"{HEX}.htaccess", "download.htaccess"),
        ("...", "download..."),
        (f"{HEX} ", "download "),
        ("noext", "noext"),
        ("deadbeef.svg", "deadbeef.svg"),
        (f"plan-{HEX}.svg", f"plan-{HEX}.svg"),
        ("v1.0/png", "png"),
        (f"{HEX}-plan.SVG", "plan.SVG"),
        (f"{HEX}-plan.PNG", None),
    ],
)
def test_a_download_has_the_name_that_the_client_gave_the_file(key: str, name: str | None) -> None:
    assert policy.download_name(key) == name


@given(st.text(max_size=50), st.sampled_from(["", "html", "svg", "exe"]))
def test_the_download_name_of_a_new_key_is_visible_and_plain(filename: str, extension: str) -> None:
    name = policy.download_name(keys.new(f"{filename}.{extension}", folder="reports"))
    if name is not None:
        assert name
        assert name[0] not in "-."
        assert "/" not in name


def test_the_security_headers_forbid_type_guessing_and_scripts() -> None:
    assert dict(policy.SECURITY_HEADERS) == {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
