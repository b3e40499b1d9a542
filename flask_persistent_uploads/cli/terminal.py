"""How the commands print their results."""

from __future__ import annotations

import json
import shutil

_MAX_WIDTH = 100


def as_json(content: object) -> str:
    """Return JSON with line breaks and indentation."""
    return json.dumps(content, indent=2)


def width() -> int:
    """Return the number of columns to use."""
    return min(shutil.get_terminal_size().columns, _MAX_WIDTH)
