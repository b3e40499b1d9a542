"""What a browser may show, and under which name it saves the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_persistent_uploads import content_types, keys
from flask_persistent_uploads.serving import policy

SHOWN = {"jpg", "jpeg", "jpe", "jfif", "png", "gif", "webp", "avif", "pdf", "mp4", "m4v", "webm", "mp3", "txt"}


@pytest.mark.parametrize("extension", [*content_types.BY_EXTENSION, "unheard", "php"])
def test_only_what_cannot_run_scripts_is_shown_and_all_else_is_saved(extension: str) -> None:
    saved_as = policy.download_name(f"reports/x.{extension}")
    assert saved_as == (None if extension in SHOWN else f"x.{extension}")


def test_every_type_that_is_shown_is_in_the_table() -> None:
    assert set(content_types.BY_EXTENSION.values()) >= policy.INLINE
    assert {extension for extension, kind in content_types.BY_EXTENSION.items() if policy.shown_inline(kind)} == SHOWN


@pytest.mark.parametrize("content_type", ["image/svg+xml", "text/html", "application/xml", "text/javascript", "", "*"])
def test_what_may_hold_scripts_is_never_shown(content_type: str) -> None:
    assert not policy.shown_inline(content_type)


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
def test_a_download_is_called_as_the_client_called_it(key: str, name: str | None) -> None:
    assert policy.download_name(key) == name


@given(st.text(max_size=50), st.sampled_from(["", "html", "svg", "exe"]))
def test_a_new_key_has_a_download_name_that_hides_nothing(filename: str, extension: str) -> None:
    name = policy.download_name(keys.new(f"{filename}.{extension}", folder="reports"))
    if name is not None:
        assert name
        assert name[0] not in "-."
        assert "/" not in name


def test_bytes_that_the_app_sends_are_not_guessed_at_and_run_no_script() -> None:
    assert dict(policy.SECURITY_HEADERS) == {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
