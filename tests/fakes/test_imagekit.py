"""The fake of ImageKit behaves as ImageKit does: its SDK works with it, and it refuses what ImageKit refuses."""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import imagekitio
import pytest
from imagekitio import ImageKit

from .imagekit import Account, FakeImageKit

PNG = b"\x89PNG\r\n\x1a\n picture"
NOTHING: dict[str, Any] = {}
WEBP = b"RIFF\x10\0\0\0WEBP picture"


@pytest.fixture
def fake() -> Iterator[FakeImageKit]:
    with FakeImageKit() as fake:
        yield fake


@pytest.fixture
def account(fake: FakeImageKit) -> Account:
    return fake.add()


@pytest.fixture
def client(fake: FakeImageKit, account: Account) -> Iterator[ImageKit]:
    with connect(fake, account.private_key) as client:
        yield client


def connect(fake: FakeImageKit, private_key: str) -> ImageKit:
    http_client = httpx.Client(trust_env=False)
    return ImageKit(private_key=private_key, base_url=fake.url, max_retries=0, http_client=http_client)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> str:
        return str(json.loads(self.body)["message"])


def ask(url: str, method: str = "GET", body: bytes = b"", **headers: str) -> Reply:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        target = parts.path + (parts.query and f"?{parts.query}")
        connection.request(method, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return Reply(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def put(client: ImageKit, name: str, data: bytes = PNG, **options: Any) -> Any:
    options = {"folder": "/uploads", "use_unique_file_name": False, "overwrite_file": False, **options}
    return client.files.upload(file=(name, data), file_name=name, **options)


def names(client: ImageKit, **options: Any) -> list[str | None]:
    return [asset.name for asset in client.assets.list(**options)]


# -- uploads by the server


def test_an_upload_is_stored_described_and_delivered(client: ImageKit, account: Account) -> None:
    told = put(client, "a.png", tags=["x", "y"], custom_metadata={"k": 1}, response_fields=["tags", "customMetadata"])
    stored = account.files["/uploads/a.png"]
    assert (told.file_id, told.file_path, told.size) == (stored.file_id, "/uploads/a.png", len(PNG))
    assert (told.file_type, told.tags, told.custom_metadata) == ("image", ["x", "y"], {"k": 1})
    assert told.is_private_file is None, "only the fields that responseFields names"
    assert told.version_info.name == "Version 1"
    assert stored.data == PNG
    assert ask(f"{told.url}?tr=orig-true").body == PNG


def test_names_and_folders_are_cleaned_and_names_made_unique(client: ImageKit) -> None:
    assert put(client, "a b/ü(1).tar.gz", folder="my.pics//x y/").file_path == "/my_pics/x_y/a_b___1_.tar.gz"
    told = [client.files.upload(file=PNG, file_name="a.png") for _ in range(2)]
    assert len({one.file_path for one in told}) == 2
    assert all(str(one.name).startswith("a_") and str(one.name).endswith(".png") for one in told)


def test_an_existing_file_is_refused_or_becomes_a_version(client: ImageKit, account: Account) -> None:
    first = put(client, "a.png", tags=["x"])
    with pytest.raises(imagekitio.BadRequestError, match="A file with the same name already exists at the exact loc"):
        put(client, "a.png")
    second = put(client, "a.png", b"new", overwrite_file=True)
    stored = account.files["/uploads/a.png"]
    assert second.file_id == first.file_id
    assert second.version_info.name == "Version 2"
    assert (stored.data, stored.versions, stored.tags) == (b"new", [PNG], None)


def test_one_of_several_simultaneous_uploads_wins(client: ImageKit) -> None:
    def attempt(number: int) -> bool:
        try:
            put(client, "a.png", b"%d" % number)
        except imagekitio.BadRequestError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(16))) == 1


@pytest.mark.parametrize(("key", "error"), [("private_y", 403), ("", 403), (None, 401)])
def test_wrong_and_missing_keys_are_refused(fake: FakeImageKit, account: Account, key: str | None, error: int) -> None:
    credentials = {} if key is None else {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}
    for method, path in ("GET", "/v1/files"), ("POST", "/api/v1/files/upload"):
        reply = ask(fake.url + path, method, b"", **credentials)
        assert reply.status == error
        assert error == 401 or reply.message == "Your account cannot be authenticated."


def test_an_account_does_not_see_the_files_of_another(fake: FakeImageKit, client: ImageKit) -> None:
    file_id = put(client, "a.png").file_id
    other = fake.add("other", "private_o")
    with connect(fake, "private_o") as stranger:
        assert names(stranger) == []
        with pytest.raises(imagekitio.NotFoundError):
            stranger.files.delete(file_id)
    assert ask(other.endpoint + "/uploads/a.png").status == 404


