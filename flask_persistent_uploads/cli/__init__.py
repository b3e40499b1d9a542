"""The command line, ``flask uploads …``. Each command is a module of this package, which calls :mod:`.operations`.

Flask also finds the group through its entry point, so the commands work even if the app refuses to start.
"""

from __future__ import annotations

import contextlib
from importlib import import_module

import click
from flask.cli import ScriptInfo

_COMMANDS = ("doctor", "setup")


class _Group(click.Group):
    """The group of commands. It imports a command only when it is used, because an app that serves requests needs none.

    If the app has a group ``uploads`` of its own, the commands of that group work too.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS:
            command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
            return command
        with contextlib.suppress(Exception):  # if the app cannot be loaded, there is no such command
            group = ctx.ensure_object(ScriptInfo).load_app().cli.commands["uploads"]
            if isinstance(group, click.Group) and group is not self:
                return group.get_command(ctx, cmd_name)
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Group)
def uploads() -> None:
    """Examine and set up the store for the files that users upload."""
