"""Tell what to configure for each kind of store, as text to copy. Plan and carry out the steps for a bucket."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .. import config
from ..errors import BackendError, Problem
from . import bucket as buckets
from . import marker
from .bucket import Bucket, NotAllowed

KINDS = ("s3", "r2", "cloudinary", "imagekit", "disk")

_AFTERWARDS = """Deploy the app and upload a file. Then run in the shell of the host:

flask --app app uploads doctor{option}

It prints the id of the store. Set {variable} to that id. The app
then logs an alarm if it ever starts with another store or an empty one."""


def setup_command(uploads: str, arguments: str) -> str:
    """Return the command line of ``flask uploads setup`` for the ``Uploads`` of a name."""
    return f"flask uploads setup {arguments}{_name_option(uploads)}"


def _name_option(uploads: str) -> str:
    return "" if uploads == "uploads" else f" --name {uploads}"


@dataclass(frozen=True, slots=True)
class Target:
    """The store to configure.

    :attr:`endpoint`  the endpoint of the bucket; ``None`` for Amazon S3
    :attr:`path`      the path where a disk is mounted
    :attr:`uploads`   the name of the ``Uploads``
    """

    bucket: str = "my-bucket"
    region: str = "us-east-1"
    endpoint: str | None = None
    prefix: str = "uploads"
    url_prefix: str = "/uploads"
    path: str = "/var/data"
    uploads: str = "uploads"

    def variable(self, setting: str) -> str:
        """Return the variable of a setting of this ``Uploads``."""
        return config.variable(self.uploads, setting)


@dataclass(frozen=True, slots=True)
class Section:
    """A title, and text to copy."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables to set. The values of the secret ones are placeholders."""

    plain: Mapping[str, str]
    secret: Mapping[str, str]

    def __str__(self) -> str:
        """Return all of them as lines of a ``.env`` file."""
        return "\n".join(f"{name}={value}" for name, value in {**self.plain, **self.secret}.items())


def sections(kind: str, target: Target) -> Iterator[Section]:
    """Yield what to configure for a kind of store, one of :data:`KINDS`. It contains no secret."""
    environment = _environment(kind, target)
    yield Section("Environment variables, to set in the dashboard of the host or in .env", str(environment))
    if kind == "s3":
        policy = _json(buckets.policy(target.bucket, target.prefix))
        yield Section("IAM policy for the access key (setup --apply needs the key of an administrator)", policy)
        yield Section("CORS rules of the bucket: cors.json", _json({"CORSRules": [dict(buckets.CORS_RULE)]}))
        lifecycle = _json({"Rules": [buckets.cleanup_rule(target.prefix)]})
        yield Section("Lifecycle rules of the bucket: lifecycle.json", lifecycle)
    if kind == "s3" and target.endpoint is None:
        yield Section("Commands of the AWS CLI that create the bucket (setup --apply does the same)", _aws(target))
    if kind == "r2":
        yield Section("API token", f"Permission: Object Read & Write. Scope: only the bucket {target.bucket}.")
        yield Section("CORS policy, for the settings of the bucket", _json([dict(buckets.CORS_RULE)]))
    yield Section("Render: render.yaml", _render(kind, environment, target))
    yield Section("Koyeb: commands", _koyeb(kind, environment, target))
    if kind == "disk":
        yield Section("Docker: compose.yaml", _compose(target))
    option, variable = _name_option(target.uploads), target.variable("store_id")
    yield Section("Afterwards", _AFTERWARDS.format(option=option, variable=variable))


def _environment(kind: str, target: Target) -> Environment:
    name = target.variable
    keys = {name("s3_access_key_id"): "<access key id>", name("s3_secret_access_key"): "<secret access key>"}
    bucket = {name("s3_bucket"): target.bucket}
    endpoint = {name("s3_endpoint_url"): target.endpoint} if target.endpoint else {}
    r2 = endpoint or {name("s3_endpoint_url"): "https://<account id>.r2.cloudflarestorage.com"}
    cloudinary = {name("cloudinary_url"): "cloudinary://<api key>:<api secret>@<cloud name>"}
    tables: dict[str, tuple[dict[str, str], dict[str, str]]] = {
        "s3": ({**bucket, name("s3_region"): target.region, **endpoint}, keys),
        "r2": ({**bucket, **r2}, keys),
        "cloudinary": ({}, cloudinary),
        "imagekit": (
            {name("imagekit_url_endpoint"): "https://ik.imagekit.io/<id>"},
            {name("imagekit_private_key"): "<private key>"},
        ),
        "disk": ({name("dir"): f"{target.path}/{target.uploads}"}, {}),
    }
    plain, secret = tables[kind]
    plain = {**plain, name("require_persistent"): "true"}
    if target.prefix != target.uploads:
        plain[name("prefix")] = target.prefix
    if target.url_prefix != f"/{target.uploads}":
        plain[name("url_prefix")] = target.url_prefix
    return Environment(plain, secret)


def _json(content: object) -> str:
    return json.dumps(content, indent=2)


