"""``flask uploads setup``: what it prints can be pasted as it stands, and ``--apply`` does it, harming nothing."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result

from flask_persistent_uploads import Uploads, config
from flask_persistent_uploads.cli import uploads as commands
from flask_persistent_uploads.operations import bucket as buckets
from flask_persistent_uploads.operations import setup
from flask_persistent_uploads.operations.setup import KINDS

from ..conftest import MakeApp
from ..fakes.scripted import Exchange, answer, forward, where
from ..servers import ROOT, clean_environment, free_ports
from .doctor.test_online import LEAST, READER, Door, Known, Servant, anonymous, code_of

EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
SECRETS = {
    "UPLOADS_S3_ACCESS_KEY_ID": "an-access-key",
    "UPLOADS_S3_SECRET_ACCESS_KEY": "a-secret-of-s3",
    "UPLOADS_S3_SESSION_TOKEN": "a-secret-token",
    "UPLOADS_CLOUDINARY_URL": "cloudinary://key:a-secret-of-cloudinary@demo",
    "UPLOADS_IMAGEKIT_PRIVATE_KEY": "a-secret-of-imagekit",
}
OTHERS_CORS = {"AllowedOrigins": ["https://one.example"], "AllowedMethods": ["PUT"], "AllowedHeaders": ["x-one"]}
OTHERS_SWEEP = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}}


@pytest.fixture(scope="module")
def server() -> Iterator[Servant]:
    with Servant() as server:
        yield server


@pytest.fixture
def bucket() -> str:
    """The name of a bucket that is not there."""
    return f"set-{uuid.uuid4().hex}"


def run(*arguments: str, environment: Mapping[str, str], answers: str | None = None) -> Result:
    """``flask uploads setup …``; no secret of the environment is in its output."""
    result = CliRunner().invoke(commands, ["setup", *arguments], env=dict(environment), input=answers)
    assert isinstance(result.exception, (SystemExit, type(None))), result.exception
    secrets = {value for name, value in environment.items() if re.search("SECRET|TOKEN|PRIVATE_KEY|_URL$", name)}
    shown = [secret for secret in secrets if not secret.startswith("http") and secret in result.output]
    assert shown == []
    return result


def apply(door: Door, *arguments: str, answers: str | None = None, **more: str) -> Result:
    return run("s3", "--apply", *arguments, environment=door.settings(**more), answers=answers)


class State(NamedTuple):
    """All that ``--apply`` may change."""

    cors: list[Any]
    lifecycle: list[Any]
    marker: bytes


def state(server: Servant, bucket: str) -> State | None:
    """``None``: the bucket is not there."""
    client, found = server.client(), State([], [], b"")
    if code_of(lambda: client.head_bucket(Bucket=bucket)) == "404":
        return None
    with contextlib.suppress(client.exceptions.ClientError):
        found = found._replace(cors=client.get_bucket_cors(Bucket=bucket)["CORSRules"])
    with contextlib.suppress(client.exceptions.ClientError):
        found = found._replace(lifecycle=client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"])
    with contextlib.suppress(client.exceptions.ClientError):
        marker = client.get_object(Bucket=bucket, Key="uploads/.uploads/store.json")["Body"].read()
        found = found._replace(marker=marker)
    return found


def changes(door: Door) -> list[str]:
    """What came in at the door that changes something."""
    return [f"{request.method} {request.path}" for request in door.requests if request.method not in {"GET", "HEAD"}]


def asks(what: str) -> Any:
    """Whether a request is for the rules called so."""
    return lambda exchange: exchange.command == "GET" and exchange.path.endswith(f"?{what}")


class TestApply:
    def test_a_bucket_that_is_not_there_is_made_with_all_it_needs(self, server: Servant, bucket: str) -> None:
        with Door(server, bucket=bucket) as door:
            result = apply(door, "--yes")
        assert result.exit_code == 0
        plan, _, done = result.output.partition("\n\n")[2].partition("\n\n")
        assert result.output.startswith("Plan for s3, bucket ")
        assert (plan.count("  - "), done.count(": done\n")) == (4, 4)
        found = state(server, bucket)
        assert found is not None
        assert [buckets.lets_pages_read(found.cors), buckets.sweeps(found.lifecycle, "uploads")] == [True, True]
        assert result.output.endswith(f"\nUPLOADS_STORE_ID={json.loads(found.marker)['id']}\n")
        server.client().put_object(Bucket=bucket, Key="uploads/a.txt", Body=b"x")
        assert [anonymous(f"{server.url}/{bucket}{what}") for what in ("/uploads/a.txt", "?list-type=2")] == [403, 403]

    def test_to_repeat_it_changes_nothing(self, server: Servant, bucket: str) -> None:
        with Door(server, bucket=bucket) as door:
            first, before = apply(door, "--yes"), state(server, bucket)
            door.requests.clear()
            again = [apply(door, "--yes") for _ in range(2)]
            assert changes(door) == []
        assert state(server, bucket) == before
        assert {result.exit_code for result in again} == {0}
        assert again[0].output.count("  ok ") >= 3
        assert {result.output.splitlines()[-1] for result in [first, *again]} == {first.output.splitlines()[-1]}

    def test_where_all_is_done_nothing_is_asked(self, server: Servant, bucket: str) -> None:
        with Door(server, bucket=bucket) as door:
            apply(door, "--yes")
            again = apply(door)
        assert (again.exit_code, "Do it?" in again.output) == (0, False)

    def test_the_rules_of_others_are_kept(self, server: Servant, bucket: str) -> None:
        client = server.client()
        client.create_bucket(Bucket=bucket)
        client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [OTHERS_CORS]})
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [OTHERS_SWEEP]})
        before = state(server, bucket)
        assert before is not None
        with Door(server, bucket=bucket) as door:
            assert apply(door, "--yes").exit_code == 0
        found = state(server, bucket)
        assert found is not None
        assert [rule for rule in found.cors if rule in before.cors] == before.cors
        assert [rule for rule in found.lifecycle if rule in before.lifecycle] == before.lifecycle
        assert (len(found.cors), len(found.lifecycle)) == (2, 2)

    def test_what_is_there_under_another_name_is_not_added(self, server: Servant, bucket: str) -> None:
        client = server.client()
        client.create_bucket(Bucket=bucket)
        every = {"AllowedOrigins": ["*"], "AllowedMethods": ["HEAD", "GET", "PUT"]}
        client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [every]})
        all_of_it = {**buckets.sweep("uploads"), "ID": "mine", "Filter": {"Prefix": ""}}
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [all_of_it]})
        before = state(server, bucket)
        with Door(server, bucket=bucket) as door:
            apply(door, "--yes")
            assert changes(door) == [f"PUT /{bucket}/uploads/.uploads/store.json"]
        found = state(server, bucket)
        assert before is not None
        assert found is not None
        assert found[:2] == before[:2]

    @pytest.mark.parametrize("answers", ["n\n", "", "\n"], ids=["no", "no terminal", "return"])
    def test_without_a_yes_nothing_is_changed(self, server: Servant, bucket: str, answers: str) -> None:
        with Door(server, bucket=bucket) as door:
            result = apply(door, answers=answers)
            assert changes(door) == []
        assert (result.exit_code, state(server, bucket)) == (1, None)
        assert result.output.startswith("Plan for ")

    def test_with_a_yes_at_the_terminal_it_is_done(self, server: Servant, bucket: str) -> None:
        with Door(server, bucket=bucket) as door:
            assert apply(door, answers="y\n").exit_code == 0
        assert state(server, bucket) is not None

    def test_a_key_that_may_not_set_rules_says_what_is_left(self, server: Servant) -> None:
        server.client().delete_bucket_cors(Bucket=server.bucket)
        server.client().delete_bucket_lifecycle(Bucket=server.bucket)
        before = state(server, server.bucket)
        with Door(server) as door:
            result = apply(door, "--yes", **READER.keys)
        assert result.exit_code == 1
        assert "let pages of any origin read files (CORS): the credentials may not do this" in result.output
        assert "(lifecycle): the credentials may not do this" in result.output
        assert state(server, server.bucket) == before
        server.made_by_setup(server.bucket)

    @pytest.mark.parametrize("refusal", [(403, "AccessDenied"), (501, "NotImplemented"), (405, "MethodNotAllowed")])
    def test_rules_that_cannot_be_seen_are_never_overwritten(
        self, server: Servant, bucket: str, refusal: tuple[int, str]
    ) -> None:
        client = server.client()
        client.create_bucket(Bucket=bucket)
        client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [OTHERS_CORS]})
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [OTHERS_SWEEP]})
        before = state(server, bucket)
        blind = answer(*refusal)
        script = where(asks("cors"), blind, where(asks("lifecycle"), blind, forward(server.url)))
        with Door(server, script, bucket) as door:
            result = apply(door, "--yes")
            assert changes(door) == [f"PUT /{bucket}/uploads/.uploads/store.json"]
        found = state(server, bucket)
        assert before is not None
        assert found is not None
        assert found[:2] == before[:2]
        assert result.exit_code == 1
        assert result.output.count(": it is left to you") == 2
        assert result.output.count("the credentials may not see these rules") == 4, "in the plan, and after it"

    def test_rules_that_a_broken_service_does_not_show_stop_it_before_anything(
        self, server: Servant, bucket: str
    ) -> None:
        server.client().create_bucket(Bucket=bucket)
        with Door(server, where(asks("lifecycle"), answer(400, "InternalError"), forward(server.url)), bucket) as door:
            result = apply(door, "--yes")
            assert (result.exit_code, changes(door)) == (1, [])

    def test_one_step_that_fails_does_not_keep_the_others_from_being_done(self, server: Servant, bucket: str) -> None:
        server.client().create_bucket(Bucket=bucket)

        def sets_cors(exchange: Exchange) -> bool:
            return exchange.command == "PUT" and exchange.path.endswith("?cors")

        with Door(server, where(sets_cors, answer(403, "AccessDenied"), forward(server.url)), bucket) as door:
            result = apply(door, "--yes")
        found = state(server, bucket)
        assert found is not None
        assert (result.exit_code, found.cors) == (1, [])
        assert found.lifecycle
        assert found.marker

    def test_a_bucket_of_somebody_else_is_left_alone(self, server: Servant, bucket: str) -> None:
        server.client().create_bucket(Bucket=bucket)
        with Door(server, bucket=bucket) as door:
            result = apply(door, "--yes", **LEAST.keys)
            assert changes(door) == []
        assert result.exit_code == 1
        assert "see the bucket: it is another's, or s3:ListBucket is missing: it is left to you" in result.output

    def test_a_key_that_may_not_make_buckets_says_so(self, server: Servant, bucket: str) -> None:
        nothing = where(lambda exchange: "list-type" in exchange.path, answer(404, "NoSuchBucket"), forward(server.url))
        with Door(server, nothing, bucket) as door:
            result = apply(door, "--yes", **LEAST.keys)
        assert result.exit_code == 1
        assert "create the bucket, private: the credentials may not do this" in result.output
        assert "(CORS): " not in result.output  # without the bucket, nothing else is tried

    @pytest.mark.parametrize("wrong", ["UPLOADS_S3_SECRET_ACCESS_KEY", "UPLOADS_S3_ACCESS_KEY_ID"])
    def test_wrong_credentials_change_nothing(self, server: Servant, bucket: str, wrong: str) -> None:
        with Door(server, bucket=bucket) as door:
            result = apply(door, "--yes", **{wrong: "not-right"})
            assert changes(door) == []
        assert result.exit_code == 1

    def test_a_dead_endpoint_is_an_error_of_one_line(self) -> None:
        url = f"http://127.0.0.1:{free_ports(1)[0]}"
        environment = {**SECRETS, "UPLOADS_S3_BUCKET": "b-1", "UPLOADS_S3_ENDPOINT_URL": url, "UPLOADS_TIMEOUT": "2"}
        result = run("s3", "--apply", "--yes", environment=environment)
        assert (result.exit_code, result.output) == (1, "Error: The store for uploads cannot be reached.\n")

    def test_without_a_bucket_or_credentials_it_says_what_to_set(self) -> None:
        result = run("s3", "--apply", environment={})
        assert (result.exit_code, "UPLOADS_S3_BUCKET is not set" in result.output) == (1, True)
        result = run("s3", "--apply", "--bucket", "b-1", environment={})
        assert (result.exit_code, "UPLOADS_S3_ACCESS_KEY_ID" in result.output) == (1, True)

    @pytest.mark.parametrize("kind", ["cloudinary", "imagekit", "disk"])
    def test_what_is_no_bucket_cannot_be_applied(self, kind: str) -> None:
        result = run(kind, "--apply", environment=SECRETS)
        assert (result.exit_code, "--apply is for buckets" in result.output) == (2, True)

    def test_r2_without_an_account_is_not_applied_at_amazon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        planned = watch_plans(monkeypatch)
        keys = {name: value for name, value in SECRETS.items() if "_S3_" in name}
        result = run("r2", "--apply", "--yes", "--bucket", "b-1", environment=keys)
        assert planned == []
        assert (result.exit_code != 0, "--account" in result.output) == (True, True)

    def test_r2_is_applied_at_the_endpoint_of_its_account(self, monkeypatch: pytest.MonkeyPatch) -> None:
        planned = watch_plans(monkeypatch)
        run("r2", "--apply", "--yes", "--bucket", "b-1", "--account", "0a1b", environment=SECRETS)
        assert "0a1b.r2.cloudflarestorage.com" in planned[0]

    def test_it_runs_as_a_command_where_the_app_has_no_settings(
        self, server: Servant, bucket: str, tmp_path: Path
    ) -> None:
        environment = server.environment(UPLOADS_S3_BUCKET=bucket)
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "tests.system.app", "uploads", "setup", "s3", "--apply"],
            cwd=tmp_path,
            env=clean_environment(PYTHONPATH=str(ROOT), **environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert done.stdout.startswith("Plan for ")
        assert state(server, bucket) is None


def watch_plans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stores for which a plan is made, of which nothing is asked."""
    planned: list[str] = []

    def plan(bucket: buckets.Bucket) -> list[setup.Step]:
        planned.append(str(bucket.backend))
        return []

    monkeypatch.setattr(setup, "plan", plan)
    return planned


