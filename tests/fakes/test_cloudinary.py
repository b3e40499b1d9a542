"""The fake of Cloudinary behaves as Cloudinary does: its SDK works with it, and it refuses what Cloudinary refuses."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from cloudinary import api, exceptions, uploader, utils

from .cloudinary import Account, FakeCloudinary
from .service import lost

PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)
JPG = b"\xff\xd8\xff\xe0" + bytes(24)
SVG = b"<?xml version='1.0'?><svg onload='alert(1)'/>"
PDF = b"%PDF-1.7 "
MP4 = b"\0\0\0\x18ftypisom" + bytes(24)

Options = dict[str, Any]
Got = tuple[int, http.client.HTTPMessage, bytes]


@pytest.fixture
def fake() -> Iterator[FakeCloudinary]:
    with FakeCloudinary() as fake:
        yield fake


@pytest.fixture
def account(fake: FakeCloudinary) -> Account:
    return fake.add()


@pytest.fixture
def options(fake: FakeCloudinary, account: Account) -> Options:
    return {"upload_prefix": fake.url, "cloud_name": "demo", "api_key": "key", "api_secret": "secret", "timeout": 20}


def get(url: str, method: str = "GET", **headers: str) -> Got:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, response.headers, body


def post(fake: FakeCloudinary, path: str, fields: dict[str, str]) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(fake.url).netloc, timeout=20)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", f"/v1_1/demo{path}", urlencode(fields), kind)
    response = connection.getresponse()
    message = json.loads(response.read()).get("error", {}).get("message", "")
    connection.close()
    return response.status, message


def delivery(fake: FakeCloudinary, source: str, **more: Any) -> str:
    """Return the URL that the SDK makes, on the host of the fake."""
    host = urlsplit(fake.url).netloc
    url = utils.cloudinary_url(source, cloud_name="demo", api_secret="secret", secure=False, cname=host, **more)[0]
    return str(url)


def test_an_upload_is_described_and_delivered_unchanged(fake: FakeCloudinary, options: Options) -> None:
    said = uploader.upload(PNG, public_id="a/ü", context={"key": "a|b=c", "n": "1"}, tags=["x", "y"], **options)
    expected = {"public_id": "a/ü", "format": "png", "resource_type": "image", "type": "upload", "bytes": len(PNG)}
    assert expected.items() <= said.items()
    assert said["etag"] == hashlib.md5(PNG).hexdigest()
    assert said["context"] == {"custom": {"key": "a|b=c", "n": "1"}}
    assert said["tags"] == ["x", "y"]
    assert "existing" not in said
    assert said["signature"] == hashlib.sha1(f"public_id=a/ü&version={said['version']}secret".encode()).hexdigest()
    status, headers, body = get(delivery(fake, "a/ü", format="png"))
    assert (status, body, headers["ETag"]) == (200, PNG, f'"{said["etag"]}"')
    assert (headers["Content-Type"], headers["Access-Control-Allow-Origin"]) == ("image/png", "*")
    assert get(said["url"])[2] == PNG
    assert headers["X-Request-Id"]


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_both_algorithms_sign_and_an_ampersand_cannot_begin_a_field(
    algorithm: str, account: Account, options: Options
) -> None:
    said = uploader.upload(PNG, public_id="a", context="k=1&tags=x", signature_algorithm=algorithm, **options)
    assert said["context"] == {"custom": {"k": "1&tags=x"}}
    with pytest.raises(
        exceptions.AuthorizationRequired, match=r"Invalid Signature .* String to sign - 'context=k=1%26"
    ):
        uploader.upload(PNG, public_id="a", context="k=1&tags=x", signature_version=1, **options)


def test_a_call_without_a_valid_signature_changes_nothing(
    fake: FakeCloudinary, account: Account, options: Options
) -> None:
    uploader.upload(PNG, public_id="a", **options)
    fields = utils.sign_request({"timestamp": utils.now(), "public_id": "a"}, options)
    unsigned = {name: value for name, value in fields.items() if name != "signature"}
    preset = "Upload preset must be specified when using unsigned upload"
    assert post(fake, "/image/upload", unsigned) == (400, preset)
    for name in ("timestamp", "api_key", "signature"):
        missing = {key: value for key, value in fields.items() if key != name}
        assert post(fake, "/image/destroy", missing) == (400, f"Missing required parameter - {name}")
    assert post(fake, "/image/destroy", {**fields, "invalidate": "1"})[0] == 401
    assert post(fake, "/image/destroy", {**fields, "signature": "0" * 40})[0] == 401
    assert post(fake, "/image/destroy", {**fields, "signature": ""})[0] == 400
    assert post(fake, "/image/destroy", {**fields, "api_key": "else"}) == (401, "Unknown API key else")
    assert len(account.assets) == 1
    assert post(fake, "/image/destroy", fields) == (200, "")
    assert not account.assets


def test_a_signature_older_than_an_hour_is_stale(fake: FakeCloudinary, options: Options) -> None:
    fake.now = lambda: time.time() + 3700
    with pytest.raises(exceptions.BadRequest, match=r"Stale request - reported time is .* more than 1 hour ago"):
        uploader.upload(PNG, public_id="a", **options)


def test_credentials_of_another_account_are_refused(fake: FakeCloudinary, options: Options) -> None:
    fake.add(cloud="other", api_key="k2", api_secret="s2")
    with pytest.raises(exceptions.AuthorizationRequired):
        uploader.upload(PNG, **{**options, "cloud_name": "other"})
    with pytest.raises(exceptions.AuthorizationRequired):
        api.ping(**{**options, "api_secret": "s2"})
    with pytest.raises(exceptions.AuthorizationRequired):
        api.ping(**{**options, "cloud_name": "unknown"})


def test_the_content_decides_the_type(account: Account, options: Options) -> None:
    for data, resource_type, form in [(PNG, "image", "png"), (SVG, "image", "svg"), (MP4, "video", "mp4")]:
        said = uploader.upload(data, resource_type="auto", **options)
        assert (said["resource_type"], said["format"]) == (resource_type, form)
    said = uploader.upload(b"plain", resource_type="auto", **options)
    assert said["resource_type"] == "raw"
    assert "format" not in said
    with pytest.raises(exceptions.BadRequest, match=r"Invalid image file"):
        uploader.upload(b"plain", **options)
    with pytest.raises(exceptions.BadRequest, match=r"Unsupported video format or file"):
        uploader.upload(PNG, resource_type="video", **options)
    with pytest.raises(exceptions.BadRequest, match=r"Image file format svg not allowed"):
        uploader.upload(SVG, allowed_formats=["png", "jpeg"], **options)
    assert uploader.upload(JPG, allowed_formats=["jpeg"], **options)["format"] == "jpg"
    assert uploader.upload(SVG, resource_type="raw", allowed_formats=["png"], **options)["bytes"] == len(SVG)


def test_empty_missing_and_too_large_files_are_refused(
    fake: FakeCloudinary, account: Account, options: Options
) -> None:
    with pytest.raises(exceptions.BadRequest, match=r"Missing required parameter - file"):
        uploader.upload(b"", **options)
    with pytest.raises(exceptions.BadRequest, match=r"Empty file"):
        uploader.upload(io.BytesIO(), **options)
    account.max_bytes["raw"] = 9
    with pytest.raises(exceptions.BadRequest, match=r"File size too large. Got 10. Maximum is 9."):
        uploader.upload(bytes(10), resource_type="raw", **options)
    fake.single_limit = 8
    with pytest.raises(exceptions.BadRequest, match=r"Maximum is 8."):
        uploader.upload(bytes(9), resource_type="raw", **options)


@pytest.mark.parametrize("public_id", ["a?b", "a&b", "a#b", "a\\b", "a%b", "a<b", "a+b", "v12/a", "x/v1/a", "a" * 256])
def test_forbidden_ids_are_refused(public_id: str, options: Options) -> None:
    with pytest.raises(exceptions.BadRequest, match=r"public_id \(.*\) is invalid"):
        uploader.upload(PNG, public_id=public_id, **options)


@pytest.mark.parametrize(
    ("asked", "stored"),
    [(" /a/b/ ", "a/b"), ("a b", "a_b"), ("a,(b)", "a__b_"), ("v1", "v1"), ("ключ-1_.x", "ключ-1_.x")],
)
def test_special_characters_are_rewritten_and_ends_are_trimmed(asked: str, stored: str, options: Options) -> None:
    assert uploader.upload(PNG, public_id=asked, **options)["public_id"] == stored


def test_a_raw_file_without_an_id_gets_the_extension_of_its_name(options: Options) -> None:
    assert uploader.upload(b"x", resource_type="raw", filename="n.txt", **options)["public_id"].endswith(".txt")
    assert "." not in uploader.upload(b"x", resource_type="raw", **options)["public_id"]


def test_without_overwrite_the_first_of_several_simultaneous_uploads_wins(account: Account, options: Options) -> None:
    def upload(number: int) -> Options:
        context = {"n": str(number)}
        said = uploader.upload(PNG + bytes(number), public_id="a", overwrite=False, context=context, **options)
        return dict(said)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(upload, range(8)))
    (first,) = [answer for answer in answers if "existing" not in answer]
    others = [answer for answer in answers if answer.get("existing") is True]
    assert len(others) == 7
    assert all((answer["etag"], answer["context"]) == (first["etag"], first["context"]) for answer in others)
    assert uploader.upload(JPG, public_id="a", **options)["overwritten"] is True
    assert account.assets["image", "upload", "a"].data == JPG


def test_an_account_may_alter_images_and_limit_the_context(account: Account, options: Options) -> None:
    account.altered, account.context_limit = True, 10
    assert uploader.upload(PNG, public_id="a", **options)["etag"] != hashlib.md5(PNG).hexdigest()
    assert uploader.upload(b"x", resource_type="raw", **options)["bytes"] == 1
    with pytest.raises(exceptions.BadRequest):
        uploader.upload(PNG, context={"key": "1234567"}, **options)


def chunk(data: bytes, start: int, total: int, options: Options, **more: Any) -> Options:
    headers = {"Content-Range": f"bytes {start}-{start + len(data) - 1}/{total}", "X-Unique-Upload-Id": "u1"}
    return dict(uploader.upload(data, http_headers=headers, public_id="big", resource_type="raw", **more, **options))


def test_the_chunks_of_upload_large_become_one_file(account: Account, options: Options) -> None:
    data = bytes(range(256)) * 40_000
    more = {"public_id": "big.bin", "resource_type": "raw", "chunk_size": 5_000_000}
    said = uploader.upload_large(io.BytesIO(data), **more, **options)
    assert (said["public_id"], said["bytes"]) == ("big.bin", len(data))
    assert account.assets["raw", "upload", "big.bin"].data == data


def test_chunks_may_arrive_in_any_order_and_twice(fake: FakeCloudinary, account: Account, options: Options) -> None:
    first, last = b"1" * 5_000_000, b"2" * 9
    total = len(first) + len(last)
    partial = chunk(last, len(first), total, options)
    assert (partial["done"], partial["bytes"], partial["public_id"]) == (False, 9, "big")
    assert not account.assets
    assert chunk(last, len(first), total, options)["done"] is False
    said = chunk(first, 0, total, options, overwrite=False)
    assert (said["bytes"], account.assets["raw", "upload", "big"].data) == (total, first + last)
    again = chunk(last, len(first), total, options, overwrite=False)
    assert (again["asset_id"], again.get("existing")) == (said["asset_id"], None)


def test_small_chunks_and_chunks_of_files_that_are_too_large_are_refused(account: Account, options: Options) -> None:
    with pytest.raises(exceptions.BadRequest, match=r"All parts except EOF-chunk must be larger than 5mb"):
        chunk(b"1" * 4_999_999, 0, 5_000_001, options)
    with pytest.raises(exceptions.BadRequest, match=r"Got 10485761. Maximum is 10485760."):
        chunk(b"1", 0, 10_485_761, options)
    assert not account.chunks


def test_destroy_explicit_and_rename_tell_whether_a_file_exists(account: Account, options: Options) -> None:
    uploader.upload(PNG, public_id="a", context={"k": "v"}, **options)
    uploader.upload(PNG, public_id="b", **options)
    said = uploader.explicit("a", type="upload", **options)
    assert (said["etag"], said["context"]["custom"]) == (hashlib.md5(PNG).hexdigest(), {"k": "v"})
    with pytest.raises(exceptions.NotFound, match=r"Resource not found - c"):
        uploader.explicit("c", type="upload", **options)
    with pytest.raises(exceptions.BadRequest, match=r"Missing required parameter - type"):
        uploader.explicit("a", **options)
    with pytest.raises(exceptions.BadRequest, match=r"already exists"):
        uploader.rename("a", "b", **options)
    assert uploader.rename("a", "c", **options)["public_id"] == "c"
    assert uploader.destroy("a", **options)["result"] == "not found"
    assert uploader.destroy("c", resource_type="raw", **options)["result"] == "not found"
    assert uploader.destroy("c", invalidate=True, **options)["result"] == "ok"
    assert set(account.assets) == {("image", "upload", "b")}


def test_the_admin_api_finds_lists_and_deletes(account: Account, options: Options) -> None:
    for number in range(5):
        uploader.upload(b"x", public_id=f"f/{number}.txt", resource_type="raw", context={"n": "1"}, **options)
    uploader.upload(b"x", public_id="g.txt", resource_type="raw", type="private", **options)
    raw: Options = {"resource_type": "raw", **options}
    found = api.resource("f/1.txt", **raw)
    assert (found["bytes"], found["context"]["custom"]) == (1, {"n": "1"})
    with pytest.raises(exceptions.NotFound, match=r"Resource not found - f/9"):
        api.resource("f/9", **raw)
    names: list[tuple[str, str]] = []
    more: Options = {}
    while True:
        page = api.resources(type="upload", prefix="f/", max_results=2, context=True, **more, **raw)
        names += [(entry["public_id"], entry["context"]["custom"]["n"]) for entry in page["resources"]]
        if "next_cursor" not in page:
            break
        more = {"next_cursor": page["next_cursor"]}
    assert names == [(f"f/{number}.txt", "1") for number in range(5)]
    assert "context" not in api.resources(**raw)["resources"][0]
    assert len(api.resources(**raw)["resources"]) == 6
    with pytest.raises(exceptions.BadRequest):
        api.resources(max_results=501, **raw)
    said = api.delete_resources(["f/0.txt", "f/9.txt"], **raw)
    assert said["deleted"] == {"f/0.txt": "deleted", "f/9.txt": "not_found"}
    assert len(api.delete_resources_by_prefix("f/", **raw)["deleted"]) == 4
    assert set(account.assets) == {("raw", "private", "g.txt")}


def test_the_account_reports_its_folder_mode_and_limits(account: Account, options: Options) -> None:
    assert api.ping(**options)["status"] == "ok"
    assert api.config(settings=True, **options)["settings"]["folder_mode"] == "dynamic"
    assert api.usage(**options)["media_limits"]["raw_max_size_bytes"] == 10_485_760


def test_the_admin_api_has_an_hourly_limit_and_the_upload_api_none(
    fake: FakeCloudinary, account: Account, options: Options
) -> None:
    fake.now = lambda: 1795263000.0  # 2026-11-21 12:10:00
    account.hour = int(fake.now() // 3600)
    account.admin_calls = 498
    assert api.ping(**options).rate_limit_remaining == 1
    assert api.ping(**options).rate_limit_reset_at[:6] == (2026, 11, 21, 13, 0, 0)
    message = r"Limit of 500 api operations reached. Try again on 2026-11-21 13:00:00 UTC"
    with pytest.raises(exceptions.RateLimited, match=message):
        api.ping(**options)
    assert account.admin_calls == 500
    assert uploader.destroy("a", **options)["result"] == "not found"
    fake.now = lambda: 1795266000.0
    assert api.ping(**options)["status"] == "ok"


def test_the_extension_of_an_image_converts_it_and_that_of_a_raw_file_belongs_to_its_name(
    fake: FakeCloudinary, options: Options
) -> None:
    uploader.upload(JPG, public_id="f/a", **options)
    uploader.upload(b"raw", public_id="f/a.html", resource_type="raw", **options)
    for name in ("f/a", "f/a.jpg", "f/a.jpeg"):
        assert get(delivery(fake, name))[2] == JPG
    status, headers, body = get(delivery(fake, "f/a.webp"))
    assert (status, headers["Content-Type"], body) == (200, "image/webp", b"converted to webp: " + JPG)
    status, headers, body = get(delivery(fake, "f/a.html", resource_type="raw"))
    assert (headers["Content-Type"], headers["Content-Disposition"], body) == ("text/html", None, b"raw")
    uploader.upload(b"raw", public_id="pdf", resource_type="raw", **options)
    assert get(delivery(fake, "pdf", resource_type="raw"))[1]["Content-Type"] == "application/octet-stream"
    for missing in (delivery(fake, "f/ü.jpg"), delivery(fake, "f/a", resource_type="raw")):
        status, headers, _ = get(missing)
        assert (status, headers["X-Cld-Error"][:20]) == (404, "Resource not found -")


def test_ranges_and_head_are_served(fake: FakeCloudinary, options: Options) -> None:
    url = uploader.upload(b"0123456789", public_id="a.txt", resource_type="raw", **options)["url"]
    status, headers, body = get(url, Range="bytes=2-4")
    assert (status, headers["Content-Range"], body) == (206, "bytes 2-4/10", b"234")
    status, headers, body = get(url, "HEAD")
    assert (status, headers["Content-Length"], headers["Content-Type"], body) == (200, "10", "text/plain", b"")


def test_transformations_change_the_file_and_attachments_do_not(fake: FakeCloudinary, options: Options) -> None:
    uploader.upload(SVG, public_id="ab_c/a", **options)
    steps = [{"width": 20, "height": 20, "crop": "fill"}, {"quality": "auto"}]
    assert get(delivery(fake, "ab_c/a", transformation=steps))[2] == b"derived c_fill,h_20,w_20/q_auto: " + SVG
    status, headers, body = get(delivery(fake, "ab_c/a", flags="attachment"))
    assert (status, headers["Content-Disposition"], body) == (200, "attachment", SVG)
    assert get(f"{fake.url}/demo/image/upload/ab_c/a")[0] == 404, "expected: the folder is read as a transformation"
    assert get(f"{fake.url}/demo/image/upload/v1/ab_c/a")[2] == SVG
    uploader.upload(b"x", public_id="a", resource_type="raw", **options)
    assert get(delivery(fake, "a", resource_type="raw", width=20, crop="fill"))[0] == 400


@pytest.mark.parametrize("long", [False, True])
def test_authenticated_files_need_a_signature_and_private_ones_for_the_original(
    long: bool, fake: FakeCloudinary, options: Options
) -> None:
    for kind in ("authenticated", "private"):
        uploader.upload(PNG, public_id="f/.ü-1", type=kind, **options)

    def url(kind: str, **more: Any) -> str:
        return delivery(fake, "f/.ü-1", type=kind, format="png", **more)

    sign: Options = {"sign_url": True, "long_url_signature": long}
    for kind in ("authenticated", "private"):
        signed = url(kind, **sign)
        assert get(signed)[2] == PNG
        assert get(signed.replace("s--", "s--x", 1))[0] == 401
        assert get(signed.replace(".png", ".jpg"))[0] == 401
        assert get(url(kind))[0] == 401
        assert get(url(kind, width=9, crop="fit", **sign))[2] == b"derived c_fit,w_9: " + PNG
    assert get(url("authenticated", width=9, crop="fit"))[0] == 401
    assert get(url("private", width=9, crop="fit"))[0] == 200
    assert get(url("upload"))[0] == 404


def test_pdf_and_zip_are_delivered_only_by_the_download_endpoint(fake: FakeCloudinary, options: Options) -> None:
    uploader.upload(PDF, public_id="a", **options)
    uploader.upload(b"PK", public_id="f/ü.zip", resource_type="raw", **options)
    for url in (delivery(fake, "a.pdf", sign_url=True), delivery(fake, "f/ü.zip", resource_type="raw")):
        status, headers, _ = get(url)
        assert (status, headers["X-Cld-Error"]) == (401, "deny or ACL failure")
    assert get(utils.private_download_url("a", "pdf", **options))[2] == PDF
    more = {"resource_type": "raw", "type": "upload", "attachment": True}
    status, headers, body = get(utils.private_download_url("f/ü.zip", "", **more, **options))
    assert (status, headers["Content-Type"], body) == (200, "application/zip", b"PK")
    assert get(utils.private_download_url("f/ü.zip", "zip", **more, **options))[0] == 404
    assert headers["Content-Disposition"] == f"attachment; filename=\"?.zip\"; filename*=UTF-8''{quote('ü.zip')}"


def test_a_download_needs_its_signature_and_expires(fake: FakeCloudinary, options: Options) -> None:
    uploader.upload(PNG, public_id="a", type="authenticated", **options)
    until = int(time.time()) + 7200
    url = utils.private_download_url("a", "", type="authenticated", expires_at=until, **options)
    hour = utils.private_download_url("a", "png", type="authenticated", **options)
    assert get(url)[2] == get(hour)[2] == PNG
    assert get(utils.private_download_url("a", "jpg", type="authenticated", **options))[2].startswith(
        b"converted to jpg"
    )
    assert get(url.replace(f"expires_at={until}", f"expires_at={until + 9}"))[0] == 401
    assert get(url.replace("signature=", "signature_was="))[0] == 400
    status, _, body = get(utils.private_download_url("b", "", **options))
    assert (status, json.loads(body)) == (404, {"error": {"message": "Resource not found - b"}})
    fake.now = lambda: time.time() + 3700
    assert (get(hour)[0], get(url)[0]) == (401, 200)
    fake.now = lambda: time.time() + 7300
    assert get(url)[0] == 401


def test_an_upload_is_stored_even_if_its_answer_is_lost(
    fake: FakeCloudinary, account: Account, options: Options
) -> None:
    fake.fail(lost, on="POST", times=9)
    with pytest.raises(exceptions.Error, match=r"Unexpected error"):
        uploader.upload(PNG, public_id="a", overwrite=False, **options)
    assert set(account.assets) == {("image", "upload", "a")}
