"""The extension: ``Uploads(app)`` in the factory, and the functions that views and templates call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TypeVar, cast
from urllib.parse import quote

from flask import Flask, current_app, request
from werkzeug.datastructures import FileStorage, MultiDict

from . import assembly, config, references
from .backends.base import Backend
from .errors import ConfigError, FileMissing, InvalidKey, Problem
from .intake import batch, incoming
from .intake.incoming import Incoming, Limits
from .log import logger
from .serving import links
from .serving.conflicts import warn_about_conflicts
from .serving.state import AuthorizeHook, Hooks, State
from .signals import file_deleted, file_saved
from .stored import Stat, StoredFile

_EXTENSION = "flask_persistent_uploads"

Hook = TypeVar("Hook", bound=AuthorizeHook)
Reference = TypeVar("Reference", bound="str | None")


class Uploads:
    """Stores uploaded files in the backend that the environment chooses, and serves them.

        uploads = Uploads()

        def create_app():
            app = Flask(__name__)
            uploads.init_app(app)
            return app

    An app may have several, each with a ``name`` of its own: ``Uploads(name="documents")`` reads the variables
    ``DOCUMENTS_*`` instead of ``UPLOADS_*`` and serves ``/documents``. One object may be used for several apps.

    The methods need an app context. A *reference* is any spelling of a path that a database may hold:
    ``uploads/x.png``, ``uploads\\x.png``, ``/uploads/x.png``, a full URL, or ``None`` or ``""`` from an empty column.
    The methods raise ``InvalidKey`` for any other text that cannot be the path of a file.
    """

    def __init__(self, app: Flask | None = None, *, name: str = "uploads") -> None:
        if not (name.isidentifier() and name.isascii()):
            raise ValueError(f"name is {name!r}. Use letters, digits and '_'; begin with a letter.")
        self.name = name
        self._hooks = Hooks()
        if app is not None:
            self.init_app(app)

    def __repr__(self) -> str:
        return f"<Uploads {self.name!r}>"

    def init_app(self, app: Flask) -> None:
        """Read the settings, and add the views, the strict form parser and the command ``flask uploads`` to the app.

        The endpoints are ``persistent_uploads.file`` (``GET /uploads/<path>``) and ``persistent_uploads.health``
        (``GET /uploads/_health``); those of ``Uploads(name="documents")`` begin with ``persistent_documents``. No
        network connection is made. Raises ``ConfigError`` with every mistake in the settings and its remedy.
        """
        installed: dict[str, _Installed] = app.extensions.setdefault(_EXTENSION, {})
        if self.name in installed:
            message = f"This app has an Uploads named {self.name!r} already."
            raise ConfigError(Problem(message, "Give the second one a name, as in Uploads(app, name='documents')."))
        state = assembly.assemble(app, self.name, self._hooks, [other.state for other in installed.values()])
        installed[self.name] = _Installed(self, state)
        app.jinja_env.globals.setdefault("upload_url", upload_url)

    # -- in

    def save_uploads(
        self,
        fields: str | Iterable[str] | None = (),
        *,
        folder: str = "",
        allow: str | Sequence[str] | None = None,
        max_size: int | str | None = None,
    ) -> MultiDict[str, StoredFile]:
        """Store the files of the current request: all of them, or none.

            paths = save_uploads("photo", folder="reports", allow="image/*", max_size="5MB")
            report.photo = paths["photo"]  # a str: keep it in the database

        ``fields``    the form field, or fields, whose files are stored; all fields by default
        ``folder``    the first part of the keys: ``a-z``, ``0-9``, ``.``, ``_`` and ``-``, with ``/`` between folders
        ``allow``     the allowed types, instead of those in ``UPLOADS_ALLOW``: ``"image/*"``, ``"application/pdf"``,
                      ``".csv"``, or a list of these. ``image/*``, ``audio/*`` and ``video/*`` allow only types that the
                      content proves; SVG needs ``".svg"``.
        ``max_size``  the largest size of one file: a number of bytes, or a text such as ``"5MB"``; at most
                      ``UPLOADS_MAX_SIZE``
        ``name``      which ``Uploads`` of the app stores them; only the function ``save_uploads`` takes it

        Returns a ``MultiDict`` like ``request.files``: ``paths["photo"]`` is the first file of the field, and
        ``paths.getlist("photo")`` are all of them. Fields without a chosen file are left out. Each value is a
        ``StoredFile``: a ``str`` with the attributes ``key``, ``filename``, ``content_type``, ``size``, ``sha256`` and
        ``url``.

        Returns when every file is stored durably. Raises ``UploadRejected`` (400, 413, 415) before it stores anything,
        or ``BackendError`` (502, 503, 504, 507) after it has deleted what it had stored. The files of the request stay
        open, at their start.
        """
        settings = self._state.settings
        limits = Limits.of_call(settings, folder=folder, allow=allow, max_size=max_size)
        files = incoming.from_request(request._get_current_object(), fields)  # type: ignore[attr-defined]
        return MultiDict(zip([file.field for file in files], self._save_all(files, limits), strict=True))

    def save(
        self,
        file: IO[bytes] | bytes | FileStorage,
        *,
        filename: str | None = None,
        folder: str = "",
        allow: str | Sequence[str] | None = None,
        max_size: int | str | None = None,
    ) -> StoredFile:
        """Store one file that the app has: bytes, an open binary file or a ``FileStorage``, from its start.

            path = uploads.save(pdf_bytes, filename="invoice.pdf", folder="invoices")

        The key ends with ``filename`` in plain ASCII. The other arguments, the value that is returned and the errors
        are those of :meth:`save_uploads`.
        """
        limits = Limits.of_call(self._state.settings, folder=folder, allow=allow, max_size=max_size)
        with incoming.seekable(file, filename, limits.max_size) as found:
            (path,) = self._save_all([found], limits)
        return path

    def _save_all(self, files: Sequence[Incoming], limits: Limits) -> list[StoredFile]:
        app, state = _app(), self._state
        jobs = incoming.jobs(files, state.settings, limits)
        warn_about_conflicts(app, state)
        with batch.all_or_nothing(state.backend, jobs):
            digests = batch.save(state.backend, jobs)
            stored = [self._stored(job, digest) for job, digest in zip(jobs, digests, strict=True)]
            for path in stored:
                file_saved.send(app, uploads=self, file=path)
        state.monitor.wake(app)
        return stored

    def _stored(self, job: batch.Job, sha256: str) -> StoredFile:
        return StoredFile(
            f"{self._state.settings.prefix}/{job.key}",
            key=job.key,
            filename=job.inspected.filename,
            content_type=job.inspected.content_type,
            size=job.inspected.size,
            sha256=sha256,
            url=self.url(job.key),
        )

    # -- out

    def url(self, reference: str | None, *, external: bool = False) -> str:
        """Return the app's own permanent link, ``/uploads/<key>``; ``""`` for an empty reference.

        ``external`` adds scheme and host: those of the request, or ``SERVER_NAME`` outside of a request.
        """
        if not reference:
            return ""
        return links.permanent(self._state, quote(self._key(reference)), external=external)

    def direct_url(
        self,
        reference: str | None,
        *,
        expires: int | None = None,
        download_name: str | None = None,
        external: bool = False,
    ) -> str:
        """Return a temporary link to the file itself; ``""`` for an empty reference. Never store it in the database.

        ``expires``        seconds (1 to 604800) after which the link is invalid at the latest; it is valid for at least
                           half of them, unless temporary credentials end sooner. Default: ``UPLOADS_URL_EXPIRES``.
        ``download_name``  the name under which browsers save the file, instead of showing it
        ``external``       add scheme and host if the link leads to the app itself; other links always have them

        Whoever has the link can read the file: the ``authorize`` hook is not called. Public links of Cloudinary,
        ImageKit and ``UPLOADS_PUBLIC_URL`` do not expire. If the app itself sends the file, the link is the permanent
        one with a signature, or without it if the app has no ``SECRET_KEY``.
        """
        if not reference:
            return ""
        state, key = self._state, self._key(reference)
        seconds = state.settings.url_expires if expires is None else expires
        if not isinstance(seconds, int) or not 1 <= seconds <= config.MAX_URL_EXPIRES:
            raise ValueError(f"expires is {expires!r}. Use a number of seconds from 1 to {config.MAX_URL_EXPIRES}.")
        return links.direct(_app(), state, key, expires=seconds, download_name=download_name, external=external)

    def direct_urls(self, references: Iterable[Reference]) -> dict[Reference, str]:
        """Return the direct url of each reference, so that a page of many pictures needs no redirects."""
        return {reference: self.direct_url(reference) for reference in references}

    def open(self, reference: str | None) -> IO[bytes]:
        """Return the content as a binary stream, which the caller closes. Raises ``FileMissing``."""
        if not reference:
            raise FileMissing("")
        return self._state.backend.open(self._key(reference))

    def stat(self, reference: str | None) -> Stat | None:
        """Return the size (bytes) and the time of a file; ``None`` if the store has no such file."""
        return self._state.backend.stat(self._key(reference)) if reference else None

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        """Yield every stored file whose key begins with ``prefix``, lazily and in no particular order."""
        return self._state.backend.entries(prefix)

    def delete(self, reference: str | None) -> None:
        """Delete a file, or all files of a comma-joined or JSON list. Does nothing for files that are gone."""
        state = self._state
        for key in references.parse(reference, prefix=state.settings.prefix, url_prefix=state.settings.url_prefix):
            state.backend.delete(key)
            logger.info("deleted %s from %s", ascii(key), state.backend.name)
            file_deleted.send(_app(), uploads=self, key=key)

    def authorize(self, check: Hook) -> Hook:
        """Register the function that decides who may see a file. A decorator.

            @uploads.authorize
            def may_read(action, key):  # action is "read"
                return key.startswith("public/") or current_user.is_authenticated

        It is called before each view of a file and returns ``True`` or ``False``. A forbidden file answers 404, exactly
        like a missing one. The function belongs to this object, for every app that uses it.
        """
        self._hooks.authorize = check
        return check

    @property
    def backend(self) -> Backend:
        """The backend of the current app."""
        return self._state.backend

    @property
    def _state(self) -> State:
        return _installed(self.name).state

    def _key(self, reference: str) -> str:
        settings = self._state.settings
        return references.parse_one(reference, prefix=settings.prefix, url_prefix=settings.url_prefix)


@dataclass(frozen=True, slots=True)
class _Installed:
    uploads: Uploads
    state: State


def save_uploads(
    fields: str | Iterable[str] | None = (),
    *,
    folder: str = "",
    allow: str | Sequence[str] | None = None,
    max_size: int | str | None = None,
    name: str = "uploads",
) -> MultiDict[str, StoredFile]:
    return _installed(name).uploads.save_uploads(fields, folder=folder, allow=allow, max_size=max_size)


save_uploads.__doc__ = Uploads.save_uploads.__doc__


def upload_url(reference: str | None, name: str = "uploads", *, external: bool = False) -> str:
    """Return the app's own permanent link, ``/uploads/<key>``; ``""`` for an empty reference. A global in templates.

        <img src="{{ upload_url(report.photo) }}">

    ``name`` tells which ``Uploads`` of the app serves the file. ``external`` adds scheme and host. The link of a
    reference that cannot be the path of a file answers 404, so that one bad row does not break the whole page.
    """
    installed = _installed(name)
    try:
        return installed.uploads.url(reference, external=external)
    except InvalidKey:
        return links.permanent(installed.state, quote(str(reference), safe="", errors="replace"), external=external)


def _installed(name: str) -> _Installed:
    try:
        return cast("_Installed", current_app.extensions[_EXTENSION][name])
    except KeyError:
        known = ", ".join(map(repr, current_app.extensions.get(_EXTENSION, {})))
        remedy = f"It has {known}" if known else "Call Uploads(app) in its factory"
        raise RuntimeError(f"This app has no Uploads named {name!r}. {remedy}.") from None


def _app() -> Flask:
    return current_app._get_current_object()  # type: ignore[attr-defined,no-any-return]