def test_files_that_are_missing_empty_or_too_large_are_refused(client: ImageKit, account: Account) -> None:
    with pytest.raises(imagekitio.BadRequestError, match="The file is empty"):
        put(client, "a.png", b"")
    account.max_bytes = {"image": 20, "video": 40, "other": 10}
    put(client, "a.png", PNG.ljust(20))
    put(client, "a.mp4", bytes(40))
    for name, data, limit in ("b.png", PNG.ljust(21), 20), ("b.mp4", bytes(41), 40), ("b.png", bytes(11), 10):
        with pytest.raises(imagekitio.BadRequestError, match=f"larger than {limit} bytes"):
            put(client, name, data)
    key = base64.b64encode(b"private_x:").decode()
    reply = ask(
        f"{str(client.base_url).rstrip('/')}/api/v1/files/upload", "POST", b"fileName=a", Authorization=f"Basic {key}"
    )
    assert (reply.status, reply.message) == (400, "Missing `file` parameter for upload.")


# -- the media library


def test_files_are_found_by_folder_and_by_name(client: ImageKit) -> None:
    for name, folder in ("ab.png", "/uploads"), ("abc.txt", "/uploads"), ("ab.png", "/uploads/deep"):
        put(client, name, PNG if name.endswith("png") else b"text", folder=folder)
    assert names(client) == ["ab.png", "abc.txt", "ab.png"]
    assert names(client, path="/uploads") == names(client, path="uploads/") == ["ab.png", "abc.txt"]
    assert names(client, path="/") == names(client, path="/none") == []
    assert names(client, path="/uploads", search_query='name = "ab.png"') == ["ab.png"]
    assert names(client, path="/uploads", search_query='name : "ab" AND type = "file"') == ["ab.png", "abc.txt"]
    assert names(client, search_query='name = "AB.png"') == []
    assert names(client, file_type="image", path="/uploads") == ["ab.png"]
    assert names(client, file_type="non-image") == ["abc.txt"]


def test_folders_are_listed_and_outlive_their_files(client: ImageKit) -> None:
    told = put(client, "a.png", folder="/one/two")
    client.files.delete(told.file_id)
    folders: list[Any] = client.assets.list(path="/", type="folder")
    assert [(folder.type, folder.name, folder.folder_path) for folder in folders] == [("folder", "one", "/one")]
    put(client, "b.png", folder="/one")
    assert sorted(map(str, names(client, path="/one", type="all"))) == ["b.png", "two"]
    assert names(client, path="/one") == ["b.png"]


def test_a_list_comes_in_pages_and_in_order(client: ImageKit) -> None:
    for name in "cab":
        put(client, name, name.encode() * ord(name))
    assert names(client, sort="ASC_NAME", limit=2) == ["a", "b"]
    assert names(client, sort="ASC_NAME", limit=2, skip=2) == ["c"]
    assert names(client, sort="DESC_SIZE") == ["c", "b", "a"]
    assert names(client) == ["c", "a", "b"]


@pytest.mark.parametrize(
    "options",
    [{"limit": 0}, {"limit": 1001}, {"skip": -1}, {"sort": "NAME"}, {"type": "x"}]
    + [
        {"search_query": query}
        for query in (" ", "name = x", 'size > "1"', 'name = "a" OR name = "b"', 'type : "file"')
    ],
)
def test_an_invalid_query_is_refused(client: ImageKit, options: dict[str, Any]) -> None:
    with pytest.raises(imagekitio.BadRequestError):
        client.assets.list(**options)


def test_the_search_may_find_a_file_only_later(fake: FakeImageKit, client: ImageKit, account: Account) -> None:
    account.index_delay = 30
    told = put(client, "a.png")
    assert names(client) == []
    assert client.files.get(told.file_id).name == "a.png"
    assert ask(told.url).status == 200
    fake.now = lambda: time.time() + 31
    assert names(client) == ["a.png"]


def test_details_are_complete_and_a_file_is_deleted_once(client: ImageKit) -> None:
    told = put(client, "a.txt", b"text", is_private_file=True, description="words")
    file = client.files.get(told.file_id)
    assert (file.type, file.file_path, file.file_type, file.mime) == (
        "file",
        "/uploads/a.txt",
        "non-image",
        "text/plain",
    )
    assert (file.size, file.is_private_file, file.description, file.tags) == (4, True, "words", None)
    assert file.created_at
    assert abs(file.created_at.timestamp() - time.time()) < 60
    client.files.delete(told.file_id)
    with pytest.raises(imagekitio.NotFoundError, match="The requested file does not exist"):
        client.files.delete(told.file_id)
    with pytest.raises(imagekitio.NotFoundError):
        client.files.get(told.file_id)


def test_many_are_deleted_all_or_none(client: ImageKit, account: Account) -> None:
    ids = [put(client, name).file_id for name in ("a", "b")]
    with pytest.raises(imagekitio.NotFoundError) as caught:
        client.files.bulk.delete(file_ids=[*ids, "none"])
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["missingFileIds"] == ["none"]
    assert len(account.files) == 2
    assert client.files.bulk.delete(file_ids=ids).successfully_deleted_file_ids == ids
    assert account.files == {}


