"""The extension: ``Uploads(app)`` in the factory, and the verbs that a view needs."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NamedTuple, TypeVar, cast
from urllib.parse import quote
from weakref import WeakSet, ref

from flask import Flask, current_app, has_request_context, request
from flask.logging import default_handler, has_level_handler
from werkzeug.datastructures import FileStorage, MultiDict

from . import backends, config, keys
from .backends.base import Backend
from .cli import uploads as commands
from .content_types import UNKNOWN
from .errors import ConfigError, InvalidKey, UploadMalformed, UploadTooLarge
from .intake import batch, multipart, validation
from .operations import platform
from .operations.watch import Watch
from .serving import policy, routes
from .serving.redirects import direct_link
from .signals import file_deleted, file_saved
from .stored import Stat, StoredFile

logger = logging.getLogger("flask_persistent_uploads")

_EXTENSION = "flask_persistent_uploads"

Hook = TypeVar("Hook", bound=Callable[[str, str], bool])


class Uploads:
    """Keeps what users upload, in the backend that the environment chooses.

    Several may serve one app, each with a ``name`` of its own: ``Uploads(name="documents")`` reads ``DOCUMENTS_*`` and
    serves ``/documents``. No state of an app is kept here, so one object may serve several apps.

    A *reference* in the methods below is any spelling of a path that a database may hold. Where one names no file,
    they raise ``InvalidKey``.
    """

    def __init__(self, app: Flask | None = None, *, name: str = "uploads") -> None:
        if not name.isidentifier():
            raise ValueError(f"{name!r} is no name for an Uploads: use letters, digits and '_'")
        self.name = name
        self._check: Callable[[str, str], bool] | None = None
        # Weak, as the apps of a test suite come and go; each is kept by the state of its app.
        self._authorizations: WeakSet[routes.Authorization] = WeakSet()
        self._latest: ref[routes.Authorization] | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the settings, add ``GET /uploads/<path>`` and the strict form parser. No network is touched.

        Raises ``ConfigError`` with every mistake in the settings and its remedy.
        """
        installed: dict[str, _Installed] = app.extensions.setdefault(_EXTENSION, {})
        if self.name in installed:
            raise ConfigError(f"The app has an Uploads named {self.name!r} already: give this one another name.")
        _let_the_log_be_seen()
        settings, problems = config.read(app.config, os.environ, name=self.name)
        for sentence in config.unknown(settings, self.name):
            logger.warning(sentence)
        attempt = Attempt(self.name, settings, config.default_directory(settings, app.instance_path, self.name), app)
        try:
            host = self._host(settings, problems)
            _refuse_the_place_of_another(installed, settings)
            backend = self._build_backend(attempt)
        except ConfigError as error:
            raise _refusal(attempt, [*problems, *error.problems]) from error
        if problems:
            raise _refusal(attempt, problems)
        watch = self._watch(attempt._replace(backend=backend), backend, host)
        state = routes.State(settings, backend, routes.Authorization(self._check), watch)
        self._authorizations.add(state.authorization)
        self._latest = ref(state.authorization)
        installed[self.name] = _Installed(self, state)
        app.request_class = multipart.strict(
            app.request_class, max_size=settings.max_size, max_files=settings.max_files
        )
        app.register_blueprint(routes.blueprint(self.name, state))
        app.jinja_env.globals.setdefault("upload_url", upload_url)
        app.cli.commands.setdefault("uploads", commands)
        watch.begin(app)

    # -- in

    def save_uploads(
        self,
        fields: str | Iterable[str] | None = (),
        *,
        folder: str = "",
        allow: str | Sequence[str] | None = None,
        max_size: int | str | None = None,
    ) -> MultiDict[str, StoredFile]:
        """Store every file of the current request, or of these form ``fields``: all of them, or none.

        Returns when every file is durable, each under its field, as ``request.files`` has them; a field without a
        chosen file is not in it. ``allow`` (``"image/*"``, ``".csv"``, …) takes the place of ``UPLOADS_ALLOW``;
        ``max_size``, in bytes or as ``"10MB"``, may lie below ``UPLOADS_MAX_SIZE``.

        Raises ``UploadRejected`` (400, 413, 415) before anything is stored, or ``BackendError`` after what was stored
        is removed again. The files of the request stay open and stand at their start.
        """
        if not isinstance(request._get_current_object(), multipart.StrictRequest):  # type: ignore[attr-defined]
            raise RuntimeError("app.request_class was replaced after init_app: set it before")  # noqa: TRY004
        wanted = {fields} if isinstance(fields, str) else set(fields or ())
        files = [
            _Incoming(file.stream, file.filename or "", field)
            for field, file in request.files.items(multi=True)
            if (not wanted or field in wanted) and _is_chosen(file, field)
        ]
        stored = self._save_all(files, folder=folder, allow=allow, max_size=max_size)
        return MultiDict([(cast("str", file.field), path) for file, path in zip(files, stored, strict=True)])

    def save(
        self,
        file: IO[bytes] | bytes | FileStorage,
        *,
        filename: str | None = None,
        folder: str = "",
        allow: str | Sequence[str] | None = None,
        max_size: int | str | None = None,
    ) -> StoredFile:
        """Store one file that did not come with the request, from its start; as :meth:`save_uploads` does.

        ``filename`` gives the key its readable part and its extension.
        """
        if isinstance(file, FileStorage):
            stream, filename = file.stream, filename or file.filename
        else:
            stream = io.BytesIO(file) if isinstance(file, bytes) else file
        if getattr(stream, "seekable", lambda: True)():
            (path,) = self._save_all([_Incoming(stream, filename or "")], folder=folder, allow=allow, max_size=max_size)
            return path
        with TemporaryFile() as copy:
            left = _limit(self._state.settings, max_size, self.name) + 1
            while left > 0 and (piece := stream.read(min(left, 1 << 20))):
                left -= copy.write(piece)
            return self.save(copy, filename=filename, folder=folder, allow=allow, max_size=max_size)

    # -- out

    def url(self, reference: str | None) -> str:
        """The app's own permanent link, ``/uploads/<key>``; empty for an empty reference."""
        if not reference:
            return ""
        root = request.script_root if has_request_context() else current_app.config["APPLICATION_ROOT"].rstrip("/")
        return f"{root}{self._state.settings.url_prefix}/{quote(self._key(reference))}"

    def direct_url(self, reference: str | None) -> str:
        """Today's link into the backend, which may expire; the app's own where it serves the file itself.

        It works for half of ``UPLOADS_URL_EXPIRES`` seconds, unless temporary credentials end before. Keep the
        reference, never this. It is empty for an empty reference.
        """
        if not reference:
            return ""
        link = direct_link(self._state.backend, self._key(reference), self._state.settings.url_expires)
        return link.url if link is not None else self.url(reference)

    def direct_urls(self, references: Iterable[str]) -> dict[str, str]:
        """The direct url of each reference: a page of a hundred pictures without a hundred redirects."""
        return {reference: self.direct_url(reference) for reference in references}

    def open(self, reference: str) -> IO[bytes]:
        """The content as a binary stream, to be closed by the caller. Raises ``FileMissing``."""
        return self._state.backend.open(self._key(reference))

    def stat(self, reference: str) -> Stat | None:
        """Size and time of a file; ``None`` if the backend says that it is not there."""
        return self._state.backend.stat(self._key(reference))

    def delete(self, reference: str) -> None:
        """Delete the file, or all files that a comma-joined or JSON list names; silent for what is gone already."""
        state = self._state
        for key in keys.parse(reference, prefix=state.settings.prefix, url_prefix=state.settings.url_prefix):
            state.backend.delete(key)
            logger.info("deleted %s from %s", ascii(key), state.backend.name)
            file_deleted.send(_app(), uploads=self, key=key)

    def authorize(self, check: Hook) -> Hook:
        """Decorator: ``check("read", key) -> bool`` is asked before a file is served; what it forbids is a 404.

        In a factory it is for the app that was set up last, and for every app that has none yet.
        """
        self._check = check
        latest = self._latest() if self._latest is not None else None
        for authorization in self._authorizations:
            if authorization.check is None or authorization is latest:
                authorization.check = check
        return check

    @property
    def backend(self) -> Backend:
        """The backend of the current app."""
        return self._state.backend

    # -- inside

    @property
    def _state(self) -> routes.State:
        return _installed(self.name).state

    def _key(self, reference: str) -> str:
        settings = self._state.settings
        return keys.parse_one(reference, prefix=settings.prefix, url_prefix=settings.url_prefix)

    def _host(self, settings: config.Settings, problems: list[str]) -> platform.Host:
        try:
            return platform.detect(os.environ, settings.platform, variables=f"{self.name.upper()}_")
        except ConfigError as error:
            problems += error.problems
            return platform.detect(os.environ)

    def _build_backend(self, attempt: Attempt) -> Backend:
        settings, variables = attempt.settings, f"{self.name.upper()}_"
        chosen = config.choose_backend(settings, self.name)
        _refuse_what_is_not_here(settings, chosen, variables)
        return backends.build(chosen, settings, directory=attempt.directory, variables=variables, environ=os.environ)

    def _watch(self, attempt: Attempt, backend: Backend, host: platform.Host) -> Watch:
        """Say in one line whether uploads will survive here, or refuse to start where they must and will not."""
        settings = attempt.settings
        watch = Watch(
            backend,
            host,
            environ=os.environ,
            name=self.name,
            expected=settings.store_id,
            chosen_by=settings.sources.get("backend"),
        )
        verdict = watch.at_start()
        text = f"{verdict.reason}: {verdict.remedy}" if verdict.remedy else verdict.reason
        if verdict.survives is False and settings.require_persistent:
            raise _refusal(attempt, [f"{self.name.upper()}_REQUIRE_PERSISTENT is set, but {text}."])
        if verdict.survives is False and backend.name != "memory":
            logger.warning("%s: UPLOADS WILL BE LOST. %s (%s).", self.name, text, backend)
        else:
            what_of_them = f". {text[0].upper()}{text[1:]}" if watch.nearby else ""
            logger.info("%s: files are kept in %s%s.", self.name, backend, what_of_them)
        return watch

    def _save_all(
        self,
        files: Sequence[_Incoming],
        *,
        folder: str,
        allow: str | Sequence[str] | None,
        max_size: int | str | None,
    ) -> list[StoredFile]:
        state, settings = self._state, self._state.settings
        if len(files) > settings.max_files:
            raise UploadTooLarge(f"There are too many files; at most {settings.max_files} at once are allowed.")
        types = settings.allow if allow is None else config.allow_list(allow)
        if allow is not None and not types:
            raise ValueError("allow is empty: name the types that are allowed, or leave it out to allow what is set")
        limit = _limit(settings, max_size, self.name)
        jobs = [self._job(file, folder, types, limit) for file in files]
        routes.look_over(_app(), self.name, state)
        with batch.all_or_nothing(state.backend, jobs):
            digests = batch.save(state.backend, jobs)
            stored = [self._stored(job, digest) for job, digest in zip(jobs, digests, strict=True)]
            for path in stored:
                file_saved.send(_app(), uploads=self, file=path)
        state.watch.wake(_app())
        return stored

    def _job(self, file: _Incoming, folder: str, types: Sequence[str], limit: int) -> batch.Job:
        seen = validation.inspect(file.stream, file.filename, allow=types, max_size=limit, field=file.field)
        prefix = self._state.settings.prefix
        key = keys.new(seen.filename, folder=folder, extension=seen.extension, prefix=prefix)
        kept_as = seen.content_type if policy.shown_inline(seen.content_type) else UNKNOWN
        return batch.Job(key, file.stream, seen, kept_as)

    def _stored(self, job: batch.Job, sha256: str) -> StoredFile:
        return StoredFile(
            f"{self._state.settings.prefix}/{job.key}",
            key=job.key,
            filename=job.seen.filename,
            content_type=job.seen.content_type,
            size=job.seen.size,
            sha256=sha256,
            url=self.url(job.key),
        )


