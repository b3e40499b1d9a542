"""Checks that try the store itself: a small file is saved, read in every way there is, and deleted again."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

from ... import keys
from ...backends import remote
from ...backends.base import Backend
from ...errors import BackendError, BackendFull, BackendRefused, BackendTimeout, UploadRejected
from .. import marker, web
from ..bucket import Bucket, NotAllowed, deletes, sweeps
from .case import FAILURE, SKIPPED, Case, Finding, failure, halves, ok, unbroken, unforeseen, warning
from .offline import store as is_the_store

Named = tuple[str, Finding]

_STEP, _LAST = 5.0, 2.0  # seconds for one call to the store, and for the removal after one that failed
_LOOKS, _BETWEEN_LOOKS = 6, 0.5  # seconds between
_GIVEN = 200
_SKEWED, _WRONG = 60, 900  # seconds: S3 refuses what was signed 15 minutes from now
_EXPIRES = 300
_SIGNATURE = re.compile(r"((?:X-Amz-Signature|signature|ik-s)=[^&]*)([^&])")


class Trial:
    """Each check is a method, and answers ``None`` where it does not apply.

    Where one fails, those are left out that would fail by the same cause.
    """

    def __init__(self, case: Case, backend: Backend) -> None:
        self.case, self.backend, self.bucket = case, backend, Bucket.of(backend)
        self.key = keys.own(f"doctor-{secrets.token_hex(8)}.txt")
        self.content = f"flask uploads doctor {secrets.token_hex(16)}\n".encode()
        self._signed_at = int(time.time())
        self._door: web.Answer | None = None
        self._may_be_there = False
        self._out_of_reach = False
        self._error: Exception | None = None
        self._folders = _missing_folders(backend.filesystem_path(self.key))

    def run(self) -> list[Named]:
        """Name and finding of each check that applies. Nothing is left in the store, or it is said what."""
        try:
            saved = self._until_failure(self.service, self.clock_skew, self.region, self.save)
            if _failed(saved):
                return saved
            seen = self._until_failure(
                self.stat,
                self.read,
                self.link,
                self.link_by_head,
                self.link_by_range,
                self.tampering,
                self.cors,
                self.store,
            )
            around = [self.listing, self.lifecycle, self.delete]
            if self.stat.__name__ not in _failed(seen):  # who may not read is refused for what is missing as well
                around.insert(0, self.missing_file)
            return saved + seen + self._all(*around)
        finally:
            self._remove()
            for folder in self._folders:
                with contextlib.suppress(OSError):  # it was not made, or somebody uses it by now
                    folder.rmdir()

    # -- before anything is stored

    def service(self) -> Finding | None:
        """The service answers at all."""
        door = self._door_of_the_service()
        if door is None:
            return None
        try:
            self._door = web.ask(door, method="HEAD", seconds=_STEP)
        except web.Unreachable as error:
            return failure(f"No answer from {door}: {error}", "correct the endpoint, or see the service's status page")
        return ok(f"{door} answers")

    def clock_skew(self) -> Finding | None:
        """This machine's clock is the service's: what is signed has a date."""
        try:
            fresh = self._door is not None and "Age" not in self._door.headers  # else it is the date of a cache
            theirs = parsedate_to_datetime(self._door.headers["Date"]) if self._door and fresh else None
        except (KeyError, TypeError, ValueError):
            theirs = None
        if theirs is None:
            return None
        seconds = round(time.time() - theirs.timestamp())
        if abs(seconds) < _SKEWED:
            return ok("The clock agrees with the service's")
        seen = f"The clock is {abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} the service's"
        return (failure if abs(seconds) >= _WRONG else warning)(seen, "set the clock of this machine (NTP)")

    def region(self) -> Finding | None:
        """The bucket is in the region that is set, which every link names."""
        told = self._door.headers.get("x-amz-bucket-region") if self._door else None
        if self.bucket is None or told is None:
            return None
        ours = self.bucket.backend.region
        if told != ours:
            seen = f"The bucket is in the region {told}, not {ours}"
            return failure(seen, f"{self.case.variables}S3_REGION={told}")
        return ok(f"The bucket is in {ours}")

    def save(self) -> Finding:
        """A file can be saved."""

        def call() -> object:
            return self.backend.save(
                self.key,
                BytesIO(self.content),
                content_type="text/plain",
                size=len(self.content),
                filename="doctor.txt",
            )

        self._may_be_there = True
        answer = self._try("s3:PutObject", call, "A file can be saved")
        if isinstance(self._error, (BackendRefused, BackendFull, UploadRejected)):  # who refuses has stored nothing
            self._may_be_there = False
        elif answer.verdict == FAILURE:
            removed, self._may_be_there = self._remove(), False
            if not removed or isinstance(self._error, BackendTimeout):
                return answer._replace(seen=f"{answer.seen}; {self._place} may be left there")
        return answer

    # -- the file in the store

    def stat(self) -> Finding:
        """The store knows the file. A search may lag behind."""
        answer = self._try("s3:GetObject", self._known, "The store knows the file and its size")
        if answer.verdict != FAILURE and not self._soon(lambda: self._known() == len(self.content)):
            return failure("The store does not know the file that was just saved", "see if another program removes it")
        return answer

    def missing_file(self) -> Finding:
        """A file that is not there is told from one that may not be seen."""
        other = keys.own(f"doctor-{secrets.token_hex(8)}.txt")
        return self._try("s3:ListBucket", lambda: self.backend.stat(other), "A missing file is told from a refusal")

    def read(self) -> Finding:
        read = b""

        def call() -> None:
            nonlocal read
            with self.backend.open(self.key) as stream:
                read = stream.read()

        answer = self._try("s3:GetObject", call, "It is read back byte for byte")
        if answer.verdict != FAILURE and read != self.content:
            return failure("What is read back is not what was saved", "see what stands between the app and the store")
        return answer

    # -- as a browser gets it

    def link(self) -> Finding | None:
        """The direct url gives the file."""
        return self._expect("GET", {}, 200, self.content, "The direct url gives the file")

    def link_by_head(self) -> Finding | None:
        return self._expect("HEAD", {}, 200, b"", "It answers HEAD")

    def link_by_range(self) -> Finding | None:
        return self._expect("GET", {"Range": "bytes=6-12"}, 206, self.content[6:13], "It gives a range of bytes")

    def tampering(self) -> Finding | None:
        """An altered signature opens nothing, and none opens nothing either."""
        url = self._url("GET") or ""
        other, found = _SIGNATURE.subn(lambda match: match[1] + ("0" if match[2] != "0" else "1"), url, count=1)
        if not found:
            return None
        remedy = "make the bucket or the files private"
        if self._status(other) == _GIVEN:
            return failure("A link with an altered signature still gives the file: it is public", remedy)
        if self._status(url.partition("?")[0]) == _GIVEN:
            return failure("Anybody can read files without a signed link", remedy)
        return ok("An altered link is refused")

    def cors(self) -> Finding | None:
        """Pages may fetch files by script: they come through our redirect, with ``Origin: null``."""
        url = self._url("GET")
        if url is None:
            return None
        try:
            answer = web.ask(url, headers={"Origin": "null"}, seconds=_STEP)
        except web.Unreachable as error:
            return warning(f"The direct url gave no answer: {error}", "try again")
        if answer.headers.get("Access-Control-Allow-Origin") in {"*", "null"}:
            return ok("Pages may fetch files by script")
        if self.bucket is None:
            return warning(
                "Pages cannot fetch files by script", f"show them in <img>; {self.backend.name} decides this"
            )
        seen = "Pages cannot fetch files by script: no CORS rule allows the origin *"
        return warning(seen, self._setup)

    def listing(self) -> Finding | None:
        """Nobody lists the bucket without credentials."""
        if self.bucket is None:
            return None
        if self._status(f"{self.bucket.backend.api_url}?list-type=2&max-keys=1") == _GIVEN:
            return failure("Anybody can list the bucket, and so find every file", "take s3:ListBucket from everybody")
        return ok("Strangers cannot list the bucket")

    # -- around it

    def lifecycle(self) -> Finding | None:
        """Parts of uploads that broke off are swept."""
        if self.bucket is None:
            return None
        prefix = self.bucket.backend.prefix
        try:
            rules = remote.within(_STEP, self.bucket.lifecycle)
        except NotAllowed:
            return Finding(SKIPPED, "The credentials may not see the bucket's lifecycle rules")
        except BackendError as error:
            return Finding(SKIPPED, f"The bucket's lifecycle rules cannot be read: {error.description}")
        if name := deletes(rules, prefix):
            return failure(f"The bucket's lifecycle rule {name!r} deletes uploads by their age", "remove that rule")
        if sweeps(rules, prefix):
            return ok("Parts of uploads that broke off are swept")
        return warning("No lifecycle rule sweeps the parts of uploads that broke off", self._setup)

    def store(self) -> Finding | None:
        """The store is the one that the app was set up with."""
        if self.case.folder is not None:
            return None  # its marker was read already
        answer = self._try("s3:GetObject", self._read_marker, "")
        return answer if answer.verdict == FAILURE else is_the_store(self.case)

    def delete(self) -> Finding:
        """The file can be deleted, and is gone."""
        answer = self._try("s3:DeleteObject", lambda: self.backend.delete(self.key), "A file can be deleted")
        self._may_be_there = False
        if answer.verdict == FAILURE:
            return answer._replace(seen=f"{answer.seen}; {self._place} is left there")
        if not self._soon(lambda: self._known() is None):
            return failure(f"A file that was deleted is still there: {self._place}", "see the service's status page")
        return answer

    # -- inside

    def _read_marker(self) -> None:
        self.case.marker = marker.read(self.backend)

    def _remove(self) -> bool:
        """Whether nothing is left, as far as can be known."""
        if self._may_be_there:
            with contextlib.suppress(Exception):  # it is said that the file may be left
                remote.within(_LAST, lambda: self.backend.delete(self.key))
                self._may_be_there = False
        return not self._may_be_there

    def _known(self) -> int | None:
        """The size of the file, by the store."""
        found = self.backend.stat(self.key)
        return found.size if found else None

    def _soon(self, holds: Callable[[], bool]) -> bool:
        """Whether something holds within a few seconds: the search of some services lags behind."""
        for _ in range(_LOOKS):
            try:
                if remote.within(_STEP, holds):
                    return True
            except BackendError:  # nobody can tell, which is another check's to say
                return True
            time.sleep(_BETWEEN_LOOKS)
        return False

    @property
    def _setup(self) -> str:
        return "flask uploads setup s3 --apply" + ("" if self.case.name == "uploads" else f" --name {self.case.name}")

    @property
    def _place(self) -> str:
        return f"{self.bucket.backend.prefix}/{self.key}" if self.bucket else self.key

    def _until_failure(self, *checks: Callable[[], Finding | None]) -> list[Named]:
        findings: list[Named] = []
        for check in checks:
            findings += self._all(check)
            if _failed(findings):
                break
        return findings

    def _all(self, *checks: Callable[[], Finding | None]) -> list[Named]:
        return [(check.__name__, finding) for check in checks if (finding := unbroken(check)) is not None]

    def _door_of_the_service(self) -> str | None:
        if self.bucket is not None:
            return self.bucket.backend.api_url
        url = self._url("GET")
        return f"{urlsplit(url).scheme}://{urlsplit(url).netloc}/" if url else None

    def _url(self, method: str) -> str | None:
        """The direct url; ``None`` if there is none, or none that is reached from here."""
        if self._out_of_reach:
            return None
        return self.backend.url(self.key, signed_at=self._signed_at, expires_in=_EXPIRES, method=method)

    def _try(self, action: str, call: Callable[[], object], success: str) -> Finding:
        """What comes of a call that needs the permission ``action``, where the store is a bucket."""
        try:
            remote.within(_STEP, call)
        except Exception as error:  # noqa: BLE001 - a third party's backend may raise anything
            self._error = error
        else:
            return ok(success)
        if isinstance(self._error, BackendError):
            return self._trouble(self._error, action)
        if isinstance(self._error, UploadRejected):
            seen = str(self._error.description).rstrip(".")
            return failure(seen, "see the limits of the service and of its plan")
        return unforeseen(self._error)

    def _trouble(self, error: BackendError, action: str) -> Finding:
        text = str(error.description).partition(" What may be left there: ")[0]
        left = f"; {', '.join(error.orphans)} may be left there" if error.orphans else ""
        if self.bucket is not None and isinstance(error, BackendRefused) and re.search(r"\((AccessDenied|403)\)", text):
            place = f"arn:aws:s3:::{self.bucket.name}"
            if action == "s3:ListBucket":
                where = f"{place} (the bucket itself, not {place}/*)"
            else:
                where = f"{place}/{self.bucket.backend.prefix}/*"
            return failure(f"The permission {action} is missing", f"allow {action} on {where}")
        full = isinstance(error, BackendFull)
        seen, remedy = halves(text, "make room there" if full else "try again, and see the service's status page")
        return failure(f"{seen}{left}", remedy)

    def _expect(self, method: str, headers: dict[str, str], status: int, body: bytes, success: str) -> Finding | None:
        url = self._url(method)
        if url is None:
            return None
        try:
            answer = web.ask(url, method=method, headers=headers, seconds=_STEP)
        except web.Unreachable as error:
            seen = f"The direct url gives no answer: {error}"
            if self.case.settings.s3_public_endpoint_url is not None:  # for browsers; it need not be reached from here
                self._out_of_reach = True
                return warning(seen, f"ask {self.case.variables}S3_PUBLIC_ENDPOINT_URL from where browsers are")
            return failure(seen, "see the endpoint that browsers reach")
        if answer.status != status:
            seen = f"The direct url answers {answer.status} to {method} in place of {status}"
            return failure(seen, "see that what stands before the store passes on paths, queries and headers")
        if answer.body != body:
            return failure("The direct url gives other bytes than were saved", "see what stands before the store")
        return ok(success)

    def _status(self, url: str) -> int:
        try:
            return web.ask(url, seconds=_STEP).status
        except web.Unreachable:
            return 0


def _missing_folders(path: Path | None) -> list[Path]:
    """Those that a file at ``path`` makes when it is saved, the innermost first."""
    return [folder for folder in path.parents if not folder.exists()] if path is not None else []


def _failed(findings: Sequence[Named]) -> set[str]:
    """The names of the checks that failed."""
    return {name for name, finding in findings if finding.verdict == FAILURE}
