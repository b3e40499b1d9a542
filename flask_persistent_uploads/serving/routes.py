"""The views. ``GET /uploads/<path>`` redirects to the backend, or sends the file if the app keeps it itself."""

from __future__ import annotations

from typing import IO
from urllib.parse import quote

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.wsgi import wrap_file

from .. import content_types, references
from ..errors import FileMissing, InvalidKey
from ..log import logger
from ..stored import Stat
from . import policy, redirects, signed_query
from .redirects import Redirect, direct_link
from .signed_query import SignedQuery
from .state import AuthorizeHook, State

_IMMUTABLE = "public, max-age=31536000, immutable"  # the content of a key never changes
_REVALIDATE = "private, no-cache"

_MAX_REMEMBERED = 1000


def blueprint(state: State) -> Blueprint:
    """Return the routes of one ``Uploads``. The endpoints are ``persistent_<name>.file`` and ``.health``."""
    url_prefix = state.settings.url_prefix
    routes = Blueprint(state.blueprint, __name__)

    def file(path: str) -> Response:
        """Serve the file that ``path`` names in any spelling. Answer 404 if it is missing, forbidden, or not a key."""
        return _file(state, path)

    def health() -> Response:
        """Report the state of the store, for a platform's health check and for ``flask uploads doctor --url``."""
        return _health(state)

    # By default, Werkzeug redirects a doubled slash to the merged path, on the Host that the client sent. The second
    # rule is for rows that were written on Windows, such as "uploads\\x.png": encodeURI sends them like this.
    for rule in (f"{url_prefix}/<path:path>", f"{url_prefix}\\<path:path>"):
        routes.add_url_rule(rule, "file", file, methods=["GET"], merge_slashes=False)
    routes.add_url_rule(f"{url_prefix}/_health", "health", health, methods=["GET"], merge_slashes=False)
    return routes


def _health(state: State) -> Response:
    report, status = state.monitor.health()
    response = jsonify(report)
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    if status == 503:
        response.headers["Retry-After"] = "15"
    return response


def _file(state: State, path: str) -> Response:
    settings = state.settings
    try:
        key = references.parse_one(path, prefix=settings.prefix, url_prefix=settings.url_prefix)
    except InvalidKey:
        raise FileMissing(path) from None
    environ, hook = request.environ, state.hooks.authorize  # each access to request costs a look-up of the context
    signed = _signed_query(state, key) if "signature=" in environ.get("QUERY_STRING", "") else None
    if signed is None:
        if hook is not None and not _may_read(hook, key):
            raise FileMissing(key)
        link = direct_link(state.backend, key, settings.url_expires, method=environ["REQUEST_METHOD"])
    else:
        link = direct_link(
            state.backend,
            key,
            settings.url_expires,
            method=environ["REQUEST_METHOD"],
            download_name=signed.download_name,
            ends_at=signed.ends_at,
        )
    if link is not None:
        return Redirect(link, private=signed is None and hook is not None)
    return _send(state, key, signed)


def _signed_query(state: State, key: str) -> SignedQuery | None:
    return signed_query.verify(current_app, state.settings.uploads, key, request.args, moment=redirects.now())


def _may_read(hook: AuthorizeHook, key: str) -> bool:
    allowed = current_app.ensure_sync(hook)("read", key)
    if not isinstance(allowed, bool):  # a redirect to a login page would count as True
        raise TypeError(f"The authorize hook must return True or False, not {type(allowed).__name__}.")
    return allowed


# -- files that the app sends itself


def _send(state: State, key: str, signed: SignedQuery | None) -> Response:
    try:
        stat = state.backend.stat(key)
        if stat is None:
            raise FileMissing(key)
        body = state.backend.open(key)
    except FileMissing:
        _log_missing(state, key)
        raise
    try:
        response = _response(state, stat, body, signed.download_name if signed is not None else None)
    except BaseException:
        body.close()
        raise
    response.headers["Cache-Control"] = _cache_control(state, signed)
    if signed is not None or state.hooks.authorize is None:
        response.headers["Access-Control-Allow-Origin"] = "*"
    return response


def _cache_control(state: State, signed: SignedQuery | None) -> str:
    if signed is not None:
        return f"private, max-age={max(0, int(signed.ends_at - redirects.now()))}"
    return _IMMUTABLE if state.hooks.authorize is None else _REVALIDATE


def _response(state: State, stat: Stat, body: IO[bytes], download_name: str | None) -> Response:
    download_as = download_name or policy.download_name(stat.key)
    content_type = content_types.of_name(stat.key) if download_as is None else content_types.UNKNOWN
    response = Response(wrap_file(request.environ, body, 1 << 16), mimetype=content_type, direct_passthrough=True)
    response.headers.extend(policy.SECURITY_HEADERS)
    if download_as is not None:
        response.headers["Content-Disposition"] = content_types.attachment(download_as)
    if _delegate_to_web_server(state, stat.key, response):
        body.close()
        response.response = []
        return response
    response.content_length = stat.size
    response.last_modified = stat.modified
    response.set_etag(stat.sha256 or f"{stat.modified.timestamp():.6f}-{stat.size}")
    response.make_conditional(request.environ, accept_ranges=True, complete_length=stat.size)
    return response


def _delegate_to_web_server(state: State, key: str, response: Response) -> bool:
    """Let nginx or Apache send the file, if ``UPLOADS_ACCEL_REDIRECT`` or Flask's ``USE_X_SENDFILE`` is set.

    Return whether one of them is set.
    """
    path = state.backend.filesystem_path(key)
    location = state.settings["accel_redirect"]
    if path is not None and location is not None:
        response.headers["X-Accel-Redirect"] = f"{location}/{quote(key)}"
        return True
    if path is not None and current_app.config["USE_X_SENDFILE"]:
        response.headers["X-Sendfile"] = str(path)
        return True
    return False


def _log_missing(state: State, key: str) -> None:
    """Log a missing file once, however often it is requested."""
    if key not in state.missing:
        if len(state.missing) >= _MAX_REMEMBERED:
            state.missing.clear()
        state.missing.add(key)
        logger.warning(
            "%s is not in the store (%s). It was lost, deleted, or never stored here.", ascii(key), state.backend.name
        )