# -- what is printed


def sections(result: Result) -> dict[str, str]:
    """The text of each section by its title."""
    assert result.exit_code == 0, result.output
    found = re.split(r"^# (.*)\n", result.output, flags=re.MULTILINE)
    return {title: text.strip() for title, text in zip(found[1::2], found[2::2], strict=True)}


def section(result: Result, start: str) -> str:
    (text,) = (text for title, text in sections(result).items() if title.startswith(start))
    return text


def variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def filled(text: str) -> dict[str, str]:
    """The environment with something in each place that is left open."""
    return {name: re.sub("<[^>]*>", "0a1b2c", value) for name, value in variables(text).items()}


def printed(kind: str, *arguments: str, **environment: str) -> Result:
    return run(kind, *arguments, environment={**SECRETS, **environment})


class TestPrinted:
    def test_a_second_uploads_has_variables_of_its_own(self) -> None:
        result = printed("s3", "--name", "documents", DOCUMENTS_S3_BUCKET="papers", DOCUMENTS_URL_PREFIX="/papers")
        environment = variables(section(result, "The environment"))
        assert environment["DOCUMENTS_S3_BUCKET"] == "papers"
        assert environment["DOCUMENTS_URL_PREFIX"] == "/papers"
        assert "UPLOADS_" not in result.output
        assert "healthCheckPath: /papers/_health" in section(result, "Render")
        assert "uploads doctor --name documents" in section(result, "Afterwards")

    @EVERY_KIND
    def test_the_environment_starts_an_app_on_that_backend(self, make_app: MakeApp, tmp_path: Path, kind: str) -> None:
        environment = filled(section(printed(kind, "--path", str(tmp_path / "disk")), "The environment"))
        app = make_app(uploads := Uploads(), **own_names(environment))
        with app.app_context():
            backend = uploads.backend
        assert backend.name == {"r2": "s3", "disk": "local"}.get(kind, kind)
        assert ("r2.cloudflarestorage.com" in str(backend)) == (kind == "r2")

    @EVERY_KIND
    def test_every_variable_is_one_of_ours_or_a_native_one(self, kind: str) -> None:
        ours = {f"UPLOADS_{row.name.upper()}" for row in config.VARIABLES}
        native = {name for row in config.VARIABLES for name in row.metadata["native"]}
        output = printed(kind, UPLOADS_PREFIX="media/files").output
        named = set(re.findall(r"\b(?:UPLOADS|CLOUDINARY|IMAGEKIT|AWS)_[A-Z0-9_]+", output))
        assert named <= ours | native
        assert len(named) >= 2

    @EVERY_KIND
    def test_no_secret_of_the_environment_is_printed(self, kind: str) -> None:
        output = printed(kind, "--bucket", "b-1").output
        assert [value for value in SECRETS.values() if value in output] == []

    def test_what_is_known_of_the_bucket_is_filled_in(self) -> None:
        environment = {"UPLOADS_S3_BUCKET": "mine", "AWS_REGION": "eu-west-3", "UPLOADS_PREFIX": "media/files"}
        found = variables(section(printed("s3", **environment), "The environment"))
        assert found["UPLOADS_S3_BUCKET"] == "mine"
        assert (found["UPLOADS_S3_REGION"], found["UPLOADS_PREFIX"]) == ("eu-west-3", "media/files")
        found = variables(
            section(printed("s3", "--bucket", "other", "--region", "us-west-2", **environment), "The env")
        )
        assert (found["UPLOADS_S3_BUCKET"], found["UPLOADS_S3_REGION"]) == ("other", "us-west-2")

    def test_another_service_of_s3_keeps_its_endpoint(self) -> None:
        found = variables(section(printed("s3", UPLOADS_S3_ENDPOINT_URL="https://minio.example"), "The environment"))
        assert found.get("UPLOADS_S3_ENDPOINT_URL") == "https://minio.example"

    @pytest.mark.parametrize(
        "arguments", [("s3", "--bucket", "a b"), ("s3", "--region", "x;y"), ("r2", "--account", "x y"), ("ftp",)]
    )
    def test_what_cannot_be_is_refused_before_it_is_printed(self, arguments: tuple[str, ...]) -> None:
        assert run(*arguments, environment={}).exit_code != 0

    def test_the_rules_are_taken_by_a_server_as_they_stand(self, server: Servant, bucket: str) -> None:
        result, client = printed("s3", "--bucket", bucket), server.client()
        client.create_bucket(Bucket=bucket)
        cors, lifecycle = (json.loads(section(result, start)) for start in ("CORS rules", "Lifecycle"))
        client.put_bucket_cors(Bucket=bucket, CORSConfiguration=cors)
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=lifecycle)
        policy = json.loads(section(result, "What its access key may do"))
        # That of a user names nobody; that of a bucket, which the server can read, everybody here.
        of_bucket = {**policy, "Statement": [{**one, "Principal": "*"} for one in policy["Statement"]]}
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(of_bucket))
        client.delete_bucket_policy(Bucket=bucket)
        found = state(server, bucket)
        assert found is not None
        assert buckets.lets_pages_read(found.cors)
        assert buckets.sweeps(found.lifecycle, "uploads")

    def test_a_key_with_the_printed_policy_alone_passes_doctor(self, server: Servant, make_app: MakeApp) -> None:
        policy = json.loads(section(printed("s3", "--bucket", server.bucket), "What its access key may do"))
        one = Known("as-printed", tuple(sorted(set(allowed_by(policy)))))
        assert set(one.actions) == {action.format(server.bucket) for action in LEAST.actions}
        server.allow(LEAST, READER, one)
        settings = server.environment(UPLOADS_S3_BUCKET=server.bucket, **one.keys)
        app = make_app(uploads := Uploads(), MAX_CONTENT_LENGTH=1 << 20, **settings)
        result = app.test_cli_runner().invoke(args=["uploads", "doctor", "--json"])
        report = json.loads(result.stdout)
        assert (result.exit_code, report["failures"], report["warnings"]) == (0, 0, 0)
        with app.app_context():  # in parts, whose end and whose breaking off are permissions of their own
            path = uploads.save(bytes(17 << 20), filename="a.bin")
            uploads.delete(path)

    @EVERY_KIND
    def test_render_gets_each_variable_and_no_secret(self, kind: str) -> None:
        result = printed(kind, "--path", "/data")
        top, names, values = "", [], {}
        for line in section(result, "Render").splitlines():
            found = re.fullmatch(r"( {0,4})(- )?([a-zA-Z]+):(?: (\"[^\"]*\"|[^\s#]+))?(?: # .*)?", line)
            assert found, line
            top = found[3] if not found[1] else top
            if found[3] == "key":
                names.append(found[4])
            if found[3] == "value":
                values[names[-1]] = json.loads(found[4])
            if top == "envVars" and found[1]:
                assert (found[1], bool(found[2])) == (("  ", True) if found[3] == "key" else ("    ", False))
        environment = variables(section(result, "The environment"))
        assert names == [*environment]
        assert values == {name: environment[name] for name in values}
        assert not {name for name in values if re.search("SECRET|PRIVATE|CLOUDINARY_URL|ACCESS_KEY_ID", name)}
        assert ("mountPath: /data\n" in section(result, "Render")) == (kind == "disk")

    @EVERY_KIND
    def test_koyeb_gets_each_variable_by_commands_that_a_shell_can_read(self, kind: str) -> None:
        result = printed(kind, "--path", "/data")
        *before, update = shell(section(result, "Koyeb"))
        assert update[:3] == ["koyeb", "services", "update"]
        given = [word.split("=", 1) for at, word in enumerate(update) if update[at - 1] == "--env"]
        environment = variables(re.sub("<[^>]*>", "open", section(result, "The environment")))
        assert [name for name, _ in given] == [*environment]
        made = {words[3] for words in before if words[:3] == ["koyeb", "secrets", "create"]}
        assert {value[1:] for _, value in given if value.startswith("@")} == made
        assert all(value == environment[name] for name, value in given if not value.startswith("@"))
        assert (["koyeb", "volumes", "create"] in [words[:3] for words in before]) == (kind == "disk")

    def test_amazons_commands_name_the_files_of_the_sections(self) -> None:
        result = printed("s3", "--bucket", "mine", "--region", "eu-west-3")
        make, *put = shell(section(result, "By Amazon's"))
        assert make == ["aws", "s3", "mb", "s3://mine", "--region", "eu-west-3"]
        titles = " ".join(sections(result))
        for words in put:
            assert words[3:5] == ["--bucket", "mine"]
            assert words[-1].removeprefix("file://") in titles

    def test_docker_gets_a_named_volume_where_the_folder_is(self) -> None:
        result = printed("disk", "--path", "/data/")
        assert "      - uploads:/data\n" in section(result, "Docker")
        assert variables(section(result, "The environment"))["UPLOADS_DIR"] == "/data/uploads"


def own_names(environment: Mapping[str, str]) -> dict[str, str]:
    """As ``app.config`` takes them, where native names say nothing."""
    return {name if name.startswith("UPLOADS_") else f"UPLOADS_{name}": value for name, value in environment.items()}


def shell(text: str) -> list[list[str]]:
    """The words of each command; what stands in ``<…>`` is to be filled in."""
    joined = re.sub("<[^>]*>", "open", text.replace("\\\n", " "))
    return [shlex.split(line) for line in joined.splitlines() if line.strip()]


def allowed_by(policy: Any) -> Iterator[str]:
    """The actions of SeaweedFS that an IAM policy of ours allows."""
    kinds = {
        "s3:GetObject": "Read",
        "s3:PutObject": "Write",
        "s3:DeleteObject": "Write",
        "s3:AbortMultipartUpload": "Write",
        "s3:ListBucket": "List",
    }
    for statement in policy["Statement"]:
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            yield f"{kinds[action]}:{statement['Resource'].removeprefix('arn:aws:s3:::')}"
