"""The URL of a Cloudinary account."""

from __future__ import annotations

import pytest

from flask_persistent_uploads.backends.cloudinary.settings import Account, read_url


@pytest.mark.parametrize(
    ("url", "account"),
    [
        ("cloudinary://key:secret@MyCloud", Account("MyCloud", "key", "secret")),
        ("cloudinary://1234:s%2Fx%40y@a-b", Account("a-b", "1234", "s/x@y")),
        ("cloudinary://key:secret@cloud/", Account("cloud", "key", "secret")),
        ("cloudinary://key:secret@cloud?secure=false&timeout=5&signature_version=2", Account("cloud", "key", "secret")),
        ("cloudinary://key:secret@c/media.example.com", Account("c", "key", "secret", "https://media.example.com")),
        (
            "cloudinary://key:secret@c?upload_prefix=https://api-eu.cloudinary.com/",
            Account("c", "key", "secret", None, "https://api-eu.cloudinary.com"),
        ),
    ],
)
def test_a_url_is_read_with_all_its_parts(url: str, account: Account) -> None:
    assert read_url(url) == account
    assert account.api_secret not in repr(account).replace("api_secret", "")


def test_a_url_with_options_of_delivery_is_refused() -> None:
    with pytest.raises(ValueError, match="a URL without private_cdn, secure_distribution"):
        read_url("cloudinary://key:secret@c?private_cdn=true&secure_distribution=media.example.com")


@pytest.mark.parametrize(
    "url",
    ["", "https://key:secret@cloud", "cloudinary://key@cloud", "cloudinary://key:secret@", "cloudinary://k:s@a b"],
)
def test_other_text_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ValueError, match="a URL such as cloudinary://"):
        read_url(url)