def _aws(target: Target) -> str:
    return "\n".join(
        [
            f"aws s3 mb s3://{target.bucket} --region {target.region}",
            f"aws s3api put-bucket-cors --bucket {target.bucket} \\\n  --cors-configuration file://cors.json",
            f"aws s3api put-bucket-lifecycle-configuration --bucket {target.bucket} \\\n"
            f"  --lifecycle-configuration file://lifecycle.json",
        ]
    )


def _render(kind: str, environment: Environment, target: Target) -> str:
    lines = [f"healthCheckPath: {target.url_prefix}/_health", "envVars:"]
    for name, value in environment.plain.items():
        lines += [f"  - key: {name}", f"    value: {json.dumps(value)}"]
    for name in environment.secret:
        lines += [f"  - key: {name}", "    sync: false # the dashboard asks for it"]
    if kind == "disk":
        lines += ["disk: # needs a paid service, which then has one instance", "  name: uploads"]
        lines += [f"  mountPath: {target.path}", "  sizeGB: 10"]
    return "\n".join(lines)


def _koyeb(kind: str, environment: Environment, target: Target) -> str:
    lines = [f"koyeb secrets create {name} --value-from-stdin" for name in environment.secret]
    options = [f"--env {shlex.quote(f'{name}={value}')}" for name, value in environment.plain.items()]
    options += [f"--env {name}=@{name}" for name in environment.secret]
    if kind == "disk":
        lines.append("koyeb volumes create uploads --region fra --size 10")
        options.append(f"--volumes {shlex.quote(f'uploads:{target.path}')}")
    return "\n".join([*lines, " \\\n  ".join(["koyeb services update <app>/<service>", *options])])


def _compose(target: Target) -> str:
    return f"""services:
  web:
    volumes:
      - uploads:{target.path}
volumes:
  uploads:"""


# -- for a bucket


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do to a bucket.

    :attr:`do`       the function that does it; ``None`` if it is already done or cannot be done
    :attr:`blocked`  why it cannot be done
    """

    text: str
    do: Callable[[], object] | None = None
    blocked: Problem | None = None


_ADMINISTRATOR = "Use the credentials of an administrator, or do it in the dashboard of the service."
_FORBIDDEN = Problem("The credentials are not allowed to do this.", _ADMINISTRATOR)
_HIDDEN = Problem(
    "The credentials are not allowed to read the current rules, which must not be overwritten.", _ADMINISTRATOR
)
_NO_ACCESS = Problem(
    "The bucket belongs to another account, or the permission s3:ListBucket is missing.",
    "Use a bucket with another name, or allow s3:ListBucket.",
)


def plan(bucket: Bucket) -> list[Step]:
    """Return the steps that configure a bucket. Rules that others have set are kept.

    Raises ``BackendError`` if the present configuration cannot be read.
    """
    try:
        exists = bucket.exists()
    except NotAllowed:
        return [Step("Read the bucket", blocked=_NO_ACCESS)]
    prefix = bucket.backend.prefix
    return [
        Step("The bucket exists") if exists else Step("Create the private bucket", bucket.create),
        _rules_step(
            "Allow scripts of any page to read files (CORS)",
            bucket.cors if exists else list,
            buckets.allows_scripts,
            lambda: bucket.add_cors(buckets.CORS_RULE),
        ),
        _rules_step(
            f"Delete the parts of interrupted uploads after {buckets.CLEANUP_DAYS} days (lifecycle)",
            bucket.lifecycle if exists else list,
            lambda rules: buckets.has_cleanup(rules, prefix),
            lambda: bucket.add_lifecycle(buckets.cleanup_rule(prefix)),
        ),
        _marker_step(bucket, exists=exists),
    ]


def _marker_step(bucket: Bucket, *, exists: bool) -> Step:
    text = "Write the marker of the store"
    with contextlib.suppress(BackendError):  # the step reports it when it runs
        if exists and marker.read(bucket.backend) is not None:
            return Step(text)
    return Step(text, lambda: marker.establish(bucket.backend))


def _rules_step(
    text: str,
    current: Callable[[], list[buckets.Rule]],
    sufficient: Callable[[list[buckets.Rule]], bool],
    add: Callable[[], None],
) -> Step:
    try:
        rules = current()
    except NotAllowed:
        return Step(text, blocked=_HIDDEN)
    return Step(text) if sufficient(rules) else Step(text, add)


def carry_out(steps: Sequence[Step]) -> Iterator[tuple[Step, Problem | None]]:
    """Carry out each step that is not yet done, and yield it with its problem, if any. Completed steps are kept.

    Stop if the first step fails, because the others need the bucket.
    """
    for step in steps:
        if step.do is None and step.blocked is None:
            continue
        problem = step.blocked or _do(step)
        yield step, problem
        if problem is not None and step is steps[0]:
            return


def _do(step: Step) -> Problem | None:
    try:
        if step.do is not None:
            step.do()
    except NotAllowed:
        return _FORBIDDEN
    except BackendError as error:
        return error.problem
    return None
