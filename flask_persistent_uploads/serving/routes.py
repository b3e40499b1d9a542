"""``GET`` and ``HEAD /uploads/<path>``: a redirect to the backend, or the bytes where the app keeps them itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO
from urllib.parse import quote

from flask import Blueprint, Flask, Response, current_app, jsonify, request
from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import wrap_file

from .. import content_types, keys
from ..backends.base import Backend
from ..config import Settings
from ..errors import FileMissing, InvalidKey
from ..operations.watch import Watch
from ..stored import Stat
from . import policy
from .redirects import Redirect, direct_link

logger = logging.getLogger("flask_persistent_uploads")

_FOR_EVER = "public, max-age=31536000, immutable"  # what lies under a key never changes
_ASK_EACH_TIME = "private, no-cache"

_BLUEPRINT = "persistent_"  # an app may have a blueprint "uploads" of its own
_MAX_REMEMBERED = 1000
_UNAVAILABLE = 503


@dataclass(eq=False)
class Authorization:
    """The app's own word on who may read what: ``check(action, key)``; ``None`` while everybody may."""

    check: Callable[[str, str], bool] | None = None


@dataclass(slots=True)
class State:
    """What the routes need to know of one ``Uploads`` in one app."""

    settings: Settings
    backend: Backend
    authorization: Authorization
    watch: Watch
    missing: set[str] = field(default_factory=set)
    looked_over: bool = False


def look_over(app: Flask, name: str, state: State) -> None:
    """Say once what else in the app, which is set up by now, stands against the way in which files are served."""
    if state.looked_over:
        return
    state.looked_over = True
    variables, url_prefix = f"{name.upper()}_", state.settings.url_prefix
    endpoint = other_route(app, name, state)
    if endpoint is not None:
        logger.warning(
            "the app's own route %r answers %s/…, so uploads are not served: remove it, or set %sURL_PREFIX",
            endpoint,
            url_prefix,
            variables,
        )
    remedy = permanent_links(name, state)
    if remedy is not None:
        logger.warning(
            "the authorize hook guards %s, but its links to %s are public and do not end: %s",
            url_prefix,
            state.backend.name,
            remedy,
        )


def other_route(app: Flask, name: str, state: State) -> str | None:
    """The route of the app's own that answers in place of ours, as the one that served the old folder does."""
    try:
        endpoint, _ = app.url_map.bind("").match(f"{state.settings.url_prefix}/file.png", method="GET")
    except HTTPException:  # a rule that redirects, or a converter of the app's own that aborts
        endpoint = "of another kind"
    return endpoint if endpoint != f"{_BLUEPRINT}{name}.file" else None


def permanent_links(name: str, state: State) -> str | None:
    """What to set where a hook says who may see a file: it is asked for the redirect, not where that leads.

    ``None`` where there is no hook, or links end.
    """
    if state.authorization.check is None or not state.backend.permanent_urls:
        return None
    variables, backend = f"{name.upper()}_", state.backend.name
    if hasattr(state.settings, f"{backend}_private"):
        return f"set {variables}{backend.upper()}_PRIVATE=true"
    return f"remove {variables}PUBLIC_URL"


def blueprint(name: str, state: State) -> Blueprint:
    """The routes of one ``Uploads`` in one app."""
    prefix, url_prefix = state.settings.prefix, state.settings.url_prefix
    routes = Blueprint(f"{_BLUEPRINT}{name}", __name__)

    def file(path: str) -> Response:
        """Answer for the file that ``path`` names, in any spelling; 404 for what is not there, not allowed, no key."""
        try:
            key = keys.parse_one(path, prefix=prefix, url_prefix=url_prefix)
        except InvalidKey:
            raise FileMissing(path) from None
        check = state.authorization.check
        private = check is not None
        if check is not None and not _may_read(check, key):
            raise FileMissing(key)
        link = direct_link(state.backend, key, state.settings.url_expires, method=request.method)
        return Redirect(link, private=private) if link is not None else _serve(state, key, private=private)

    def health() -> Response:
        """What the store is and how it does, for a platform's health check and for ``flask uploads doctor --url``."""
        answer, status = state.watch.health()
        response = jsonify(answer)
        response.status_code = status
        response.headers["Cache-Control"] = "no-store"
        if status == _UNAVAILABLE:
            response.headers["Retry-After"] = "15"
        return response

    # The path keeps its doubled slashes: Werkzeug would redirect to the merged one, at the Host that the client sent.
    # The second rule is for rows that were written on Windows, "uploads\\x.png", as encodeURI sends them.
    for rule in (f"{url_prefix}/<path:path>", f"{url_prefix}\\<path:path>"):
        routes.add_url_rule(rule, "file", file, methods=["GET"], merge_slashes=False)
    routes.add_url_rule(f"{url_prefix}/_health", "health", health, methods=["GET"], merge_slashes=False)
    return routes


def _may_read(check: Callable[[str, str], bool], key: str) -> bool:
    allowed = current_app.ensure_sync(check)("read", key)
    if not isinstance(allowed, bool):  # a redirect to a login page would count as a yes
        raise TypeError(f"the authorize hook must return True or False, not {type(allowed).__name__}")
    return allowed


def _serve(state: State, key: str, *, private: bool) -> Response:
    try:
        stat = state.backend.stat(key)
        if stat is None:
            raise FileMissing(key)
        body = state.backend.open(key)
    except FileMissing:
        _log_once(state, key)
        raise
    try:
        response = _response(state, stat, body)
    except BaseException:
        body.close()
        raise
    response.headers["Cache-Control"] = _ASK_EACH_TIME if private else _FOR_EVER
    if not private:
        response.headers["Access-Control-Allow-Origin"] = "*"
    return response


def _response(state: State, stat: Stat, body: IO[bytes]) -> Response:
    download_as = policy.download_name(stat.key)
    content_type = content_types.of_name(stat.key) if download_as is None else content_types.UNKNOWN
    response = Response(wrap_file(request.environ, body, 1 << 16), mimetype=content_type, direct_passthrough=True)
    response.headers.extend(policy.SECURITY_HEADERS)
    if download_as is not None:
        response.headers["Content-Disposition"] = content_types.attachment(download_as)
    if _left_to_the_web_server(state, stat.key, response):
        body.close()
        response.response = []
        return response
    response.content_length = stat.size
    response.last_modified = stat.modified
    response.set_etag(stat.sha256 or f"{stat.modified.timestamp():.6f}-{stat.size}")
    response.make_conditional(request.environ, accept_ranges=True, complete_length=stat.size)
    return response


def _left_to_the_web_server(state: State, key: str, response: Response) -> bool:
    """Name the file for nginx (``UPLOADS_ACCEL_REDIRECT``) or Apache (Flask's ``USE_X_SENDFILE``) to send."""
    path = state.backend.filesystem_path(key)
    if path is not None and state.settings.accel_redirect is not None:
        response.headers["X-Accel-Redirect"] = f"{state.settings.accel_redirect}/{quote(key)}"
        return True
    if path is not None and current_app.config["USE_X_SENDFILE"]:
        response.headers["X-Sendfile"] = str(path)
        return True
    return False


def _log_once(state: State, key: str) -> None:
    """One warning for a missing file, however often a page asks for it."""
    if key not in state.missing:
        if len(state.missing) >= _MAX_REMEMBERED:
            state.missing.clear()
        state.missing.add(key)
        logger.warning(
            "%s is not in the store (%s): it was lost, deleted, or never stored here", ascii(key), state.backend.name
        )
