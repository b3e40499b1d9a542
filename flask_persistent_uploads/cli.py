"""``flask uploads …``: what looks after uploads, from the command line. Each command calls :mod:`.operations`.

Flask finds the group by its entry point as well, so that ``doctor`` runs where the app refuses to start.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import textwrap
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from flask.cli import ScriptInfo

from .errors import BackendError, ConfigError
from .operations.instances import TIMES
from .operations.setup import KINDS

if TYPE_CHECKING:
    from flask import Flask

    from .config import Settings
    from .operations.doctor import Report
    from .operations.doctor.case import Case, Finding
    from .operations.instances import Survey
    from .serving.routes import State

_COLOURS = {"ok": "green", "warning": "yellow", "failure": "red", "skipped": "blue"}
_WORST_FIRST = ("failure", "warning", "skipped", "ok")
_NAMES = 15  # columns for the name of a check
_MAX_WIDTH = 100


class _Group(click.Group):
    """An app may have commands of its own in a group of this name, which Flask would not find behind ours."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None:
            with contextlib.suppress(Exception):  # whatever keeps the app from loading, there is no such command
                theirs = ctx.ensure_object(ScriptInfo).load_app().cli.commands["uploads"]
                if isinstance(theirs, click.Group) and theirs is not self:
                    return theirs.get_command(ctx, cmd_name)
        return found


@click.group(cls=_Group)
def uploads() -> None:
    """Look after the files that users upload."""


