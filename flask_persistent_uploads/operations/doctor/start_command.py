"""Find the command that starts the app with gunicorn, and read its options. The command is not run."""

from __future__ import annotations

import contextlib
import io
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def gunicorn_options(environ: Mapping[str, str], folder: Path) -> tuple[str, Any] | None:
    """Return the source of the command that starts gunicorn in ``folder``, and its options; ``None`` if unknown.

    The source is the subject of a sentence, such as "The Procfile".
    """
    try:
        from gunicorn.config import Config
    except ImportError:
        return None
    if (folder / "gunicorn.conf.py").exists():  # it is a Python program, which is not run here
        return None
    common = environ.get("GUNICORN_CMD_ARGS", "")
    commands = [*_commands(folder), ("GUNICORN_CMD_ARGS", ["gunicorn"] if common else [])]
    for source, command in commands:
        arguments = _arguments_of_gunicorn(command)
        if arguments is None:
            continue
        try:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                options = Config().parser().parse_known_args(shlex.split(common) + arguments)[0]
        except (SystemExit, ValueError):  # an open quote, or a command such as "gunicorn --version"
            continue
        if options.config is None:
            return source, options
    return None


def _commands(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the commands that run in this folder, and the web command of its Procfile, each with its source."""
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


def _arguments_of_gunicorn(command: list[str]) -> list[str] | None:
    """Return the arguments of gunicorn in a command, without those that contain shell variables; ``None`` if absent."""
    at = next((number for number, word in enumerate(command) if Path(word).name == "gunicorn"), None)
    if at is None:
        return None
    words = command[at + 1 :]
    unknown = {number for number, word in enumerate(words) if "$" in word}
    unknown |= {number - 1 for number in unknown if number and words[number - 1].startswith("-")}
    return [word for number, word in enumerate(words) if number not in unknown]
