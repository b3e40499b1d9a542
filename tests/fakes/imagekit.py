"""A fake of ImageKit: uploads by a server, the API of the media library, and delivery with its cache.

    with FakeImageKit() as fake:
        account = fake.add(id="demo")
        client = ImageKit(private_key=account.private_key, base_url=fake.url, …)
        client.helper.build_url(src="/uploads/a.webp", url_endpoint=account.endpoint, signed=True)

Signatures are computed here, without the SDK. The service does not document the following, so it is assumed:

* 401 without credentials, 403 for an unknown key;
* the wording of all errors but "cannot be authenticated", "already exists" and "does not exist";
* the type of a file follows from its first bytes (images) or its extension (all else), never from the form;
* a ``searchQuery`` without ``type`` finds folders too;
* without ``sort``, a list is in the order of creation, files first;
* the search finds a file after ``index_delay``, but its details, its URL and its place exist at once;
* overwriting keeps the fileId and drops tags, metadata, description and privacy that the new upload does not name;
* the cache holds a path with all its transformations, and a purge of its URL, with any parameters, empties that.

Not faked: uploads by browsers, ``checks``, sizes of images, uploads by URL or base64, ``extensions``, draft files,
named transformations.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import posixpath
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote, urlsplit

from .service import Answer, FakeService, Request, Upload, content

CORS = {"Access-Control-Allow-Origin": "*"}
HELP = "For support kindly contact us at support@imagekit.io ."
EXISTS = (
    "A file with the same name already exists at the exact location. We could not overwrite it because both "
    "overwriteFile and useUniqueFileName are set to false."
)
FOREVER = "9999999999"  # a URL without ik-t is signed with this timestamp
WINDOW = 12.0  # seconds over which calls are counted
MAGIC = {
    rb"\x89PNG\r\n\x1a\n": "image/png",
    rb"\xff\xd8\xff": "image/jpeg",
    rb"GIF8[79]a": "image/gif",
    rb"RIFF....WEBP": "image/webp",
    rb"....ftypavi[fs]": "image/avif",
}
TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "svg": "image/svg+xml",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "mp3": "audio/mpeg",
    "pdf": "application/pdf",
    "zip": "application/zip",
    "json": "application/json",
    "txt": "text/plain",
    "csv": "text/csv",
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
}
Test = Callable[[dict[str, Any]], bool]  # whether a list contains a row
SORTS = {"NAME": "name", "CREATED": "createdAt", "UPDATED": "updatedAt", "SIZE": "size"}
ON_REQUEST = ("tags", "customMetadata", "isPrivateFile", "isPublished", "customCoordinates")  # responseFields


@dataclass
class StoredFile:
    """A file in the media library; its path is its key in :attr:`Account.files`."""

    file_id: str
    data: bytes
    is_private: bool = False
    tags: list[str] | None = None
    custom_metadata: dict[str, Any] = field(default_factory=dict)
    description: str | None = None
    created_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)
    versions: list[bytes] = field(default_factory=list)  # earlier contents, oldest first

    @property
    def version_info(self) -> dict[str, str]:
        number = len(self.versions) + 1
        later = hashlib.sha1(f"{self.file_id}/{number}".encode()).hexdigest()[:24]
        return {"id": self.file_id if number == 1 else later, "name": f"Version {number}"}


@dataclass
class Account:
    id: str
    private_key: str
    service: FakeImageKit = field(repr=False)
    max_bytes: dict[str, int] = field(  # the free plan's
        default_factory=lambda: {"image": 26_214_400, "video": 104_857_600, "other": 26_214_400}
    )
    index_delay: float = 0.0
    rate_limit: int | None = None  # API calls within WINDOW, without uploads
    optimise: bool = True
    files: dict[str, StoredFile] = field(default_factory=dict)
    folders: dict[str, tuple[str, float]] = field(default_factory=dict)  # path -> id, time of creation
    cached: dict[str, StoredFile] = field(default_factory=dict)  # the copies in the CDN, by path
    purged: list[str] = field(default_factory=list)
    purges: set[str] = field(default_factory=set)
    calls: list[float] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"{self.service.url}/ik/{self.id}"

    def path_of(self, file_id: str) -> str:
        for path, file in self.files.items():
            if file.file_id == file_id:
                return path
        raise Refused(404, "The requested file does not exist.")

    def describe(self, path: str) -> dict[str, Any]:
        """Return the file object of the API."""
        file, name = self.files[path], posixpath.basename(path)
        mime = sniff(name, file.data)
        image = mime.startswith("image/")
        return {
            "type": "file",
            "fileId": file.file_id,
            "name": name,
            "filePath": path,
            "url": self.endpoint + path,
            "thumbnail": f"{self.endpoint}/tr:n-ik_ml_thumbnail{path}" if image else self.endpoint + path,
            "fileType": "image" if image else "non-image",
            "size": len(file.data),
            "mime": mime,
            "isPrivateFile": file.is_private,
            "isPublished": True,
            "customCoordinates": None,
            "createdAt": iso(file.created_at),
            "updatedAt": iso(file.updated_at),
            "AITags": None,
            "tags": file.tags,
            "customMetadata": file.custom_metadata,
            "description": file.description,
            "versionInfo": file.version_info,
        }

    def note_folders(self) -> dict[str, tuple[str, float]]:
        """Return all folders: those of the files, and those of files that were deleted."""
        for path, file in self.files.items():
            while (path := posixpath.dirname(path)) != "/":
                self.folders.setdefault(path, (secrets.token_hex(12), file.created_at))
        return self.folders

    def describe_folders(self) -> list[dict[str, Any]]:
        return [
            {
                "type": "folder",
                "folderId": folder_id,
                "name": posixpath.basename(path),
                "folderPath": path,
                "createdAt": iso(created),
                "updatedAt": iso(created),
                "customMetadata": {},
            }
            for path, (folder_id, created) in self.note_folders().items()
        ]


class Refused(Exception):
    """An error of the API, with its answer."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(message)
        self.answer = Answer.json(status, {"message": message, "help": HELP, **more}, {**CORS, **(headers or {})})


