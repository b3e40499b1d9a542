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
    """Stores uploaded files in the backend that the settings choose, and serves them.

        from flask_persistent_uploads import Uploads, save_uploads, upload_url

        uploads = Uploads()

        def create_app():
            app = Flask(__name__)
            uploads.init_app(app)  # or: Uploads(app)
            return app

    Settings, such as ``UPLOADS_S3_BUCKET``, come from ``app.config``, the environment and ``.env``; the first of these
    wins. An app may have several objects: ``Uploads(name="documents")`` reads ``DOCUMENTS_*``, not ``UPLOADS_*``, and
    serves ``/documents``. One object may serve several apps.

    Everybody who knows the link of a file can see it, unless :meth:`authorize` registers a hook.

    The methods need an app context. A *reference* names a file in any form that a database may hold:
    ``uploads/x.png``, ``uploads\\x.png``, ``/uploads/x.png``, a full URL, or the key alone, ``x.png``. ``None`` and
    ``""``, as in an empty column, are empty references. Text that cannot be a path, such as ``../x``, raises
    ``InvalidKey``.

    If the store fails, the methods raise ``BackendError``. ``FileMissing`` and ``InvalidKey`` derive from it.
    These and ``UploadRejected`` are HTTP exceptions: ``code`` is the status, ``description`` is for the visitor.
    """

    def __init__(self, app: Flask | None = None, *, name: str = "uploads") -> None:
        """Create the object; with an ``app``, call :meth:`init_app`."""
        if not (name.isidentifier() and name.isascii()):
            raise ValueError(f"name is {name!r}. Use letters, digits and '_'; begin with a letter.")
        self.name = name
        self._hooks = Hooks()
        if app is not None:
            self.init_app(app)

    def __repr__(self) -> str:
        return f"<Uploads {self.name!r}>"

    def init_app(self, app: Flask) -> None:
        """Read the settings, and add the command ``flask uploads``, a form parser and two views to the app.

        The parser reads every multipart form of the app, and refuses truncated ones with 400. The views are
        ``GET /uploads/<path>`` (endpoint ``persistent_uploads.file``) and ``GET /uploads/_health`` (endpoint
        ``persistent_uploads.health``); for ``Uploads(name="documents")``, ``persistent_documents.file`` and so on. The
        network is not used. Raises ``ConfigError``, which lists every wrong setting and what to do about it.
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
        fields: str | Iterable[str] | None = None,
        *,
        folder: str = "",
        allow: str | Sequence[str] | None = None,
        max_size: int | str | None = None,
    ) -> MultiDict[str, StoredFile]:
        """Store the files of the current request: all of them, or none.

            paths = save_uploads("photo", folder="reports", allow="image/*", max_size="5MB")
            report.photo = paths["photo"]  # a str, "uploads/reports/…": keep it in the database

        ``fields``    the name of a form field, or several names. Default: all fields.
        ``folder``    the folder for new files, such as ``"reports/2026"``. Allowed: ``a-z 0-9 . _ - /``
        ``allow``     the types that are allowed: ``"image/*"``, ``"application/pdf"``, ``".csv"``, or a list of these.
                      Default: ``UPLOADS_ALLOW``, or every type. ``image/*``, ``audio/*`` and ``video/*`` check the
                      content, and refuse SVG: add ``".svg"`` for it.
        ``max_size``  how large one file may be, in bytes or as ``"5MB"`` (5,000,000 bytes). Default:
                      ``UPLOADS_MAX_SIZE``, or 100 MB. Larger values raise ``ValueError``.
        ``name``      which ``Uploads`` of the app to use, by its ``name``. Only in the function, not in the method.

        Returns a ``MultiDict`` of paths, with the keys of ``request.files``: ``paths["photo"]`` is the first file of a
        field, and ``paths.getlist("photo")`` lists all of them. If no file was chosen, ``paths["photo"]`` raises a 400
        error, and ``paths.get("photo")`` is ``None``. Each value is a ``StoredFile``: the path as a ``str``, with the
        attributes ``key``, ``filename``, ``content_type``, ``size``, ``sha256`` and ``url``, all lost in a database.

        Returns after every file is stored safely. Raises ``UploadRejected`` (400, 413, 415) if a file is refused, and
        ``BackendError`` (502, 503, 504, 507) if the store fails. In both cases the files of this call are deleted;
        ``error.orphans`` of a ``BackendError`` names those that could not be. The files in ``request.files`` can be
        read again afterwards.
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
        """Store one file, from its start: bytes, an open binary file, or a ``FileStorage``.

            path = uploads.save(pdf_bytes, filename="invoice.pdf", folder="invoices")

        Returns one ``StoredFile``. Its key is ``<folder>/<random>-<filename in plain ASCII>``. The other arguments and
        the errors are those of :meth:`save_uploads`.
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
        """Return the permanent link, ``/uploads/<key>``; ``""`` for an empty reference.

        In templates, use ``upload_url(path)``. ``external`` adds scheme and host: those of the request, or
        ``SERVER_NAME`` outside of a request.
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

        ``expires``        the maximum life of the link in seconds (1 to 604800). The minimum is half of it.
                           Default: ``UPLOADS_URL_EXPIRES``, or 3600.
        ``download_name``  the name under which browsers save the file, instead of showing it
        ``external``       make the link absolute, as in :meth:`url`. Links to other hosts are absolute already.

        Anyone with the link can read the file, without the ``authorize`` hook. Temporary credentials of the
        service may end the link sooner. Some links never end: those of public files in Cloudinary and ImageKit, and
        those to ``UPLOADS_PUBLIC_URL``.

        If the app itself sends the file, as from a disk, the link is the permanent one, signed with the ``SECRET_KEY``.
        Only without a ``SECRET_KEY`` it is the permanent link itself, and the hook decides.
        """
        if not reference:
            return ""
        state, key = self._state, self._key(reference)
        seconds = state.settings.url_expires if expires is None else expires
        if not isinstance(seconds, int) or not 1 <= seconds <= config.MAX_URL_EXPIRES:
            raise ValueError(f"expires is {expires!r}. Use a number of seconds from 1 to {config.MAX_URL_EXPIRES}.")
        return links.direct(_app(), state, key, expires=seconds, download_name=download_name, external=external)

    def direct_urls(self, references: Iterable[Reference]) -> dict[Reference, str]:
        """Return a dict of each reference and its :meth:`direct_url`, for pages with many pictures."""
        return {reference: self.direct_url(reference) for reference in references}

    def open(self, reference: str | None) -> IO[bytes]:
        """Return the content as a binary stream, which the caller closes. Raises ``FileMissing`` if it is gone."""
        if not reference:
            raise FileMissing("")
        return self._state.backend.open(self._key(reference))

    def stat(self, reference: str | None) -> Stat | None:
        """Return a ``Stat``: ``key``, ``size`` (bytes), ``modified``, ``sha256``; ``None`` if there is no such file."""
        return self._state.backend.stat(self._key(reference)) if reference else None

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        """Yield a ``Stat`` of every file whose key begins with ``prefix``, in any order. Keys lack ``uploads/``."""
        return self._state.backend.entries(prefix)

    def delete(self, reference: str | None) -> None:
        """Delete the file. Does nothing if it is gone, or for an empty reference.

        A text with several paths, separated by commas or as a JSON list, deletes all of them.
        """
        state = self._state
        for key in references.parse(reference, prefix=state.settings.prefix, url_prefix=state.settings.url_prefix):
            state.backend.delete(key)
            logger.info("deleted %s from %s", ascii(key), state.backend.name)
            file_deleted.send(_app(), uploads=self, key=key)

    def authorize(self, check: Hook) -> Hook:
        """Register the function that decides who may see a file. A decorator.

            @uploads.authorize
            def may_read(action, key):  # action is always "read"
                return key.startswith("public/") or current_user.is_authenticated

        It is called for each request of a permanent link, and must return ``True`` or ``False``. A forbidden file
        answers 404, exactly like a missing one. It guards the files of this object in all of its apps. A second hook
        replaces the first.
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
    fields: str | Iterable[str] | None = None,
    *,
    folder: str = "",
    allow: str | Sequence[str] | None = None,
    max_size: int | str | None = None,
    name: str = "uploads",
) -> MultiDict[str, StoredFile]:
    return _installed(name).uploads.save_uploads(fields, folder=folder, allow=allow, max_size=max_size)


save_uploads.__doc__ = Uploads.save_uploads.__doc__


def upload_url(reference: str | None, name: str = "uploads", *, external: bool = False) -> str:
    """Return the permanent link, ``/uploads/<key>``; ``""`` for an empty reference. Templates can call it.

        <img src="{{ upload_url(report.photo) }}">

    ``name`` is the name of the ``Uploads``. ``external`` adds scheme and host. The link of a text that cannot be a path
    answers 404, so that one bad row does not break a page.
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