def test_too_many_calls_are_refused_for_a_while(fake: FakeImageKit, client: ImageKit, account: Account) -> None:
    account.rate_limit = 2
    for _ in range(2):
        client.assets.list()
    with pytest.raises(imagekitio.RateLimitError) as caught:
        client.assets.list()
    headers = caught.value.response.headers
    assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Interval"]) == ("2", "12000")
    assert 0 < int(headers["X-RateLimit-Reset"]) <= 12000
    put(client, "a.png")
    fake.now = lambda: time.time() + 13
    client.assets.list()


# -- delivery


def test_the_fake_accepts_the_signatures_of_the_sdk(client: ImageKit, account: Account) -> None:
    put(client, "a.png", is_private_file=True)
    for position in ("path", "query"):
        for options in NOTHING, {"transformation": [{"width": 20, "format": "auto"}, {"rotation": 90}]}:
            for more in NOTHING, {"expires_in": 60}, {"query_parameters": {"ik-attachment": "true"}}:
                asked: dict[str, Any] = {"transformation_position": position, "signed": True, **options, **more}
                url = client.helper.build_url(src="/uploads/a.png", url_endpoint=account.endpoint, **asked)
                step = b"derived w-20,f-auto:rt-90: " if options else b"optimised: "
                assert ask(url).body == step + PNG
                assert ask(url.replace("ik-s=", "ik-s=0")).status == 401
                assert ask(url.replace("a.png", "%61.png")).status == 401, "the text of the URL is signed"


def test_private_files_and_bad_signatures_are_refused(fake: FakeImageKit, client: ImageKit, account: Account) -> None:
    put(client, "a.png", is_private_file=True)
    put(client, "b.png")
    plain = account.endpoint + "/uploads/a.png"
    signed = client.helper.build_url(src="/uploads/a.png", url_endpoint=account.endpoint, expires_in=60, signed=True)
    assert [ask(plain).status, ask(signed).status, ask(f"{plain}?ik-s=").status] == [401, 200, 401]
    assert ask(plain).status == 401, "the cache does not open private files"
    assert ask(signed.replace("ik-t=", "ik-t=1")).status == 401
    assert ask(signed + "&tr=orig-true").status == 401
    assert ask(signed.replace("a.png", "b.png")).status == 401, "a public file, but the signature of another"
    assert ask(signed.replace("ik-t=", "x=")).status == 401
    fake.now = lambda: time.time() + 61
    assert ask(signed).status == 401
    assert ask(account.endpoint + "/uploads/none.png").status == 404


def test_images_are_optimised_unless_the_original_is_asked_for(client: ImageKit, account: Account) -> None:
    put(client, "a.webp", WEBP)
    put(client, "a.txt", b"text")
    assert ask(account.endpoint + "/uploads/a.webp").body == b"optimised: " + WEBP
    assert ask(account.endpoint + "/uploads/a.webp?tr=orig-true").body == WEBP
    assert ask(account.endpoint + "/tr:orig-true/uploads/a.webp").body == WEBP
    assert ask(account.endpoint + "/tr:w-9,h-9/uploads/a.webp").body == b"derived w-9,h-9: " + WEBP
    assert ask(account.endpoint + "/tr:w-9/uploads/a.txt").body == ask(account.endpoint + "/uploads/a.txt").body
    account.optimise = False
    assert ask(account.endpoint + "/uploads/a.webp").body == WEBP


def test_delivery_answers_head_and_range_requests(client: ImageKit, account: Account) -> None:
    put(client, "a.pdf", b"0123456789")
    url = account.endpoint + "/uploads/a.pdf"
    whole, head, part = ask(url), ask(url, "HEAD"), ask(f"{url}?ik-attachment=true", Range="bytes=2-4")
    assert (whole.body, whole.headers["Content-Type"]) == (b"0123456789", "application/pdf")
    assert whole.headers["Access-Control-Allow-Origin"] == "*"
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "10")
    assert (part.status, part.body, part.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert part.headers["Content-Disposition"] == 'attachment; filename="a.pdf"'
    assert "Content-Disposition" not in whole.headers


@pytest.mark.parametrize("wildcard", ["", "*", "?tr=w-5"])
def test_a_delivered_file_stays_in_the_cache_until_a_purge(client: ImageKit, account: Account, wildcard: str) -> None:
    url = account.endpoint + "/uploads/a.txt"
    told = put(client, "a.txt", b"old")
    assert ask(url).body == b"old"
    put(client, "a.txt", b"new", overwrite_file=True)
    assert ask(url).body == b"old"
    client.files.delete(told.file_id)
    assert ask(url).body == b"old"
    request = client.cache.invalidation.create(url=url + wildcard)
    assert client.cache.invalidation.get(str(request.request_id)).status == "Completed"
    assert account.purged == [url + wildcard]
    assert (ask(url).status, account.cached) == (404, {})


def test_purges_of_foreign_files_and_of_too_many_files_are_refused(client: ImageKit, account: Account) -> None:
    for url in ("https://example.com/a.png", account.endpoint + "/*/a.png", account.endpoint + "/up*"):
        with pytest.raises(imagekitio.BadRequestError):
            client.cache.invalidation.create(url=url)
    with pytest.raises(imagekitio.NotFoundError):
        client.cache.invalidation.get("none")
    assert account.purged == []
