"""A fake of Cloudinary: its Upload API, Admin API, download endpoint and delivery, as far as a file store uses them.

    with FakeCloudinary() as fake:
        account = fake.add(cloud="demo", api_key="key", api_secret="secret")
        cloudinary.uploader.upload(data, upload_prefix=fake.url, cloud_name="demo", …)
        urlopen(f"{fake.url}/demo/image/upload/v1/a/b.png")

Signatures are computed here from the description of the protocol, not by the SDK. Nothing was compared with the real
service. The following is assumed, in doubt on the strict side:

* the wording of most errors, except those that the SDKs' issues quote, and the statuses of expired downloads;
* every special character in a public id becomes ``_``;
* ``allowed_formats`` does not apply to raw files, which accept no transformation, not even ``fl_attachment``, and no
  format;
* the format in a URL is compared regardless of case;
* a wrong signature in a URL is refused for public files, too;
* a chunk that is sent again after the last one gets the first answer;
* the order of listings.

Parameters that a store does not use (``eager``, ``use_filename``, …) are signed and otherwise ignored. Remote files are
not fetched.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import posixpath
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from .service import Answer, FakeService, Request, Upload, content

Key = tuple[str, str, str]  # resource_type, type, public_id

# They are tried in this order.
IMAGES = {
    "png": rb"\x89PNG\r\n\x1a\n",
    "jpg": rb"\xff\xd8\xff",
    "gif": rb"GIF8[79]a",
    "webp": rb"RIFF....WEBP",
    "avif": rb"....ftypavi[fs]",
    "heic": rb"....ftyp(hei[cx]|hev[cx]|mif1|msf1)",
    "bmp": rb"BM",
    "tiff": rb"II\*\x00|MM\x00\*",
    "ico": rb"\x00\x00\x01\x00",
    "svg": rb"(\xef\xbb\xbf)?\s*(<\?xml.*?)?<svg",
    "pdf": rb"%PDF-",
}
VIDEOS = {
    "mov": rb"....ftypqt",
    "m4a": rb"....ftypM4A",
    "mp4": rb"....ftyp(?!avi[fs]|hei[cx]|hev[cx]|mif1|msf1)",
    "webm": rb"\x1aE\xdf\xa3.{0,60}webm",
    "mkv": rb"\x1aE\xdf\xa3",
    "mp3": rb"ID3|\xff[\xe0-\xef\xf2\xf3\xfa\xfb]",
    "aac": rb"\xff[\xf0\xf1\xf8\xf9]",
    "ogg": rb"OggS",
    "wav": rb"RIFF....WAVE",
    "avi": rb"RIFF....AVI ",
    "flac": rb"fLaC",
}
TYPES: dict[str, str] = dict(
    re.findall(
        r"(\S+)=(\S+)",
        """
        png=image/png jpg=image/jpeg gif=image/gif webp=image/webp avif=image/avif heic=image/heic bmp=image/bmp
        tiff=image/tiff ico=image/x-icon svg=image/svg+xml mp4=video/mp4 mov=video/quicktime webm=video/webm
        mkv=video/x-matroska avi=video/x-msvideo mp3=audio/mpeg m4a=audio/mp4 ogg=audio/ogg wav=audio/wav
        aac=audio/aac flac=audio/flac pdf=application/pdf zip=application/zip gz=application/gzip xml=application/xml
        json=application/json txt=text/plain html=text/html htm=text/html css=text/css csv=text/csv js=text/javascript
        """,
    )
)
MISSING = "Missing required parameter - "
UNSIGNED = {"file", "api_key", "signature", "cloud_name", "resource_type"}
DELIVERY_TYPES = {"upload", "private", "authenticated"}
TRANSFORMATION = re.compile(r"[a-z]{1,3}_[^/,]+(,[a-z]{1,3}_[^/,]+)*")
ATTACHMENT = re.compile(r"fl_attachment(:[^/,]*)?")


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    @property
    def header(self) -> dict[str, str]:
        return {"X-Cld-Error": self.message.encode("unicode_escape").decode()}

    def answer(self, headers: Mapping[str, str] | None = None) -> Answer:
        return Answer.json(self.status, {"error": {"message": self.message}}, {**self.header, **(headers or {})})


@dataclass
class Asset:
    resource_type: str
    type: str
    public_id: str
    data: bytes
    format: str | None  # None for raw
    version: int  # when it was stored
    asset_id: str
    original_filename: str = "file"
    context: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)

    @property
    def key(self) -> Key:
        return self.resource_type, self.type, self.public_id

    @property
    def etag(self) -> str:
        return md5(self.data)

    @property
    def created_at(self) -> str:
        return f"{datetime.fromtimestamp(self.version, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


@dataclass
class Chunks:
    """The chunks of one file that were received."""

    public_id: str
    total: int
    parts: dict[int, bytes] = field(default_factory=dict)  # by their start
    answer: dict[str, Any] | None = None  # after the last chunk

    def whole(self) -> bytes | None:
        at = 0
        for start in sorted(self.parts):
            if start != at:
                return None
            at += len(self.parts[start])
        return b"".join(self.parts[start] for start in sorted(self.parts)) if at == self.total else None


@dataclass
class Account:
    """An account on the free plan. A test may change it."""

    cloud: str
    api_key: str
    api_secret: str
    assets: dict[Key, Asset] = field(default_factory=dict)
    max_bytes: dict[str, int] = field(
        default_factory=lambda: {"image": 10_485_760, "video": 104_857_600, "raw": 10_485_760}
    )
    admin_limit: int = 500
    admin_calls: int = 0
    blocked_formats: set[str] = field(default_factory=lambda: {"pdf", "zip"})
    context_limit: int | None = None
    altered: bool = False  # whether images are altered when they are stored
    folder_mode: str = "dynamic"
    chunks: dict[tuple[str, str], Chunks] = field(default_factory=dict)
    hour: int = 0  # the hour in which the calls are counted


@dataclass(frozen=True, slots=True)
class Link:
    """A delivery URL after its type. ``name`` is the public id, for image and video with the requested format."""

    signature: str
    transformation: str
    name: str


@dataclass(frozen=True, slots=True)
class Sent:
    """An upload, or a chunk of one."""

    account: Account
    resource_type: str  # as requested
    public_id: str | None  # as it is stored, if it was requested
    headers: Mapping[str, str]
    fields: Mapping[str, str]
    file: Upload

    def new_id(self) -> str:
        """Return a random public id. That of a raw file gets the extension of the name in the form."""
        dot, extension = self.file.filename.rpartition(".")[1:]
        return uuid.uuid4().hex[:20] + (stored_id(dot + extension) if dot and self.resource_type == "raw" else "")


# -- requests


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def sniff(data: bytes, kinds: Mapping[str, bytes]) -> str | None:
    return next((name for name, magic in kinds.items() if re.match(magic, data[:4096], re.DOTALL)), None)


def recognize(resource_type: str, data: bytes) -> tuple[str, str | None]:
    """Return the resource type and the format of a file, which follow from its content."""
    image, video = sniff(data, IMAGES), sniff(data, VIDEOS)
    if resource_type == "auto":
        resource_type = "image" if image else "video" if video else "raw"
    if resource_type == "image" and not image:
        raise Refused(400, "Invalid image file")
    if resource_type == "video" and not video:
        raise Refused(400, "Unsupported video format or file")
    return resource_type, {"image": image, "video": video}.get(resource_type)


def check_size(size: int, limit: int) -> None:
    if size > limit:
        raise Refused(400, f"File size too large. Got {size}. Maximum is {limit}.")


def required(fields: Mapping[str, str], name: str) -> str:
    if not fields.get(name):
        raise Refused(400, f"{MISSING}{name}")
    return fields[name]


def flag(value: str) -> bool:
    return value.lower() in {"1", "true"}


def number(text: str, name: str, low: int = 0, high: int = 1 << 40) -> int:
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise Refused(400, f"Invalid value {text} for parameter {name}")
    return int(text)


def string_to_sign(fields: Mapping[str, str]) -> str:
    """Return the text for a signature of version 2: an ``&`` in a value cannot begin another field."""
    return "&".join(sorted(f"{k}={v}".replace("&", "%26") for k, v in fields.items() if v and k not in UNSIGNED))


def signed(text: str, secret: str, signature: str) -> bool:
    algorithm = "sha256" if len(signature) == 64 else "sha1"
    return same(hashlib.new(algorithm, (text + secret).encode()).hexdigest(), signature)


def url_signed(link: Link, secret: str) -> bool:
    """Check the signature of the transformation and the escaped name; version and type are not signed."""
    escaped = quote(link.name, safe="/:").replace("~", "%7E")
    text = f"{link.transformation}/{escaped}" if link.transformation else escaped
    algorithm, length = ("sha256", 32) if len(link.signature) == 32 else ("sha1", 8)
    digest = base64.urlsafe_b64encode(hashlib.new(algorithm, (text + secret).encode()).digest()).decode()
    return same(digest[:length], link.signature)


def same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())


def stored_id(asked: str) -> str:
    """Return the public id that a file gets if ``asked`` is requested."""
    trimmed = asked.strip("/ ")
    folders = trimmed.split("/")[:-1]
    if not 0 < len(trimmed) <= 255 or re.search(r"[?&#\\%<>+]", trimmed) or any(map(is_version, folders)):
        raise Refused(400, f"public_id ({asked}) is invalid")
    return "".join(sign if sign.isalnum() or sign in ".-_/" else "_" for sign in trimmed)


def is_version(component: str) -> bool:
    return re.fullmatch(r"v[0-9]+", component) is not None


def parse_context(text: str) -> dict[str, str]:
    pairs = re.findall(r"((?:\\[|=]|[^|=])+)=((?:\\[|=]|[^|])*)", text)
    return {re.sub(r"\\([|=])", r"\1", key): re.sub(r"\\([|=])", r"\1", value) for key, value in pairs}


def parse_link(parts: list[str]) -> Link:
    """Read a link. Without a version, a folder that looks like a transformation is read as one."""
    signature, transformations = "", []
    if len(parts) > 1 and (found := re.fullmatch(r"s--([\w-]*)--", parts[0])):
        signature, parts = found[1], parts[1:]
    while len(parts) > 1 and TRANSFORMATION.fullmatch(parts[0]):
        transformations.append(parts[0])
        parts = parts[1:]
    if len(parts) > 1 and is_version(parts[0]):
        parts = parts[1:]
    return Link(signature, "/".join(transformations), "/".join(parts))


def named_ids(request: Request) -> list[str]:
    """Return the public ids that a request lists in JSON, in a form, or in its query."""
    if request.headers.get("content-type", "").startswith("application/json") and request.body:
        listed = json.loads(request.body).get("public_ids", [])
        return [listed] if isinstance(listed, str) else listed
    pairs = parse_qsl(urlsplit(request.target).query) + parse_qsl(request.body.decode())
    return [value for name, value in pairs if name in {"public_ids", "public_ids[]"}]


def usual(extension: str) -> str:
    return {"jpeg": "jpg"}.get(extension.lower(), extension.lower())


def converted(asset: Asset, wanted: str) -> tuple[bytes, str]:
    """Return the file in the requested format (its own by default), and the extension that tells its type."""
    if asset.format is None:
        return asset.data, usual(posixpath.splitext(asset.public_id)[1][1:])
    if usual(wanted) in {"", asset.format}:
        return asset.data, asset.format
    return f"converted to {usual(wanted)}: ".encode() + asset.data, usual(wanted)


def attachment(name: str) -> dict[str, str]:
    plain = name.encode("ascii", "replace").decode().replace('"', "_")
    star = "" if name.isascii() else f"; filename*=UTF-8''{quote(name)}"
    return {"Content-Disposition": f'attachment; filename="{plain}"{star}'}


# -- the service


class FakeCloudinary(FakeService):
    """A test may set ``now``, its clock, and ``single_limit``, the size of a request without chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts: dict[str, Account] = {}
        self.now: Callable[[], float] = time.time
        self.single_limit = 100_000_000

    def add(self, *, cloud: str = "demo", api_key: str = "key", api_secret: str = "secret") -> Account:
        self.accounts[cloud] = Account(cloud, api_key, api_secret, hour=int(self.now() // 3600))
        return self.accounts[cloud]

    def handle(self, request: Request) -> Answer:
        parts = [unquote(part) for part in urlsplit(request.target).path.split("/")[1:]]
        with self.lock:
            answer = self._api(request, parts[1:]) if parts[0] == "v1_1" else self._delivery(request, parts)
        return replace(answer, headers={**answer.headers, "X-Request-Id": uuid.uuid4().hex})

    def _account(self, cloud: str) -> Account:
        if cloud not in self.accounts:
            raise Refused(401, f"Invalid cloud_name {cloud}")
        return self.accounts[cloud]

    def _api(self, request: Request, parts: list[str]) -> Answer:
        try:
            account = self._account("".join(parts[:1]))
            if request.method == "POST" and len(parts) == 3:
                value = self._upload_api(account, parts[1], parts[2], request)
                return Answer.json(200, value, {"Access-Control-Allow-Origin": "*"})
            if request.method in {"GET", "HEAD"} and parts[2:] == ["download"]:
                return self._download(account, parts[1], request)
            return self._admin(account, request, parts[1:])
        except Refused as refused:
            return refused.answer({"Access-Control-Allow-Origin": "*"})

    # -- Upload API

    def _upload_api(self, account: Account, resource_type: str, action: str, request: Request) -> dict[str, Any]:
        if resource_type not in {*account.max_bytes, *({"auto"} if action == "upload" else ())}:
            raise Refused(400, f"Invalid resource_type {resource_type}")
        fields, files = request.form()
        if action == "upload" and not fields.get("signature") and not fields.get("upload_preset"):
            raise Refused(400, "Upload preset must be specified when using unsigned upload")
        self._verify(account, fields)
        self._check_age(fields, 400)
        limit = account.context_limit
        if limit is not None and len(fields.get("context", "")) > limit:
            raise Refused(400, f"Context is too long. Maximum is {limit} characters")
        if action == "upload":
            return self._upload(account, resource_type, request, fields, files)
        if action == "destroy":
            key = self._key(resource_type, fields)
            return {"result": "ok" if account.assets.pop(key, None) else "not found"}
        if action == "explicit":
            required(fields, "type")
            return self._describe(
                account, self._changed(self._found(account, self._key(resource_type, fields)), fields)
            )
        if action == "rename":
            return self._rename(account, resource_type, fields)
        raise Refused(404, f"Unknown action {action}")

    def _verify(self, account: Account, fields: Mapping[str, str]) -> None:
        for name in ("timestamp", "api_key", "signature"):
            required(fields, name)
        if fields["api_key"] != account.api_key:
            raise Refused(401, f"Unknown API key {fields['api_key']}")
        text = string_to_sign(fields)
        if not signed(text, account.api_secret, fields["signature"]):
            raise Refused(401, f"Invalid Signature {fields['signature']}. String to sign - '{text}'.")

    def _check_age(self, fields: Mapping[str, str], status: int) -> None:
        reported = number(fields["timestamp"], "timestamp")
        if self.now() - reported > 3600:
            when = f"{datetime.fromtimestamp(reported, timezone.utc):%Y-%m-%d %H:%M:%S UTC}"
            raise Refused(status, f"Stale request - reported time is {when} which is more than 1 hour ago")

    def _key(self, resource_type: str, fields: Mapping[str, str], name: str = "public_id") -> Key:
        return resource_type, self._type(fields, "type"), required(fields, name)

    def _type(self, fields: Mapping[str, str], name: str, default: str = "upload") -> str:
        kind = fields.get(name) or default
        if kind not in DELIVERY_TYPES:
            raise Refused(400, f"Invalid value {kind} for parameter {name}")
        return kind

    def _found(self, account: Account, key: Key) -> Asset:
        if key not in account.assets:
            raise Refused(404, f"Resource not found - {key[2]}")
        return account.assets[key]

    def _changed(self, asset: Asset, fields: Mapping[str, str]) -> Asset:
        if fields.get("context"):
            asset.context = parse_context(fields["context"])
        if fields.get("tags"):
            asset.tags = fields["tags"].split(",")
        return asset

    def _rename(self, account: Account, resource_type: str, fields: Mapping[str, str]) -> dict[str, Any]:
        asset = self._found(account, self._key(resource_type, fields, "from_public_id"))
        public_id = stored_id(required(fields, "to_public_id"))
        kind = self._type(fields, "to_type", asset.type)
        if (resource_type, kind, public_id) in account.assets and not flag(fields.get("overwrite", "0")):
            raise Refused(400, f"to_public_id({public_id}) already exists")
        del account.assets[asset.key]
        asset.public_id, asset.type = public_id, kind
        account.assets[asset.key] = self._changed(asset, fields)
        return self._describe(account, asset)

    def _upload(
        self, account: Account, asked_type: str, request: Request, fields: dict[str, str], files: dict[str, Upload]
    ) -> dict[str, Any]:
        if "file" not in files:
            raise Refused(400, "The fake fetches no remote files" if "file" in fields else f"{MISSING}file")
        file = files["file"]
        if not file.data:
            raise Refused(400, "Empty file")
        check_size(len(file.data), self.single_limit)
        asked = fields.get("public_id")
        if asked and fields.get("folder"):
            asked = f"{fields['folder']}/{asked}"
        sent = Sent(account, asked_type, stored_id(asked) if asked else None, request.headers, fields, file)
        return self._chunk(sent) if "content-range" in request.headers else self._store(sent, file.data)

    def _chunk(self, sent: Sent) -> dict[str, Any]:
        chunks, start = self._place(sent)
        if chunks.answer is None:
            chunks.parts[start] = sent.file.data
            sent = replace(sent, public_id=sent.public_id or chunks.public_id)
            whole = chunks.whole()
            if whole is None:
                partial = {"done": False, "bytes": sum(map(len, chunks.parts.values())), "kind": "upload"}
                return {**partial, "resource_type": sent.resource_type, "public_id": sent.public_id}
            chunks.answer = self._store(sent, whole)
            chunks.parts.clear()
        return chunks.answer

    def _place(self, sent: Sent) -> tuple[Chunks, int]:
        """Return the upload that a chunk belongs to, and its start."""
        given, size = sent.headers["content-range"], len(sent.file.data)
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", given)
        start, end, total = map(int, found.groups()) if found else (0, 0, 0)
        if end >= total or end - start + 1 != size:
            raise Refused(400, f"Invalid Content-Range {given}")
        if not sent.headers.get("x-unique-upload-id"):
            raise Refused(400, "Missing X-Unique-Upload-Id")
        if sent.resource_type != "auto" or start == 0:
            resource_type = recognize("auto", sent.file.data)[0] if sent.resource_type == "auto" else sent.resource_type
            check_size(total, sent.account.max_bytes[resource_type])
        if end + 1 < total and size < 5_000_000:
            raise Refused(400, "All parts except EOF-chunk must be larger than 5mb")
        key = sent.resource_type, sent.headers["x-unique-upload-id"]
        chunks = sent.account.chunks.setdefault(key, Chunks(sent.public_id or sent.new_id(), total))
        if chunks.total != total:
            raise Refused(400, f"Invalid Content-Range {given}")
        return chunks, start

    def _store(self, sent: Sent, data: bytes) -> dict[str, Any]:
        account, fields = sent.account, sent.fields
        resource_type, form = recognize(sent.resource_type, data)
        check_size(len(data), account.max_bytes[resource_type])
        allowed = [usual(name.strip()) for name in fields.get("allowed_formats", "").split(",") if name.strip()]
        if allowed and form and form not in allowed:
            raise Refused(400, f"{resource_type.title()} file format {form} not allowed")
        key = resource_type, self._type(fields, "type"), sent.public_id or sent.new_id()
        old = account.assets.get(key)
        if old and not flag(fields.get("overwrite", "1")):
            return {**self._describe(account, old), "existing": True}
        if account.altered and resource_type == "image":
            data += b" altered"
        asset = Asset(*key, data, form, int(self.now()), old.asset_id if old else uuid.uuid4().hex)
        asset.original_filename = posixpath.splitext(posixpath.basename(sent.file.filename))[0]
        account.assets[key] = self._changed(asset, fields)
        return {**self._describe(account, asset), **({"overwritten": True} if old else {})}

    def _summary(self, account: Account, asset: Asset) -> dict[str, Any]:
        """Return the description of a file in listings."""
        form = {"format": asset.format} if asset.format else {}
        name = f"{asset.public_id}.{asset.format}" if asset.format else asset.public_id
        path = f"{account.cloud}/{asset.resource_type}/{asset.type}/v{asset.version}/{quote(name)}"
        names = ("asset_id", "public_id", "version", "resource_type", "type", "created_at")
        urls = {"url": f"{self.url}/{path}", "secure_url": f"{self.url}/{path}".replace("http:", "https:")}
        return {**{name: getattr(asset, name) for name in names}, **form, "bytes": len(asset.data), **urls}

    def _context(self, asset: Asset) -> dict[str, Any]:
        return {"context": {"custom": asset.context}} if asset.context else {}

    def _describe(self, account: Account, asset: Asset) -> dict[str, Any]:
        """Return the description of a file that an upload answers with."""
        text = f"public_id={asset.public_id}&version={asset.version}{account.api_secret}"
        more = {
            "signature": hashlib.sha1(text.encode()).hexdigest(),
            "version_id": md5(f"{asset.asset_id}{asset.version}".encode()),
            "etag": asset.etag,
            "tags": asset.tags,
            "placeholder": False,
            "original_filename": asset.original_filename,
            "api_key": account.api_key,
        }
        return {**self._summary(account, asset), **more, **self._context(asset)}

    # -- the download endpoint, and delivery

    def _download(self, account: Account, resource_type: str, request: Request) -> Answer:
        fields = request.query
        self._verify(account, fields)
        if not fields.get("expires_at"):
            self._check_age(fields, 401)
        elif number(fields["expires_at"], "expires_at") < self.now():
            raise Refused(401, "The download URL has expired")
        asset = self._found(account, self._key(resource_type, fields))
        if fields.get("format") and not asset.format:
            raise Refused(404, f"Resource not found - {asset.public_id}.{fields['format']}")
        data, extension = converted(asset, fields.get("format", ""))
        headers = attachment(asset.public_id.rpartition("/")[2]) if flag(fields.get("attachment", "")) else {}
        return self._file(request, data, extension, headers)

    def _file(self, request: Request, data: bytes, extension: str, headers: Mapping[str, str]) -> Answer:
        kind = TYPES.get(extension, "application/octet-stream")
        return content(request, data, kind, {"ETag": f'"{md5(data)}"', **headers})

    def _delivery(self, request: Request, parts: list[str]) -> Answer:
        """Deliver a file. Errors have no body; their reason is in a header."""
        anywhere = {"Access-Control-Allow-Origin": "*"}
        try:
            if request.method not in {"GET", "HEAD"}:
                raise Refused(405, "Method not allowed")
            if len(parts) < 4 or parts[1] not in {"image", "video", "raw"} or parts[2] not in DELIVERY_TYPES:
                raise Refused(404, "Resource not found")
            link = parse_link(parts[3:])
            data, extension = self._delivered(self._account(parts[0]), parts[1], parts[2], link)
        except Refused as refused:
            return Answer(refused.status, b"", {**refused.header, **anywhere})
        as_file = any(ATTACHMENT.fullmatch(part) for part in re.split("[/,]", link.transformation))
        disposition = {"Content-Disposition": "attachment"} if as_file else {}
        return self._file(request, data, extension, {**anywhere, **disposition})

    def _delivered(self, account: Account, resource_type: str, kind: str, link: Link) -> tuple[bytes, str]:
        valid = url_signed(link, account.api_secret)
        if (link.signature or kind == "authenticated") and not valid:
            raise Refused(401, "Invalid signature")
        if resource_type == "raw" and link.transformation:
            raise Refused(400, "Raw files cannot be transformed")
        folder, slash, name = link.name.rpartition("/")
        stem, dot, wanted = name.rpartition(".")
        if resource_type == "raw" or not dot:
            asset, wanted = self._found(account, (resource_type, kind, link.name)), ""
        else:
            asset = self._found(account, (resource_type, kind, folder + slash + stem))
        data, extension = converted(asset, wanted)
        if link.transformation and not ATTACHMENT.fullmatch(link.transformation):
            data = f"derived {link.transformation}: ".encode() + data
        if kind == "private" and data is asset.data and not valid:
            raise Refused(401, "Invalid signature")
        if extension in account.blocked_formats:
            raise Refused(401, "deny or ACL failure")
        return data, extension

    # -- Admin API

    def _admin(self, account: Account, request: Request, parts: list[str]) -> Answer:
        self._authenticate(account, request)
        hour = int(self.now() // 3600)
        if account.hour != hour:
            account.hour, account.admin_calls = hour, 0
        full = account.admin_calls >= account.admin_limit
        account.admin_calls += not full
        reset = datetime.fromtimestamp((hour + 1) * 3600, timezone.utc)
        headers = {
            "X-FeatureRateLimit-Limit": str(account.admin_limit),
            "X-FeatureRateLimit-Remaining": str(account.admin_limit - account.admin_calls),
            "X-FeatureRateLimit-Reset": format_datetime(reset, usegmt=True),
        }
        try:
            if full:
                limit = f"Limit of {account.admin_limit} api operations reached"
                raise Refused(420, f"Rate Limit Exceeded. {limit}. Try again on {reset:%Y-%m-%d %H:%M:%S UTC}")
            return Answer.json(200, self._administer(account, request, parts), headers)
        except Refused as refused:
            return refused.answer(headers)

    def _authenticate(self, account: Account, request: Request) -> None:
        encoded = request.headers.get("authorization", "").removeprefix("Basic ")
        try:
            key, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            key, secret = "", ""
        if key != account.api_key:
            raise Refused(401, f"unknown api_key {key}")
        if not same(secret, account.api_secret):
            raise Refused(401, "api_secret mismatch")

    def _administer(self, account: Account, request: Request, parts: list[str]) -> dict[str, Any]:
        if parts[:1] == ["resources"] and len(parts) > 1 and parts[1] in account.max_bytes:
            resource_type, kind, public_id = parts[1], "".join(parts[2:3]), "/".join(parts[3:])
            if request.method == "GET" and public_id:
                asset = self._found(account, (resource_type, kind, public_id))
                return {**self._summary(account, asset), "etag": asset.etag, "tags": asset.tags, **self._context(asset)}
            if request.method == "GET":
                return self._listing(account, resource_type, kind, request)
            if request.method == "DELETE" and kind:
                return self._delete(account, resource_type, kind, request)
        if request.method == "GET" and parts == ["ping"]:
            return {"status": "ok"}
        if request.method == "GET" and parts == ["config"]:
            settings = {"settings": {"folder_mode": account.folder_mode}}
            return {"cloud_name": account.cloud, **(settings if flag(request.query.get("settings", "")) else {})}
        if request.method == "GET" and parts == ["usage"]:
            limits = {f"{name}_max_size_bytes": limit for name, limit in account.max_bytes.items()}
            stored = sum(len(asset.data) for asset in account.assets.values())
            return {"plan": "Free", "storage": {"usage": stored}, "media_limits": limits}
        raise Refused(404, f"Unknown path {'/'.join(parts)}")

    def _listing(self, account: Account, resource_type: str, kind: str, request: Request) -> dict[str, Any]:
        query, ids = request.query, named_ids(request)
        size = number(query.get("max_results", "10"), "max_results", 1, 500)
        matching = self._matching(account, resource_type, kind, query.get("prefix", ""))
        keys = [key for key in matching if key > self._cursor(query) and (not ids or key[2] in ids)]
        page = [self._entry(account, account.assets[key], query) for key in keys[:size]]
        more = base64.urlsafe_b64encode("\n".join(keys[size - 1]).encode()).decode() if len(keys) > size else None
        return {"resources": page, **({"next_cursor": more} if more else {})}

    def _matching(self, account: Account, resource_type: str, kind: str, prefix: str) -> list[Key]:
        return sorted(
            key
            for key in account.assets
            if key[0] == resource_type and kind in {"", key[1]} and key[2].startswith(prefix)
        )

    def _cursor(self, query: Mapping[str, str]) -> tuple[str, ...]:
        try:
            return tuple(base64.urlsafe_b64decode(query.get("next_cursor", "")).decode().split("\n"))
        except ValueError:
            raise Refused(400, "Invalid value for parameter next_cursor") from None

    def _entry(self, account: Account, asset: Asset, query: Mapping[str, str]) -> dict[str, Any]:
        tags = {"tags": asset.tags} if flag(query.get("tags", "")) else {}
        context = self._context(asset) if flag(query.get("context", "")) else {}
        return {**self._summary(account, asset), **tags, **context}

    def _delete(self, account: Account, resource_type: str, kind: str, request: Request) -> dict[str, Any]:
        fields = {**request.query, **request.form()[0]}
        ids: Iterable[str] = named_ids(request)
        if not ids and fields.get("prefix"):
            ids = [key[2] for key in self._matching(account, resource_type, kind, fields["prefix"])]
        elif not ids:
            required(fields, "public_ids")
        gone = {name: account.assets.pop((resource_type, kind, name), None) for name in ids}
        return {
            "deleted": {name: "deleted" if asset else "not_found" for name, asset in gone.items()},
            "partial": False,
        }