class FakeImageKit(FakeService):
    """See the description of the module. A test may set :attr:`now`, its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts: dict[str, Account] = {}
        self.now: Callable[[], float] = time.time

    def add(self, id: str = "demo", private_key: str = "private_x") -> Account:  # noqa: A002
        self.accounts[id] = Account(id, private_key, self)
        return self.accounts[id]

    def handle(self, request: Request) -> Answer:
        try:
            with self.lock:
                return self._route(request)
        except Refused as refused:
            return refused.answer

    def _route(self, request: Request) -> Answer:
        path = urlsplit(request.target).path
        if path.startswith("/ik/"):
            return self._deliver(request)
        account = self._authenticate(request)
        if request.method == "POST" and path == "/api/v1/files/upload":
            return self._upload(account, request)
        self._count(account)
        for method, pattern, action in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == request.method:
                return action(self, account, request, *found.groups())
        raise Refused(404, "The requested resource does not exist.")

    # -- accounts

    def _authenticate(self, request: Request) -> Account:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            raise Refused(401, "Authorization is missing.")
        try:
            private_key = base64.b64decode(credentials, validate=True).decode(errors="replace").partition(":")[0]
        except ValueError:
            raise Refused(401, "Your credentials cannot be read.") from None
        for account in self.accounts.values():
            if account.private_key == private_key:
                return account
        raise Refused(403, "Your account cannot be authenticated.")

    def _count(self, account: Account) -> None:
        """Refuse the call if there were too many recently."""
        if account.rate_limit is None:
            return
        now = self.now()
        account.calls = [at for at in account.calls if at > now - WINDOW]
        if len(account.calls) >= account.rate_limit:
            reset = account.calls[0] + WINDOW - now if account.calls else WINDOW
            times = {"Reset": reset * 1000, "Interval": WINDOW * 1000, "Limit": account.rate_limit}
            headers = {f"X-RateLimit-{name}": str(int(value)) for name, value in times.items()}
            raise Refused(429, "You have exceeded the rate limit of this API.", headers)
        account.calls.append(now)

    # -- uploads

    def _upload(self, account: Account, request: Request) -> Answer:
        fields, files = form_of(request)
        if "file" not in files:
            raise Refused(400, "Missing `file` parameter for upload.")
        if not fields.get("fileName"):
            raise Refused(400, "Missing `fileName` parameter for upload.")
        file = replace(files["file"], filename=re.sub(r"[^A-Za-z0-9._-]", "_", fields["fileName"]))
        accept(account, file)
        path = self._save(account, fields, file)
        told = account.describe(path)
        asked = [name for name in fields.get("responseFields", "").split(",") if name in ON_REQUEST]
        always = ("fileId", "name", "url", "filePath", "fileType", "size", "versionInfo", "AITags", "description")
        body = {"thumbnailUrl": told["thumbnail"], **{name: told[name] for name in (*always, *asked)}}
        return Answer.json(200, body, CORS)

    def _save(self, account: Account, fields: Mapping[str, str], upload: Upload) -> str:
        name, folder = upload.filename, re.sub(r"[^A-Za-z0-9/_-]", "_", fields.get("folder", "/"))
        unique, overwrite = flag(fields, "useUniqueFileName", True), flag(fields, "overwriteFile", True)
        private, metadata = flag(fields, "isPrivateFile", False), json_object(fields.get("customMetadata", "{}"))
        if unique:
            stem, dot = posixpath.splitext(name)
            name = f"{stem}_{secrets.token_urlsafe(7)}{dot}"
        path = "/".join(["", *filter(None, folder.split("/")), name])
        old, now = account.files.get(path), self.now()
        if old and not overwrite:
            raise Refused(400, EXISTS)
        account.files[path] = StoredFile(
            file_id=old.file_id if old else secrets.token_hex(12),
            data=upload.data,
            is_private=private,
            tags=fields["tags"].split(",") if fields.get("tags") else None,
            custom_metadata=metadata,
            description=fields.get("description"),
            created_at=old.created_at if old else now,
            updated_at=now,
            versions=[*old.versions, old.data] if old else [],
        )
        return path

    # -- the media library

    def _list(self, account: Account, request: Request) -> Answer:
        query = request.query
        limit, skip = number(query, "limit", 1000, 1, 1000), number(query, "skip", 0, 0, 1 << 62)
        kind = query.get("fileType", "all")
        wanted: list[Test] = [*search_terms(query), lambda row: kind in ("all", row.get("fileType", kind))]
        if query.get("path"):
            folder = "/" + query["path"].strip("/")
            wanted.append(lambda row: posixpath.dirname(row.get("filePath") or row["folderPath"]) == folder)
        indexed = [path for path, file in account.files.items() if file.created_at + account.index_delay <= self.now()]
        rows = [account.describe(path) for path in indexed] + account.describe_folders()
        rows = [row for row in rows if all(want(row) for want in wanted)]
        if "sort" in query:
            direction, _, by = query["sort"].partition("_")
            if direction not in ("ASC", "DESC") or by not in SORTS:
                raise Refused(400, "Invalid sort parameter.")
            rows.sort(key=lambda row: row.get(SORTS[by], 0), reverse=direction == "DESC")
        return Answer.json(200, rows[skip : skip + limit])

    def _details(self, account: Account, request: Request, file_id: str) -> Answer:
        return Answer.json(200, account.describe(account.path_of(file_id)))

    def _delete(self, account: Account, request: Request, file_id: str) -> Answer:
        account.note_folders()
        del account.files[account.path_of(file_id)]
        return Answer(204)

    def _delete_all(self, account: Account, request: Request) -> Answer:
        ids = form_of(request)[0].get("fileIds", "").split(",")
        if len(ids) > 100 or not all(ids):
            raise Refused(400, "fileIds has to hold 1 to 100 ids.")
        missing = sorted(set(ids) - {file.file_id for file in account.files.values()})
        if missing:
            raise Refused(404, "The requested file(s) does not exist.", missingFileIds=missing)
        for file_id in dict.fromkeys(ids):
            self._delete(account, request, file_id)
        return Answer.json(200, {"successfullyDeletedFileIds": ids})

    def _purge(self, account: Account, request: Request) -> Answer:
        url = form_of(request)[0].get("url", "")
        if not url.startswith(account.endpoint + "/"):
            raise Refused(400, "The URL is not one of your account.")
        path = split_url(url.removeprefix(account.endpoint + "/"))[0]
        folder = path.removesuffix("*")
        if "*" in folder or (folder != path and folder.count("/") < 2 and len(folder) < 16 and "." not in folder):
            raise Refused(400, "The wildcard is not supported in this place.")
        for cached in list(account.cached):
            if cached == path or (folder != path and cached.startswith(folder)):
                del account.cached[cached]
        account.purged.append(url)
        account.purges.add(purge_id := secrets.token_hex(12))
        return Answer.json(201, {"requestId": purge_id})

    def _purge_status(self, account: Account, request: Request, purge_id: str) -> Answer:
        if purge_id not in account.purges:
            raise Refused(404, "No purge request with this id exists.")
        return Answer.json(200, {"status": "Completed"})

    # -- delivery

    def _deliver(self, request: Request) -> Answer:
        account_id, _, url = request.target.removeprefix("/ik/").partition("/")
        account = self.accounts.get(account_id)
        if account is None or request.method not in ("GET", "HEAD"):
            return plain(404, "Not Found")
        path, transformation = split_url(url)
        signed = self._is_signed(account, url, request.query)
        file = account.cached.get(path) or account.files.get(path)
        if signed is False or (file and file.is_private and not signed):
            return plain(401, "Your request is not authorized to access this file.")
        if file is None:
            return plain(404, "Not Found")
        account.cached[path] = file
        name, headers = posixpath.basename(path), dict(CORS)
        if request.query.get("ik-attachment") == "true":
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        kind = TYPES.get(extension(name), "application/octet-stream")
        return content(request, transform(account, file.data, transformation), kind, headers)

    def _is_signed(self, account: Account, url: str, query: Mapping[str, str]) -> bool | None:
        """Return whether the signature is valid, or ``None`` if there is none."""
        if "ik-s" not in query:
            return None
        path, _, rest = url.partition("?")
        others = "&".join(part for part in rest.split("&") if not part.startswith(("ik-s=", "ik-t=")))
        expires = query.get("ik-t", FOREVER)
        genuine = query["ik-s"] == sign(account.private_key, path + (others and f"?{others}") + expires)
        return genuine and expires.isdecimal() and self.now() < int(expires)


ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("GET", "/v1/files", FakeImageKit._list),
    ("GET", "/v1/files/([^/]+)/details", FakeImageKit._details),
    ("DELETE", "/v1/files/([^/]+)", FakeImageKit._delete),
    ("POST", "/v1/files/batch/deleteByFileIds", FakeImageKit._delete_all),
    ("POST", "/v1/files/purge", FakeImageKit._purge),
    ("GET", "/v1/files/purge/([^/]+)", FakeImageKit._purge_status),
]


def sign(private_key: str, message: str) -> str:
    return hmac.new(private_key.encode(), message.encode(), "sha1").hexdigest()


# -- requests


def form_of(request: Request) -> tuple[dict[str, str], dict[str, Upload]]:
    try:
        return request.form()
    except (ValueError, KeyError, AttributeError):
        raise Refused(400, "The body of your request cannot be read.") from None


def json_object(value: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refused(400, "Your request contains invalid JSON.")
    return found


def flag(fields: Mapping[str, str], name: str, default: bool) -> bool:
    value = fields.get(name, str(default).lower())
    if value not in ("true", "false"):
        raise Refused(400, f"Invalid {name} parameter.")
    return value == "true"


def number(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    value = query.get(name, str(default))
    if not value.isdecimal() or not least <= int(value) <= most:
        raise Refused(400, f"Invalid {name} parameter.")
    return int(value)


def search_terms(query: Mapping[str, str]) -> list[Test]:
    """Return the conditions for a row: those of ``searchQuery``, or else ``type``, which ``searchQuery`` overrides."""
    search, kind = query.get("searchQuery"), query.get("type", "file")
    if search is None:
        if kind not in ("file", "folder", "all"):
            raise Refused(400, "Invalid type parameter.")
        return [lambda row: kind in ("all", row["type"])]
    terms = [re.fullmatch(r'\s*(?:(name)\s*([=:])|(type)\s*=)\s*"([^"]*)"\s*', t) for t in re.split(r"\sAND\s", search)]
    if not all(terms):
        raise Refused(400, "Invalid search query.")
    return [term_test(term[1] or term[3], term[2] == ":", term[4]) for term in terms if term]


def term_test(name: str, prefix: bool, value: str) -> Test:
    return lambda row: row[name].startswith(value) if prefix else row[name] == value


def accept(account: Account, upload: Upload) -> None:
    """Refuse a file that is empty or larger than the plan allows."""
    size, kind = len(upload.data), sniff(upload.filename, upload.data).partition("/")[0]
    limit = account.max_bytes[kind if kind in ("image", "video") else "other"]
    if not size:
        raise Refused(400, "The file is empty")
    if size > limit:
        raise Refused(400, f"The file is larger than {limit} bytes, which is the limit of your plan.")


# -- files


def extension(name: str) -> str:
    return name.rpartition(".")[2].lower()


def sniff(name: str, data: bytes) -> str:
    """Return the type: of an image by its first bytes, of any other file by its name."""
    for magic, kind in MAGIC.items():
        if re.match(magic, data, re.DOTALL):
            return kind
    named = TYPES.get(extension(name), "application/octet-stream")
    return "application/octet-stream" if named in MAGIC.values() else named


def split_url(url: str) -> tuple[str, str]:
    """Return the path of the file in a URL below the endpoint, and the transformation in its path and query."""
    path, _, query = url.partition("?")
    steps = [part.removeprefix("tr=") for part in query.split("&") if part.startswith("tr=")]
    if path.startswith("tr:"):
        first, _, path = path.partition("/")
        steps.insert(0, first.removeprefix("tr:"))
    return "/" + unquote(path), unquote(":".join(steps))


def transform(account: Account, data: bytes, transformation: str) -> bytes:
    if not sniff("", data).startswith("image/") or "orig-true" in re.split("[:,]", transformation):
        return data
    if transformation:
        return f"derived {transformation}: ".encode() + data
    return b"optimised: " + data if account.optimise else data


def plain(status: int, message: str) -> Answer:
    return Answer(status, message.encode(), {"Content-Type": "text/plain", **CORS})


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
