"""Everything that this package raises.

    UploadsError
    ├── ConfigError              at start: a setting is wrong or missing
    ├── UploadRejected           we refuse a file
    │   ├── UploadMalformed      400  the form is incomplete or malformed
    │   ├── UploadTooLarge       413  a file is too large, or there are too many
    │   └── TypeNotAllowed       415  a type that is not in the allow-list
    └── BackendError             the place where files are kept said no
        ├── FileMissing          404
        ├── InvalidKey           404
        ├── FileExists           409
        ├── BackendRefused       502  permissions, credentials, a wrong bucket
        │   └── WrongLength      502  the stream held more or fewer bytes than was said
        ├── BackendUnavailable   503  it cannot be reached, or asks us to slow down
        ├── BackendTimeout       504  it did not answer in time
        └── BackendFull          507

All but ConfigError are Werkzeug HTTP exceptions of their status, so ``@app.errorhandler(413)`` or a handler for
``HTTPException`` answers them without knowing this package. No description holds a secret, a signed URL or a path of
the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from .extension import Attempt


class UploadsError(Exception):
    """The root of all errors of this package."""


class ConfigError(UploadsError):
    """Raised by ``init_app``; :attr:`problems` holds every mistake that was found, each with its remedy.

    :attr:`attempt` is what was being set up, for ``flask uploads doctor``.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        self.attempt: Attempt | None = None
        super().__init__("\n".join(self.problems))


class UploadRejected(UploadsError, HTTPException):
    """A file, or the form around it, is refused; nothing of the request was stored.

    :attr:`field` and :attr:`filename` say which file, where it is one.
    """

    def __init__(self, description: str, *, field: str | None = None, filename: str | None = None) -> None:
        super().__init__(description)
        self.field = field
        self.filename = filename


class UploadMalformed(UploadRejected, BadRequest):
    """400: the body broke off, or is not a well-formed form (RFC 7578)."""


class UploadTooLarge(UploadRejected, RequestEntityTooLarge):
    """413: a file is larger, or the files are more, than is allowed."""


class TypeNotAllowed(UploadRejected, UnsupportedMediaType):
    """415: the content is of a type that is not allowed here."""


class BackendError(UploadsError, HTTPException):
    """The backend could not do what it was asked.

    :attr:`key` is the file concerned, where it is one. :attr:`orphans` are the keys of files that an upload left
    may have left because removing them failed as well; normally empty.
    """

    def __init__(self, description: str, *, key: str | None = None) -> None:
        super().__init__(description)
        self.key = key
        self.orphans: tuple[str, ...] = ()

    def leave_behind(self, orphans: Sequence[str]) -> None:
        """Name in the description the files that may be left, because removing them failed or is in doubt."""
        new = [key for key in orphans if key not in self.orphans]
        if new:
            self.orphans += tuple(new)
            self.description = f"{self.description} What may be left there: {', '.join(new)}."


class FileMissing(BackendError, NotFound):
    """404: the backend itself said that there is no such file."""

    def __init__(self, key: str) -> None:
        super().__init__("There is no such file.", key=key)


class InvalidKey(BackendError, NotFound):
    """404: not an address that any file can have."""


class FileExists(BackendError, Conflict):
    """409: a file with this key is there, and ``overwrite`` was not asked for."""

    def __init__(self, key: str) -> None:
        super().__init__("A file with this key exists already; nothing was replaced.", key=key)


class BackendRefused(BackendError, BadGateway):
    """502: asking again will not help; a permission, a credential or the place itself is wrong."""


class WrongLength(BackendRefused):
    """502: a stream did not hold as many bytes as was said, as when it changes while it is read."""

    def __init__(self, key: str, *, expected: int, found: int) -> None:
        super().__init__(f"The file has {found} bytes where {expected} were expected; nothing was stored.", key=key)


class BackendUnavailable(BackendError, ServiceUnavailable):
    """503: asking again in a while may help; sent with ``Retry-After``."""

    def __init__(self, description: str, *, key: str | None = None, retry_after: int = 5) -> None:
        super().__init__(description, key=key)
        self.retry_after = retry_after


class BackendTimeout(BackendError, GatewayTimeout):
    """504: no answer within ``UPLOADS_TIMEOUT``."""


class BackendFull(BackendError):
    """507: no room is left; what was stored before is intact."""

    code = 507
