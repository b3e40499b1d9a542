"""The package's one logger."""

from __future__ import annotations

import logging

from flask.logging import default_handler, has_level_handler

logger = logging.getLogger("flask_persistent_uploads")


def ensure_log_handler() -> None:
    """Write the package's log to the server's log, as Flask does for its own, unless the app configures logging."""
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if not has_level_handler(logger):
        logger.addHandler(default_handler)
