"""The contract of a backend: a place that keeps files. :mod:`.memory` is the shortest complete example.

``None`` means "not there". An exception means "broken": a refusal or an outage is never reported as a missing file.
A backend translates the errors of its service or SDK into :mod:`flask_persistent_uploads.errors`, in its own module.
``flask_persistent_uploads.testing.BackendContract`` has the tests of this contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, ClassVar

from .. import keys
from ..config import COMMON, Setting, Settings
from ..stored import Stat
from .description import Description, arguments, plain, require


class Backend(ABC):
    """Keeps files under keys.

    The constructor only stores its arguments: it does no I/O and imports no SDK. Every method is thread-safe, and
    begins with :func:`flask_persistent_uploads.keys.check`, which raises ``InvalidKey`` for text that is not a key.
    """

    #: The backend's name in ``UPLOADS_BACKEND``, in messages and in the log, in lower case.
    name: ClassVar[str]

    #: The backend's settings, its SDK, and whether its files persist.
    description: ClassVar[Description] = Description()

    #: How many files of one request are saved in parallel. More than 1 helps if saving mostly waits for a service.
    parallel: ClassVar[int] = 1

    #: Whether direct urls may be public: such a url opens the file for everybody, and does not expire.
    permanent_urls: bool = False

    #: For each argument of the constructor, the variable that sets it. Messages use these names.
    variables: Mapping[str, str] = MappingProxyType({})

    def __str__(self) -> str:
        """Describe the place, without secrets, for the start-up line: ``s3, bucket photos at s3.amazonaws.com``."""
        return self.name

    # -- what every backend does

    @abstractmethod
    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        """Store the rest of ``stream``, from its current position, and return its SHA-256 (hex) once it is durable.

        Saving is all-or-nothing: nobody ever reads a part of the file, and a failure changes nothing in the store. The
        stored bytes are verified against the digest. The stream stays open.

        ``size`` is the number of bytes that the stream must hold; another length raises ``BackendRefused``. A key that
        exists raises ``FileExists``, unless ``overwrite`` is true. ``filename`` is the client's name for the file.
        """

    @abstractmethod
    def open(self, key: str) -> IO[bytes]:
        """Return the content as a stream, which the caller closes. Raise ``FileMissing`` if there is no such file."""

    @abstractmethod
    def stat(self, key: str) -> Stat | None:
        """Return the size and the time of a file. Return ``None`` only if the backend says that it does not exist."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete this file and no other. Do nothing if it does not exist."""

    @abstractmethod
    def entries(self, prefix: str = "") -> Iterator[Stat]:
        """Yield every file whose key begins with ``prefix``, in any order, without loading the whole list.

        Reserved keys, which begin with ``keys.RESERVED``, describe the store itself and are left out.
        """

    # -- what some backends do

    def url(
        self, key: str, *, signed_at: int, expires_in: int, method: str = "GET", download_as: str | None = None
    ) -> str | None:
        """Return a direct url, without using the network, or ``None`` if the app serves the file itself.

        The url works for ``expires_in`` seconds from ``signed_at`` (Unix seconds), for one HTTP method. The same
        arguments give the same url in every process. With ``download_as``, browsers save the file under that name, as
        ``application/octet-stream``. Without it, the file has the content type that the key's extension stands for.
        """
        return None

    def valid_until(self) -> float | None:
        """Return the time (Unix seconds) when the credentials expire, and with them every url that they sign.

        Return ``None`` if they do not expire.
        """
        return None

    def filesystem_path(self, key: str) -> Path | None:
        """Return the file's path on this machine, whether or not the file exists.

        Return ``None`` if this backend does not keep files on the disk.
        """
        return None

    def disk_folder(self) -> Path | None:
        """Return the folder on this machine that holds the files. Return ``None`` if they are elsewhere.

        By default, it follows from :meth:`filesystem_path`. Override it if the files are not single files on the disk.
        """
        path = self.filesystem_path(keys.STORE_MARKER)
        if path is None:
            return None
        return path.parents[1] if path.as_posix().endswith(f"/{keys.STORE_MARKER}") else path.parent

    # -- how settings make a backend

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        """Return the settings of this backend: the declared ones, or else one for each argument of the constructor."""
        return cls.description.settings or tuple(Setting(f"{cls.name}_{argument}") for argument in arguments(cls))

    @classmethod
    def argument(cls, setting: str) -> str:
        """Return the argument of the constructor that a setting is passed as: ``bucket`` for ``s3_bucket``."""
        return setting.removeprefix(f"{cls.name}_")

    @classmethod
    def from_settings(cls, settings: Settings, *, environ: Mapping[str, str], instance_path: Path) -> Backend:
        """Construct the backend, without using the network or importing an SDK.

        By default, every setting of the backend that has a value becomes an argument of the constructor. So do common
        settings, such as ``timeout``, for which the constructor has an argument of the same name. Raise ``ConfigError``
        with every problem.
        """
        parameters = arguments(cls)
        values = {row.name: settings[row.name] for row in COMMON if row.name in parameters}
        needed = []
        for name in (row.name for row in cls.settings()):
            argument = cls.argument(name)
            if name in cls.description.needs or (parameters.get(argument) and argument not in values):
                needed.append(name)
            if settings[name] is not None:
                values[argument] = plain(settings[name])
        require(settings, needed)
        return cls(**values)

    def variable(self, argument: str) -> str:
        """Return what a message calls an argument of the constructor: its variable, or its own name if it has none."""
        return self.variables.get(argument, argument)
