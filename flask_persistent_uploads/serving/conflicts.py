"""Finds two conflicts with the rest of the app: another route for ``/uploads``, and links that bypass the hook."""

from __future__ import annotations

from flask import Flask
from werkzeug.exceptions import HTTPException

from .. import config, parsers
from ..errors import Problem
from ..log import logger
from .state import State


def warn_about_conflicts(app: Flask, state: State) -> None:
    """Log each conflict, on the first call only.

    Call it when the app serves its first upload: by then all of its routes and hooks exist.
    """
    if state.conflicts_checked:
        return
    state.conflicts_checked = True
    for problem in (other_route(app, state), public_links(state)):
        if problem is not None:
            logger.warning("%s: %s", state.settings.uploads, problem)


def other_route(app: Flask, state: State) -> Problem | None:
    """Return a problem if a route of the app handles the path of uploads, such as one that served an old folder."""
    settings = state.settings
    route = "A route of the app"
    try:
        endpoint, _ = app.url_map.bind("").match(f"{settings.url_prefix}/file.png", method="GET")
    except HTTPException:  # a rule that redirects, or a converter that aborts
        pass
    else:
        if endpoint == f"{state.blueprint}.file":
            return None
        route = f"The app's own route {endpoint!r}"
    variable = settings.variable("url_prefix")
    return Problem(
        f"{route} answers {settings.url_prefix}/…, so uploads are not served.",
        f"Remove that route, or set {variable} to another path.",
        variable,
    )


def public_links(state: State) -> Problem | None:
    """Return a problem if the backend's links are public and permanent, so that they bypass the authorize hook."""
    settings, backend = state.settings, state.backend
    if state.hooks.authorize is None or not backend.permanent_urls:
        return None
    message = f"The authorize hook guards {settings.url_prefix}, but links to {backend.name} are public and permanent."
    name = backend.description.private_links
    if name is None:
        variable = config.variable(settings.uploads, "backend")
        return Problem(message, f"Set {variable} to a backend with private links.", variable)
    variable = settings.variable(name)
    is_switch = any(row.name == name and row.parse is parsers.boolean for row in settings.declared)
    return Problem(message, f"Set {variable}=true." if is_switch else f"Remove {variable}.", variable)
