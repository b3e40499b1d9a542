"""``flask uploads setup``: print what to configure for a kind of store, or configure a bucket with ``--apply``."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import replace
from pathlib import Path

import click

from .. import backends, config
from ..backends.s3 import S3Backend
from ..config import Settings
from ..errors import BackendError, BackendTimeout, BackendUnavailable, ConfigError
from ..operations import marker
from ..operations import setup as steps
from ..operations.bucket import Bucket, address_variable
from ..operations.setup import KINDS, Target
from ..text import wrap
from . import terminal

_BUCKETS = {"s3", "r2"}


def _parse(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Read an option with the parser of its setting, such as ``--bucket`` with that of ``s3_bucket``."""
    (parse,) = (row.parse for row in S3Backend.settings() if row.name == f"s3_{option.name}")
    try:
        return None if value is None else str(parse(value))
    except ValueError as error:
        raise click.BadParameter(f"Use {error}.") from error


def _r2_endpoint(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch("[0-9a-f]+", value):
        raise click.BadParameter("Use the account id that the dashboard of Cloudflare shows.")
    return f"https://{value}.r2.cloudflarestorage.com" if value else None


def _mount_path(context: click.Context, option: click.Parameter, value: str) -> str:
    if not value.startswith("/"):
        raise click.BadParameter("Use the path where a disk is mounted, such as /var/data.")
    return value.rstrip("/")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--bucket", callback=_parse, help="The name of the bucket. Default: the one in the environment.")
@click.option("--region", callback=_parse, help="The region of an S3 bucket. Default: the one in the environment.")
@click.option("--account", "endpoint", callback=_r2_endpoint, help="For r2: the account id of Cloudflare.")
@click.option(
    "--path",
    default="/var/data",
    show_default=True,
    callback=_mount_path,
    help="For disk: the path where the disk is mounted.",
)
@click.option("--apply", is_flag=True, help="For s3 and r2: configure the bucket, after confirmation.")
@click.option("--yes", is_flag=True, help="With --apply: do not ask for confirmation.")
@click.option("--name", default="uploads", show_default=True, help="The name of the Uploads to set up.")
@click.pass_context
def setup(
    context: click.Context,
    *,
    kind: str,
    bucket: str | None,
    region: str | None,
    endpoint: str | None,
    path: str,
    apply: bool,
    yes: bool,
    name: str,
) -> None:
    """Print what to configure to keep uploads in this kind of store. No secret is printed."""
    if endpoint and kind != "r2":
        raise click.UsageError("--account is only for r2.")
    settings = _settings(name, {"s3_bucket": bucket, "s3_region": region, "s3_endpoint_url": endpoint})
    if apply:
        _check_can_apply(kind, settings)
        context.exit(_apply(settings, yes=yes))
    target = Target(
        bucket=settings["s3_bucket"] or "my-bucket",
        region=settings["s3_region"] or "us-east-1",
        endpoint=settings["s3_endpoint_url"],
        prefix=settings.prefix,
        url_prefix=settings.url_prefix,
        path=path,
        uploads=name,
    )
    for section in steps.sections(kind, target):
        click.secho(f"# {section.title}", bold=True)
        click.echo(f"\n{section.text}\n")


def _settings(name: str, options: dict[str, str | None]) -> Settings:
    """Return the settings of the environment. Options that are given replace them."""
    given = {config.variable(name, setting): value for setting, value in options.items()}
    reading = backends.read_settings(given, os.environ, uploads=name)
    if reading.problems:
        raise click.ClickException("\n".join(map(str, reading.problems)))
    return reading.settings


def _check_can_apply(kind: str, settings: Settings) -> None:
    if kind not in _BUCKETS:
        raise click.UsageError(
            "--apply is only for buckets (s3 and r2). Run the command without it, and set what it prints."
        )
    if settings["s3_bucket"] is None:
        raise click.UsageError(f"Add --bucket with the name of the bucket, or set {settings.variable('s3_bucket')}.")
    if kind == "r2" and settings["s3_endpoint_url"] is None:
        raise click.UsageError(
            f"Add --account with the account id of Cloudflare, or set {settings.variable('s3_endpoint_url')}."
        )


def _apply(settings: Settings, *, yes: bool) -> int:
    """Show the plan for the bucket, carry it out, and return the exit status."""
    try:
        backend = backends.build(S3Backend, settings, environ=os.environ, instance_path=Path())
        bucket = Bucket.of(backend)
        plan = steps.plan(bucket) if bucket else []
    except (BackendUnavailable, BackendTimeout) as error:
        remedy = error.remedy or f"Correct {address_variable(settings)} if it is wrong. Otherwise, try again."
        raise click.ClickException(str(replace(error.problem, remedy=remedy))) from error
    except (ConfigError, BackendError) as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n".join([*wrap(f"Plan for {backend}:", terminal.width()), ""]))
    for step in plan:
        click.echo(f"  {'-' if step.do or step.blocked else 'ok'} {step.text}")
    if not yes and any(step.do for step in plan):
        click.confirm("\nCarry out this plan?", abort=True)
    if any(step.do or step.blocked for step in plan):
        click.echo("")
    failed = False
    for step, problem in steps.carry_out(plan):
        failed = failed or problem is not None
        click.echo(f"  {step.text}: {'done' if problem is None else f'failed. {problem}'}")
    with contextlib.suppress(BackendError):  # the last step has reported the error
        found = marker.read(backend)
        if found is not None:
            variable = config.variable(settings.uploads, "store_id")
            click.echo(f"\nTo be alerted if the store is lost, set:\n{variable}={found.id}")
    return 1 if failed else 0