@uploads.command()
@click.option("--offline", is_flag=True, help="Ask nobody over a network.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--url", help="Ask a running app, such as https://my-app.example, whether its instances share a store.")
@click.option("--times", default=TIMES, show_default=True, type=click.IntRange(1, 1000), help="With --url: how often.")
@click.option("--name", default="uploads", show_default=True, help="Which Uploads of the app.")
@click.pass_context
def doctor(context: click.Context, *, offline: bool, as_json: bool, url: str | None, times: int, name: str) -> None:
    """Say whether uploads work and will survive, and what to do.

    Online, a small file is saved in the store, read, and deleted again. Exits with 1 if something fails.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False
    logger = logging.getLogger("flask_persistent_uploads")
    context.call_on_close(partial(logger.setLevel, logger.level))
    logger.setLevel(logging.CRITICAL)  # what the app would say at its start, the report says better
    if url is not None and not url.startswith(("http://", "https://")):
        raise click.UsageError("--url is the address of the app, which begins with http:// or https://.")
    if url is not None:
        from .operations.instances import survey

        found = survey(_health_address(context, url, name), times=times)
        click.echo(_json(found.as_json()) if as_json else _survey_as_text(found))
        context.exit(0 if found.content else 1)
    from .operations.doctor import examine

    report = examine(_case(context, name), offline=offline)
    click.echo(_json(report.as_json()) if as_json else _report_as_text(report))
    context.exit(1 if report.failed else 0)


@uploads.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--bucket", help="The bucket's name; else that of the environment.")
@click.option("--region", help="Where a bucket of S3 is.")
@click.option("--account", help="The account id of R2.")
@click.option("--path", default="/var/data", show_default=True, help="Where a disk is mounted.")
@click.option("--apply", "do_it", is_flag=True, help="Do it to the bucket, as far as its credentials allow.")
@click.option("--yes", is_flag=True, help="With --apply: do not ask.")
@click.option("--name", default="uploads", show_default=True, help="For which Uploads of the app.")
@click.pass_context
def setup(
    context: click.Context,
    *,
    kind: str,
    bucket: str | None,
    region: str | None,
    account: str | None,
    path: str,
    do_it: bool,
    yes: bool,
    name: str,
) -> None:
    """Print what to paste where to keep uploads in a store of this KIND; no secret is printed."""
    from . import config
    from .operations.setup import Wanted, sections

    variables = f"{name.upper()}_"
    given = {f"{variables}S3_BUCKET": bucket, f"{variables}S3_REGION": region}
    if account and kind != "r2":
        raise click.UsageError("--account is Cloudflare's, and goes with r2.")
    if account:
        given[f"{variables}S3_ENDPOINT_URL"] = f"https://{account}.r2.cloudflarestorage.com"
    settings, problems = config.read(given, os.environ, name=name)
    if problems:
        text = "\n".join(problems)
        raise click.ClickException(text.replace(f"{variables}S3_BUCKET is", "--bucket is") if bucket else text)
    wanted = Wanted(
        bucket=settings.s3_bucket or "my-bucket",
        region=settings.s3_region or "us-east-1",
        endpoint=settings.s3_endpoint_url,
        prefix=settings.prefix,
        url_prefix=settings.url_prefix,
        path=path.rstrip("/"),
        name=name,
    )
    if not wanted.path.startswith("/"):
        raise click.UsageError("--path is where a disk is mounted, such as /var/data.")
    if do_it:
        if kind not in {"s3", "r2"}:
            raise click.UsageError(f"--apply is for buckets: what {kind} needs is set in the host's dashboard.")
        if kind == "r2" and settings.s3_endpoint_url is None:
            raise click.UsageError("Which account of R2? Give --account, or set UPLOADS_S3_ENDPOINT_URL.")
        context.exit(_apply(settings, variables, yes=yes))
    for section in sections(kind, wanted):
        click.secho(f"# {section.title}", bold=True)
        click.echo(f"\n{section.text}\n")


# -- doctor


def _case(context: click.Context, name: str) -> Case:
    """What is to be examined, also where the app refuses to start."""
    from .operations.doctor.case import Case
    from .serving import routes

    info = context.ensure_object(ScriptInfo)
    info.set_debug_flag = False  # what the app says of itself counts
    try:
        app = info.load_app()
    except ConfigError as error:
        attempt = error.attempt
        if attempt is None:
            raise click.ClickException(str(error)) from error
        case = Case.of(
            attempt.name,
            attempt.settings,
            attempt.app,
            os.environ,
            backend=attempt.backend,
            directory=attempt.directory,
            problems=error.problems,
        )
        case.instead_of = name if attempt.name != name else None
        return case
    states = _states(app)
    if name not in states:
        known = f"it has {', '.join(states)}" if states else "call Uploads(app) in it"
        raise click.ClickException(f"The app has no Uploads named {name!r}: {known}.")
    state = states[name]
    case = Case.of(name, state.settings, app, os.environ, backend=state.backend)
    case.other_route = routes.other_route(app, name, state)
    case.public_links = routes.permanent_links(name, state)
    return case


def _states(app: Flask) -> dict[str, State]:
    """The state of each ``Uploads`` of an app."""
    return {name: one.state for name, one in app.extensions.get("flask_persistent_uploads", {}).items()}


def _report_as_text(report: Report) -> str:
    from .operations.verdict import counted

    width = _width()
    lines = [*_wrapped(report.headline, "", width), ""]
    lines[0] = click.style(lines[0], bold=True, fg="red" if report.survives is False or report.failed else None)
    for setting in report.settings:
        lines += _wrapped(f"{setting.variable} = {setting.value} ({setting.origin})", "  ", width)
    lines += [""] if report.settings else []
    for verdict in _WORST_FIRST:
        for name, finding in report.findings:
            if finding.verdict == verdict:
                lines += _finding_as_text(name, finding, width)
    nouns = {verdict: counted(report.count(verdict), verdict) for verdict in _WORST_FIRST[:2]}
    counts = [
        nouns.get(verdict, f"{report.count(verdict)} {verdict}") for verdict in _WORST_FIRST if report.count(verdict)
    ]
    return "\n".join([*lines, "", ", ".join(counts) + "."])


def _finding_as_text(name: str, finding: Finding, width: int) -> list[str]:
    first = f"{finding.verdict:<8} {name:<{_NAMES}} "
    lines = _wrapped(finding.seen, " " * len(first), width)
    lines[0] = click.style(first[:8], fg=_COLOURS[finding.verdict]) + first[8:] + lines[0].lstrip()
    for line in (finding.remedy or "").splitlines():
        lines += _wrapped(f"-> {line}", "  ", width, hanging="   ")
    return lines


def _health_address(context: click.Context, url: str, name: str) -> str:
    """Where the app answers for its health: below the prefix that this app has, if it can be loaded here."""
    if url.endswith("/_health"):
        return url
    prefix = f"/{name}"
    # Whatever keeps an app from loading here says nothing of the running one.
    with contextlib.suppress(Exception, SystemExit):
        prefix = _states(context.ensure_object(ScriptInfo).load_app())[name].settings.url_prefix
    return f"{url.rstrip('/')}{prefix}/_health"


def _survey_as_text(survey: Survey) -> str:
    from .operations.verdict import counted

    width = _width()
    lines = [*_wrapped(survey.headline(), "", width), ""]
    lines[0] = click.style(lines[0], bold=True, fg=None if survey.content else "red")
    for number, group in enumerate(survey.stores, 1):
        for one in group:
            answers = survey.times[one.id, one.store]
            text = f"store {number}, {one.store} ({one.backend}): instance {one.id}, {counted(answers, 'answer')}"
            lines += _wrapped(text, "  ", width, hanging="  ")
    lines += _wrapped(f"-> {survey.remedy}", "  ", width, hanging="   ") if survey.remedy else []
    for kind, times in survey.failures.most_common():
        lines += _wrapped(f"{times} times: {kind}", "  ", width)
    return "\n".join(lines)


# -- setup


def _apply(settings: Settings, variables: str, *, yes: bool) -> int:
    """Show what is to be done to the bucket, do it, and answer with the exit status."""
    from .backends import build
    from .operations import marker
    from .operations.bucket import Bucket
    from .operations.setup import carry_out, plan

    try:
        backend = build("s3", settings, directory=Path(), variables=variables, environ=os.environ)
        bucket = Bucket.of(backend)
        steps = plan(bucket) if bucket else []
    except (ConfigError, BackendError) as error:
        raise click.ClickException(str(getattr(error, "description", error))) from error
    click.echo("\n".join([*_wrapped(f"Plan for {backend}:", "", _width()), ""]))
    for step in steps:
        click.echo(f"  {'-' if step.do or step.blocked else 'ok'} {step.text}")
    if not yes and any(step.do for step in steps):
        click.confirm("\nDo it?", abort=True)
    click.echo("")
    failed = 0
    for step, problem in carry_out(steps):
        failed += problem is not None
        click.echo(f"  {step.text}: {problem.rstrip('.') if problem else 'done'}")
    with contextlib.suppress(BackendError):  # what is wrong was told by the step
        found = marker.read(backend)
        if found is not None:
            click.echo(f"\n{variables}STORE_ID={found.id}")
    return 1 if failed else 0


# -- both


def _json(content: object) -> str:
    return json.dumps(content, indent=2)


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _MAX_WIDTH)


def _wrapped(text: str, indent: str, width: int, *, hanging: str = "") -> list[str]:
    """Lines of a terminal; what would command it is taken out, as names and answers come from elsewhere."""
    plain = "".join(sign if sign.isprintable() else "?" for sign in text)
    return textwrap.wrap(
        plain,
        width,
        initial_indent=indent,
        subsequent_indent=indent + hanging,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]