class Attempt(NamedTuple):
    """What ``init_app`` sets up, as far as it has come; ``backend`` is ``None`` where the settings make none."""

    name: str
    settings: config.Settings
    directory: Path
    app: Flask
    backend: Backend | None = None


class _Installed(NamedTuple):
    uploads: Uploads
    state: routes.State


class _Incoming(NamedTuple):
    stream: IO[bytes]
    filename: str
    field: str | None = None


def save_uploads(
    fields: str | Iterable[str] | None = (),
    *,
    folder: str = "",
    allow: str | Sequence[str] | None = None,
    max_size: int | str | None = None,
    name: str = "uploads",
) -> MultiDict[str, StoredFile]:
    """:meth:`Uploads.save_uploads` of the current app's ``Uploads`` called ``name``."""
    return _installed(name).uploads.save_uploads(fields, folder=folder, allow=allow, max_size=max_size)


def upload_url(reference: str | None, name: str = "uploads") -> str:
    """:meth:`Uploads.url` of the current app's ``Uploads`` called ``name``; a global of its Jinja templates.

    For what names no file it is a link that answers 404: one bad row must not take the whole page away.
    """
    uploads, state = _installed(name)
    try:
        return uploads.url(reference)
    except InvalidKey:
        return f"{state.settings.url_prefix}/{quote(str(reference), safe='')}"


