"""Makes the links to a file: the app's own permanent link, and the temporary link to the file itself."""

from __future__ import annotations

from urllib.parse import quote

from flask import Flask, current_app, has_request_context, request

from . import redirects, signed_query
from .state import State


def permanent(state: State, path: str, *, external: bool) -> str:
    """Return the app's permanent link for a quoted ``path``; ``external`` adds scheme and host."""
    root = request.script_root if has_request_context() else current_app.config["APPLICATION_ROOT"].rstrip("/")
    return f"{_origin() if external else ''}{root}{state.settings.url_prefix}/{path}"


def direct(app: Flask, state: State, key: str, *, expires: int, download_name: str | None, external: bool) -> str:
    """Return the current link into the backend, or the app's own link with a signature if the app sends the file."""
    link = redirects.direct_link(state.backend, key, expires, download_name=download_name)
    if link is not None:
        return link.url
    ends_at = redirects.window_start(key, expires, redirects.now()) + expires
    query = signed_query.sign(app, state.settings.uploads, key, ends_at=ends_at, download_name=download_name)
    if query is None:
        state.warn_once("Direct urls are not signed and do not expire, because SECRET_KEY is not set. Set it.")
    return permanent(state, quote(key) + (f"?{query}" if query else ""), external=external)


def _origin() -> str:
    """Return scheme and host of the app: ``https://example.com``."""
    if has_request_context():
        return request.host_url.rstrip("/")
    server = current_app.config["SERVER_NAME"]
    if server is None:
        raise RuntimeError("Outside of a request, external=True needs the setting SERVER_NAME. Set SERVER_NAME.")
    return f"{current_app.config['PREFERRED_URL_SCHEME']}://{server}"
