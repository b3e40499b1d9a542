"""What to paste where, for each kind of store; and for a bucket, the doing of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..errors import BackendError
from . import bucket as buckets
from . import marker
from .bucket import Bucket, NotAllowed

KINDS = ("s3", "r2", "cloudinary", "imagekit", "disk")

_AFTERWARDS = """Then deploy, and in the shell of the service:

flask --app app uploads doctor{option}

It prints the store's id. Set {variables}STORE_ID to it, and a start on another
store, or on an empty one, is an alarm in the log."""


class Wanted(NamedTuple):
    """``bucket``, ``region``, ``endpoint`` (of another than Amazon) and ``prefix``; ``path`` of a disk; ``name``."""

    bucket: str = "my-bucket"
    region: str = "us-east-1"
    endpoint: str | None = None
    prefix: str = "uploads"
    url_prefix: str = "/uploads"
    path: str = "/var/data"
    name: str = "uploads"

    @property
    def variables(self) -> str:
        """What the names of the settings begin with."""
        return f"{self.name.upper()}_"


class Section(NamedTuple):
    title: str
    text: str


def sections(kind: str, wanted: Wanted) -> Iterator[Section]:
    """What to paste to keep uploads in a store of this ``kind``, which is one of :data:`KINDS`. No secret is in it."""
    variables, secrets = _environment(kind, wanted)
    lines = [f"{name}={value}" for name, value in (variables | secrets).items()]
    yield Section("The environment of the app, in the host's dashboard or in .env", "\n".join(lines))
    if kind == "s3":
        yield Section(
            "What its access key may do, as an IAM policy (--apply wants an administrator's)",
            _json(buckets.policy(wanted.bucket, wanted.prefix)),
        )
        yield Section("CORS rules of the bucket, cors.json", _json({"CORSRules": [dict(buckets.CORS_RULE)]}))
        yield Section("Lifecycle of the bucket, lifecycle.json", _json({"Rules": [buckets.sweep(wanted.prefix)]}))
    if kind == "s3" and wanted.endpoint is None:
        yield Section("By Amazon's command line, unless --apply does it", _aws(wanted))
    if kind == "r2":
        yield Section("The API token", f"Object Read & Write, for the bucket {wanted.bucket} alone")
        yield Section("CORS policy of the bucket, under Settings", _json([dict(buckets.CORS_RULE)]))
    yield Section("Render, in render.yaml", _render(kind, variables, secrets, wanted))
    yield Section("Koyeb, by its command line", _koyeb(kind, variables, secrets, wanted))
    if kind == "disk":
        yield Section("Docker, in compose.yaml", _compose(wanted))
    option = "" if wanted.name == "uploads" else f" --name {wanted.name}"
    yield Section("Afterwards", _AFTERWARDS.format(option=option, variables=wanted.variables))


def _environment(kind: str, wanted: Wanted) -> tuple[dict[str, str], dict[str, str]]:
    """The variables, and those that are secret, with what to put in their place."""
    start = wanted.variables
    keys = {f"{start}S3_ACCESS_KEY_ID": "<access key id>", f"{start}S3_SECRET_ACCESS_KEY": "<secret access key>"}
    bucket = {f"{start}S3_BUCKET": wanted.bucket}
    endpoint = {f"{start}S3_ENDPOINT_URL": wanted.endpoint} if wanted.endpoint else {}
    account = {f"{start}S3_ENDPOINT_URL": "https://<account id>.r2.cloudflarestorage.com"}
    tables: dict[str, tuple[dict[str, str], dict[str, str]]] = {
        "s3": ({**bucket, f"{start}S3_REGION": wanted.region, **endpoint}, keys),
        "r2": ({**bucket, **(endpoint or account)}, keys),
        "cloudinary": ({}, {"CLOUDINARY_URL": "cloudinary://<api key>:<api secret>@<cloud name>"}),
        "imagekit": (
            {"IMAGEKIT_URL_ENDPOINT": "https://ik.imagekit.io/<id>"},
            {"IMAGEKIT_PRIVATE_KEY": "<private key>"},
        ),
        "disk": ({f"{start}DIR": f"{wanted.path}/uploads"}, {}),
    }
    variables, secrets = tables[kind]
    variables = {**variables, f"{start}REQUIRE_PERSISTENT": "true"}
    if kind in {"s3", "r2"} and wanted.prefix != wanted.name:
        variables = {**variables, f"{start}PREFIX": wanted.prefix}
    if wanted.url_prefix != f"/{wanted.name}":
        variables = {**variables, f"{start}URL_PREFIX": wanted.url_prefix}
    return variables, secrets


def _json(content: object) -> str:
    return json.dumps(content, indent=2)


def _aws(wanted: Wanted) -> str:
    call = "aws s3api"
    return "\n".join(
        [
            f"aws s3 mb s3://{wanted.bucket} --region {wanted.region}",
            f"{call} put-bucket-cors --bucket {wanted.bucket} \\\n  --cors-configuration file://cors.json",
            f"{call} put-bucket-lifecycle-configuration --bucket {wanted.bucket} \\\n"
            f"  --lifecycle-configuration file://lifecycle.json",
        ]
    )


def _render(kind: str, variables: dict[str, str], secrets: dict[str, str], wanted: Wanted) -> str:
    lines = [f"healthCheckPath: {wanted.url_prefix}/_health", "envVars:"]
    for name, value in variables.items():
        lines += [f"  - key: {name}", f"    value: {json.dumps(value)}"]
    for name in secrets:
        lines += [f"  - key: {name}", "    sync: false # asked for in the dashboard"]
    if kind == "disk":
        lines += ["disk: # of a paid service, which then has one instance", "  name: uploads"]
        lines += [f"  mountPath: {wanted.path}", "  sizeGB: 10"]
    return "\n".join(lines)


def _koyeb(kind: str, variables: dict[str, str], secrets: dict[str, str], wanted: Wanted) -> str:
    lines = [f"koyeb secrets create {name} --value-from-stdin" for name in secrets]
    options = [f"--env {name}={json.dumps(value)}" for name, value in variables.items()]
    options += [f"--env {name}=@{name}" for name in secrets]
    if kind == "disk":
        lines.append("koyeb volumes create uploads --region fra --size 10")
        options.append(f"--volumes uploads:{wanted.path}")
    return "\n".join([*lines, " \\\n  ".join(["koyeb services update <app>/<service>", *options])])


def _compose(wanted: Wanted) -> str:
    return f"""services:
  web:
    volumes:
      - uploads:{wanted.path}
