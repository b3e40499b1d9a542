"""Everything that this package raises.

    UploadsError
    ├── ConfigError              init_app: a setting is wrong or missing
    ├── UploadRejected           the file, or the form around it, is refused
    │   ├── UploadMalformed      400  the form is incomplete or malformed
    │   ├── UploadTooLarge       413  a file is too large, or there are too many
    │   └── TypeNotAllowed       415  the type is not in the allow-list
    └── BackendError             the backend failed or refused
        ├── FileMissing          404  there is no such file
        ├── InvalidKey           404  the text cannot be the path of a file
        ├── FileExists           409  there is a file with this key already
        ├── BackendRefused       502  permissions, credentials, a wrong bucket
        │   └── WrongLength      502  the stream held more or fewer bytes than declared
        ├── BackendUnavailable   503  it cannot be reached, or asks the app to slow down
        ├── BackendTimeout       504  it did not answer in time
        └── BackendFull          507  the disk, the bucket or the account is full

All but ConfigError are Werkzeug HTTP exceptions, so ``@app.errorhandler(413)`` or a handler for ``HTTPException``
handles them without knowing this package. ``description`` is the sentence for visitors, and ``data`` carries it for
flask-smorest, APIFlask and Flask-RESTful. ``str(error)`` is for operators: the cause, and for a ``BackendError`` the
remedy and the keys of files that may be left behind. No text holds a secret, a signed URL or a path of the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from werkzeug.exceptions import (
    BadGateway,
    BadRequest,
    Conflict,
    GatewayTimeout,
    HTTPException,
    NotFound,
    RequestEntityTooLarge,
    ServiceUnavailable,
    UnsupportedMediaType,
)


def printable(text: str) -> str:
    """Return ``text`` on one line: line breaks, control and other unprintable characters are written as escapes."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong, and what to do about it.

    :attr:`message`  what is wrong, in full sentences; may repeat what a user wrote
    :attr:`remedy`   what to do, in full sentences or as lines to copy; may be empty
    :attr:`setting`  the variable concerned, as the user named it; ``None`` if there is none
    """

    message: str
    remedy: str = ""
    setting: str | None = None

    def __str__(self) -> str:
        """Return message and remedy on one line, for the log."""
        return printable(f"{self.message} {self.remedy}".strip())

    def as_json(self) -> dict[str, str | None]:
        """Return the three parts, unchanged, for ``json.dumps``."""
        return asdict(self)


class UploadsError(Exception):
    """The root of all errors of this package."""


class ConfigError(UploadsError):
    """``init_app`` found mistakes in the settings. :attr:`problems` holds all of them; ``str`` has a line for each."""

    def __init__(self, problems: Problem | Sequence[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class UploadRejected(UploadsError, HTTPException):
    """A file, or the form around it, is refused; nothing of the request was stored.

    :attr:`field` and :attr:`filename` tell which file was refused; ``None`` if the whole form was.
    """

    def __init__(self, description: str, *, field: str | None = None, filename: str | None = None) -> None:
        super().__init__(description)
        self.code = self.code or 400  # on the object: a code of the class would hide subclasses from error handlers
        self.field = field
        self.filename = filename

    @cached_property
    def data(self) -> dict[str, Any]:
        """The JSON that REST libraries send: ``message``, and ``errors`` for one field. They may replace it."""
        errors = {"errors": {"files": {self.field: [self.description]}}} if self.field is not None else {}
        return {"message": self.description, **errors}


class UploadMalformed(UploadRejected, BadRequest):
    """400: the body is incomplete, or it is not a well-formed form (RFC 7578)."""


class UploadTooLarge(UploadRejected, RequestEntityTooLarge):
    """413: a file is too large, or there are too many files."""


class TypeNotAllowed(UploadRejected, UnsupportedMediaType):
    """415: the content is of a type that is not allowed."""


class BackendError(UploadsError, HTTPException):
    """The backend failed or refused.

    :attr:`message`        the cause, for operators
    :attr:`remedy`         what an operator can do; may be empty
    :attr:`setting`        the variable to change, as the user named it, if there is one
    :attr:`service_code`   the service's own code for the error, such as ``NoSuchBucket``, if it gave one
    :attr:`key`            the key of the file concerned, if it is one file
    :attr:`orphans`        keys of files that a failed upload may have left in the store; normally empty
    :attr:`nothing_stored` whether it is certain that the failed call stored nothing
    """

    description: str = "The file store is not available at the moment. Please try again later."
    nothing_stored: bool = False

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        setting: str | None = None,
        key: str | None = None,
        service_code: str | None = None,
    ) -> None:
        super().__init__()
        self.code = self.code or 500  # on the object: a code of the class would hide subclasses from error handlers
        self.message = message
        self.remedy = remedy
        self.setting = setting
        self.service_code = service_code
        self.key = key
        self.orphans: tuple[str, ...] = ()

    @cached_property
    def data(self) -> dict[str, Any]:
        """The JSON that REST libraries send: the sentence for visitors. They may replace it."""
        return {"message": self.description}

    @property
    def problem(self) -> Problem:
        """The message, the remedy and the setting, without the orphans."""
        return Problem(self.message, self.remedy, self.setting)

    def leave_behind(self, orphans: Sequence[str]) -> None:
        """Record the keys of files that may be left in the store, because it is not certain that they were deleted."""
        self.orphans = tuple(dict.fromkeys((*self.orphans, *orphans)))

    def __str__(self) -> str:
        """Return the problem and the orphans on one line, for operators."""
        left = f" These files may be left in the store: {', '.join(self.orphans)}." if self.orphans else ""
        return printable(f"{self.problem}{left}")


class FileMissing(BackendError, NotFound):
    """404: the backend itself says that there is no such file."""

    description = "There is no such file."
    nothing_stored = True

    def __init__(self, key: str) -> None:
        super().__init__(f"There is no file with the key {key!r}.", key=key)


class InvalidKey(BackendError, NotFound):
    """404: the text cannot be the path of a file."""

    description = "There is no such file."
    nothing_stored = True


class FileExists(BackendError, Conflict):
    """409: a file with this key exists, and ``overwrite`` is not set."""

    description = "This file exists already. It was not replaced."
    nothing_stored = True

    def __init__(self, key: str) -> None:
        super().__init__(f"A file with the key {key!r} exists already. It was not replaced.", key=key)


class BackendRefused(BackendError, BadGateway):
    """502: a permission, a credential or the address of the store is wrong; a retry does not help."""

    nothing_stored = True


class WrongLength(BackendRefused):
    """502: a stream did not hold as many bytes as declared, for example because the file changed during the upload."""

    def __init__(self, key: str, *, expected: int, found: int) -> None:
        super().__init__(f"The file has {found} bytes, but {expected} were declared. Nothing was stored.", key=key)


class BackendUnavailable(BackendError, ServiceUnavailable):
    """503: a retry may help after ``retry_after`` seconds, which the response sends as its ``Retry-After`` header."""

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        setting: str | None = None,
        key: str | None = None,
        service_code: str | None = None,
        retry_after: int = 5,
        nothing_stored: bool = False,
    ) -> None:
        super().__init__(message, remedy=remedy, setting=setting, key=key, service_code=service_code)
        self.retry_after = retry_after
        self.nothing_stored = nothing_stored


class BackendTimeout(BackendError, GatewayTimeout):
    """504: the backend did not answer within ``UPLOADS_TIMEOUT``."""


class BackendFull(BackendError):
    """507: no room is left; files that were stored before are intact."""

    code = 507
    description = "There is no room for more files at the moment. Please try again later."
    nothing_stored = True
