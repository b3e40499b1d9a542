"""Find out how gunicorn is started here, without running anything."""

from __future__ import annotations

import contextlib
import io
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def gunicorn(environ: Mapping[str, str], folder: Path) -> tuple[str, Any] | None:
    """Return what starts gunicorn in this folder, and its options; ``None`` if nothing does, or it is unknown."""
    try:
        from gunicorn.config import Config
    except ImportError:
        return None
    if (folder / "gunicorn.conf.py").exists():  # it is a program, which is not run here
        return None
    common = environ.get("GUNICORN_CMD_ARGS", "")
    lines = [*_start_lines(folder), ("GUNICORN_CMD_ARGS", ["gunicorn"] if common else [])]
    for source, line in lines:
        arguments = _after_gunicorn(line)
        if arguments is None:
            continue
        try:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                options = Config().parser().parse_known_args(shlex.split(common) + arguments)[0]
        except (SystemExit, ValueError):  # an open quote, or a line such as "gunicorn --version"
            continue
        if options.config is None:
            return source, options
    return None


def _start_lines(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the commands that run in this folder, and the one that its Procfile starts for the web."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder:
                yield "The running server", (process / "cmdline").read_text(errors="replace").split("\0")
        except OSError:
            continue
    procfile = folder / "Procfile"
    if procfile.is_file():
        for line in procfile.read_text(errors="replace").splitlines():
            kind, _, command = line.partition(":")
            if kind.strip() == "web":
                yield "The Procfile", [word.strip("'\"") for word in command.split()]


def _after_gunicorn(line: list[str]) -> list[str] | None:
    """Return the arguments of gunicorn in a command, without those whose value only a shell knows."""
    at = next((number for number, word in enumerate(line) if Path(word).name == "gunicorn"), None)
    if at is None:
        return None
    words = line[at + 1 :]
    unknown = {number for number, word in enumerate(words) if "$" in word}
    unknown |= {number - 1 for number in unknown if number and words[number - 1].startswith("-")}
    return [word for number, word in enumerate(words) if number not in unknown]