volumes:
  uploads:"""


class Step(NamedTuple):
    """One thing to do to a bucket; ``do`` is ``None`` where it is done already, or cannot be done from here."""

    text: str
    do: Callable[[], object] | None = None
    blocked: bool = False


def plan(bucket: Bucket) -> list[Step]:
    """What is to be done until a bucket is as it should be. What others have set there is kept.

    Raises ``BackendError`` where the bucket cannot be looked at.
    """
    try:
        exists = bucket.exists()
    except NotAllowed:
        return [Step("see the bucket: it is another's, or s3:ListBucket is missing", blocked=True)]
    prefix = bucket.backend.prefix
    return [
        Step("the bucket is there") if exists else Step("create the bucket, private", bucket.create),
        _rules(
            "let pages of any origin read files (CORS)",
            bucket.cors if exists else list,
            buckets.lets_pages_read,
            lambda: bucket.add_cors(buckets.CORS_RULE),
        ),
        _rules(
            f"sweep parts of broken uploads after {buckets.SWEEP_DAYS} days (lifecycle)",
            bucket.lifecycle if exists else list,
            lambda rules: buckets.sweeps(rules, prefix),
            lambda: bucket.add_lifecycle(buckets.sweep(prefix)),
        ),
        _marker(bucket, exists=exists),
    ]


def _marker(bucket: Bucket, *, exists: bool) -> Step:
    text = "write the store's marker"
    with contextlib.suppress(BackendError):  # of which the step will say more
        if exists and marker.read(bucket.backend) is not None:
            return Step(f"{text}: done before")
    return Step(text, lambda: marker.establish(bucket.backend))


def _rules(
    text: str,
    current: Callable[[], list[buckets.Rule]],
    enough: Callable[[list[buckets.Rule]], bool],
    add: Callable[[], None],
) -> Step:
    try:
        rules = current()
    except NotAllowed:  # to set them unseen would remove what others have set
        return Step(f"{text}: the credentials may not see these rules", blocked=True)
    return Step(f"{text}: done before") if enough(rules) else Step(text, add)


def carry_out(steps: Sequence[Step]) -> Iterator[tuple[Step, str | None]]:
    """Do what is to be done; each step with what went wrong, or ``None``. What was done stays done.

    Without the bucket, which is the first step, nothing else is done.
    """
    for step in steps:
        problem = _done(step)
        if step.do is not None or step.blocked:
            yield step, problem
        if problem is not None and step is steps[0]:
            return


def _done(step: Step) -> str | None:
    """Do it; what went wrong, if anything."""
    if step.blocked:
        return "it is left to you"
    try:
        if step.do is not None:
            step.do()
    except NotAllowed:
        return "the credentials may not do this"
    except BackendError as error:
        return str(error.description)
    return None