def _installed(name: str) -> _Installed:
    try:
        return cast("_Installed", current_app.extensions[_EXTENSION][name])
    except KeyError:
        raise RuntimeError(f"This app has no Uploads named {name!r}: call Uploads(app) in its factory.") from None


def _app() -> Flask:
    return current_app._get_current_object()  # type: ignore[attr-defined,no-any-return]


def _is_chosen(file: FileStorage, field: str) -> bool:
    """Whether a file was chosen: browsers send an empty part without a name where none was."""
    if file.stream.closed:
        raise ValueError(f"The file in {field!r} was closed before it was saved: save it first.")
    if file.filename:
        return True
    file.stream.seek(0)
    if file.stream.read(1):
        raise UploadMalformed(f"The file in '{field}' has no name.", field=field)
    return False


def _limit(settings: config.Settings, max_size: int | str | None, name: str) -> int:
    limit = settings.max_size if max_size is None else config.size(max_size)
    if limit > settings.max_size:
        raise ValueError(f"max_size is above {name.upper()}_MAX_SIZE, which bounds every form: raise that one.")
    return limit


def _refusal(attempt: Attempt, problems: Sequence[str]) -> ConfigError:
    error = ConfigError(problems)
    error.attempt = attempt
    return error


def _refuse_the_place_of_another(installed: Mapping[str, _Installed], settings: config.Settings) -> None:
    for name, (_, other) in installed.items():
        if other.settings.url_prefix == settings.url_prefix:
            raise ConfigError(f"{settings.url_prefix} is served by the Uploads named {name!r} already.")


def _refuse_what_is_not_here(settings: config.Settings, chosen: str, variables: str) -> None:
    """Settings of the design that this version does not serve yet are refused, not ignored."""
    problems = []
    if settings.fallback is not None:
        problems.append(f"{variables}FALLBACK is set, which this version does not serve yet: remove it.")
    if settings.serve != "redirect":
        problems.append(f"{variables}SERVE={settings.serve} is not served by this version yet: remove it.")
    if settings.accel_redirect is not None and chosen != "local":
        problems.append(f"{variables}ACCEL_REDIRECT goes with the backend local, not with {chosen}: remove it.")
    if settings.public_url is not None and chosen not in {"s3", "cloudinary"}:
        problems.append(f"{variables}PUBLIC_URL goes with s3 and cloudinary, not with {chosen}: remove it.")
    if problems:
        raise ConfigError(problems)


def _let_the_log_be_seen() -> None:
    """As Flask does for ``app.logger``: unless the app has set up logging, our lines go to the server's log."""
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if not has_level_handler(logger):
        logger.addHandler(default_handler)
