"""``flask uploads doctor``: check whether uploads work and survive, and print what to do."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from functools import partial

import click
from flask import Flask
from flask.cli import ScriptInfo

from ..errors import ConfigError, Problem
from ..log import logger
from ..operations import doctor as examination
from ..operations import instances
from ..operations.checks import FAILURE, OK, SKIPPED, WARNING, Finding
from ..operations.doctor import Case, Report
from ..operations.instances import Survey
from ..operations.startup import StartupRefused
from ..serving import conflicts
from ..serving.state import State
from ..text import plural, problem_lines, wrap
from . import terminal

_COLOURS = {FAILURE: "red", WARNING: "yellow", SKIPPED: "blue", OK: "green"}  # the worst first
_STATUS_WIDTH = 9  # columns


@click.command()
@click.option("--offline", is_flag=True, help="Do not use the network, and do not try the store.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--url", help="Ask a running app, such as https://my-app.example, whether all its instances use the same store."
)
@click.option(
    "--times",
    default=instances.TIMES,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="With --url: how many requests to send.",
)
@click.option("--name", default="uploads", show_default=True, help="The name of the Uploads to examine.")
@click.pass_context
def doctor(context: click.Context, *, offline: bool, as_json: bool, url: str | None, times: int, name: str) -> None:
    """Check whether uploads work and survive, and print what to do.

    Save a small file in the store, read it and delete it again, unless --offline is given. Exit with status 1 if a
    check fails.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False
    context.call_on_close(partial(logger.setLevel, logger.level))
    logger.setLevel(logging.CRITICAL)  # the report contains what the app logs when it starts
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise click.BadParameter("Use the address of the app, with https:// or http://.", param_hint="--url")
        survey = instances.survey(_health_address(context, url, name), times=times)
        click.echo(terminal.as_json(survey.as_json()) if as_json else "\n".join(_survey_lines(survey)))
        context.exit(0 if survey.healthy else 1)
    report = examination.examine(_case(context, name), offline_only=offline)
    click.echo(terminal.as_json(report.as_json()) if as_json else "\n".join(_report_lines(report)))
    context.exit(1 if report.failed else 0)


def _case(context: click.Context, name: str) -> Case:
    """Return what to examine, even if the app refuses to start."""
    info = context.ensure_object(ScriptInfo)
    info.set_debug_flag = False  # keep the value that the app sets itself
    try:
        app = info.load_app()
    except StartupRefused as refusal:
        return Case.of_refusal(refusal, os.environ, requested=name)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    states = _states(app)
    if name not in states:
        known = f"It has {', '.join(states)}." if states else "Call Uploads(app) in it."
        raise click.ClickException(f"The app has no Uploads named {name!r}. {known}")
    state = states[name]
    return Case.of_app(
        app,
        state.settings,
        state.backend,
        os.environ,
        other_route=conflicts.other_route(app, state),
        public_links=conflicts.public_links(state),
    )


def _states(app: Flask) -> dict[str, State]:
    return {name: one.state for name, one in app.extensions.get("flask_persistent_uploads", {}).items()}


def _report_lines(report: Report) -> Iterator[str]:
    yield from _headline(Problem(report.headline), bad=report.survives is False or report.failed)
    for setting in report.settings:
        yield from wrap(f"{setting.variable} = {setting.value} ({setting.origin})", terminal.width(), indent="  ")
    if report.settings:
        yield ""
    for status in _COLOURS:
        for name, finding in report.findings:
            if finding.status == status:
                yield from _finding_lines(name, finding)
    yield ""
    yield ", ".join(_count(status, report.count(status)) for status in _COLOURS if report.count(status)) + "."


def _headline(problem: Problem, *, bad: bool) -> Iterator[str]:
    first, *rest = problem_lines(problem, terminal.width())
    yield from [click.style(first, bold=True, fg="red" if bad else None), *rest, ""]


def _finding_lines(name: str, finding: Finding) -> Iterator[str]:
    problem = Problem(f"{name}: {finding.problem.message}", finding.remedy)
    first, *rest = problem_lines(problem, terminal.width(), indent=" " * _STATUS_WIDTH)
    status = f"{finding.status:<{_STATUS_WIDTH}}"
    yield from [click.style(status, fg=_COLOURS[finding.status]) + first[_STATUS_WIDTH:], *rest]


def _count(status: str, number: int) -> str:
    return plural(number, status) if status in {FAILURE, WARNING} else f"{number} {status}"


# -- a running app


def _health_address(context: click.Context, url: str, name: str) -> str:
    """Return the URL of the health check. If the app can be loaded here, use the path at which it serves files."""
    if url.endswith("/_health"):
        return url
    prefix = f"/{name}"
    with contextlib.suppress(Exception, SystemExit):  # if the app cannot be loaded here, use the default
        prefix = _states(context.ensure_object(ScriptInfo).load_app())[name].settings.url_prefix
    return f"{url.rstrip('/')}{prefix}/_health"


def _survey_lines(survey: Survey) -> Iterator[str]:
    yield from _headline(Problem(survey.headline, survey.remedy or ""), bad=not survey.healthy)
    for number, group in enumerate(survey.stores, 1):
        for one in group:
            text = f"store {number}, {one.store} ({one.backend}): instance {one.id}, {plural(one.answers, 'answer')}"
            yield from wrap(text, terminal.width(), indent="  ", hanging="  ")
    for reason, number in survey.failures.items():
        yield from wrap(f"{plural(number, 'request')} failed: {reason}", terminal.width(), indent="  ")
