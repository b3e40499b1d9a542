"""``flask uploads setup``: its output can be copied as it is, and ``--apply`` configures a bucket without harm."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flask_persistent_uploads import Uploads, config
from flask_persistent_uploads.backends import BUILTIN_BACKENDS
from flask_persistent_uploads.cli import uploads as commands
from flask_persistent_uploads.operations import bucket as buckets
from flask_persistent_uploads.operations import setup
from flask_persistent_uploads.operations.setup import KINDS

from ..conftest import MakeApp
from ..fakes.scripted import Exchange, answer, forward, where
from ..servers import ROOT, clean_environment, free_ports
from .doctor.buckets import LEAST, READER, BucketServer, Identity, Proxy, anonymous_status, error_code

EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
SECRETS = {
    "UPLOADS_S3_ACCESS_KEY_ID": "an-access-key",
    "UPLOADS_S3_SECRET_ACCESS_KEY": "a-secret-of-s3",
    "UPLOADS_S3_SESSION_TOKEN": "a-secret-token",
    "UPLOADS_CLOUDINARY_URL": "cloudinary://key:a-secret-of-cloudinary@demo",
    "UPLOADS_IMAGEKIT_PRIVATE_KEY": "a-secret-of-imagekit",
}
OTHERS_CORS = {"AllowedOrigins": ["https://one.example"], "AllowedMethods": ["PUT"], "AllowedHeaders": ["x-one"]}
OTHERS_LIFECYCLE = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}}


@pytest.fixture(scope="module")
def server() -> Iterator[BucketServer]:
    with BucketServer() as server:
        yield server


@pytest.fixture
def bucket() -> str:
    """Return the name of a bucket that does not exist."""
    return f"set-{uuid.uuid4().hex}"


def run(*arguments: str, environment: Mapping[str, str], answers: str | None = None) -> Result:
    """Run ``flask uploads setup …``, and assert that no secret of the environment is in its output."""
    result = CliRunner().invoke(commands, ["setup", *arguments], env=dict(environment), input=answers)
    assert isinstance(result.exception, (SystemExit, type(None))), result.exception
    secrets = {value for name, value in environment.items() if re.search("SECRET|TOKEN|PRIVATE_KEY|_URL$", name)}
    shown = [secret for secret in secrets if not secret.startswith("http") and secret in result.output]
    assert shown == []
    return result


def apply(proxy: Proxy, *arguments: str, answers: str | None = None, **more: str) -> Result:
    return run("s3", "--apply", *arguments, environment=proxy.settings(**more), answers=answers)


@dataclass(frozen=True)
class State:
    """Everything that ``--apply`` may change."""

    cors: list[Any]
    lifecycle: list[Any]
    marker: bytes


def state(server: BucketServer, bucket: str) -> State | None:
    """Return the state of a bucket; ``None`` if it does not exist."""
    client, found = server.client(), State([], [], b"")
    if error_code(lambda: client.head_bucket(Bucket=bucket)) == "404":
        return None
    with contextlib.suppress(client.exceptions.ClientError):
        found = replace(found, cors=client.get_bucket_cors(Bucket=bucket)["CORSRules"])
    with contextlib.suppress(client.exceptions.ClientError):
        found = replace(found, lifecycle=client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"])
    with contextlib.suppress(client.exceptions.ClientError):
        marker = client.get_object(Bucket=bucket, Key="uploads/.uploads/store.json")["Body"].read()
        found = replace(found, marker=marker)
    return found


def changes(proxy: Proxy) -> list[str]:
    """Return the requests that change something."""
    return [f"{request.method} {request.path}" for request in proxy.requests if request.method not in {"GET", "HEAD"}]


def asks(what: str) -> Any:
    """Return a function that tells whether a request reads these rules."""
    return lambda exchange: exchange.command == "GET" and exchange.path.endswith(f"?{what}")


class TestApply:
    def test_a_missing_bucket_is_created_and_configured(self, server: BucketServer, bucket: str) -> None:
        with Proxy(server, bucket=bucket) as proxy:
            result = apply(proxy, "--yes")
        assert result.exit_code == 0
        plan, _, done = result.output.partition("\n\n")[2].partition("\n\n")
        assert result.output.startswith("Plan for s3, bucket ")
        assert (plan.count("  - "), done.count(": done\n")) == (4, 4)
        found = state(server, bucket)
        assert found is not None
        assert [buckets.allows_scripts(found.cors), buckets.has_cleanup(found.lifecycle, "uploads")] == [True, True]
        assert result.output.endswith(f"\nUPLOADS_STORE_ID={json.loads(found.marker)['id']}\n")
        server.client().put_object(Bucket=bucket, Key="uploads/a.txt", Body=b"x")
        assert [anonymous_status(f"{server.url}/{bucket}{what}") for what in ("/uploads/a.txt", "?list-type=2")] == [
            403,
            403,
        ]

    def test_a_second_run_changes_nothing(self, server: BucketServer, bucket: str) -> None:
        with Proxy(server, bucket=bucket) as proxy:
            first, before = apply(proxy, "--yes"), state(server, bucket)
            proxy.requests.clear()
            again = [apply(proxy, "--yes") for _ in range(2)]
            assert changes(proxy) == []
        assert state(server, bucket) == before
        assert {result.exit_code for result in again} == {0}
        assert again[0].output.count("  ok ") >= 3
        assert {result.output.splitlines()[-1] for result in [first, *again]} == {first.output.splitlines()[-1]}

    def test_nothing_is_asked_if_nothing_is_to_do(self, server: BucketServer, bucket: str) -> None:
        with Proxy(server, bucket=bucket) as proxy:
            apply(proxy, "--yes")
            again = apply(proxy)
        assert (again.exit_code, "Carry out this plan?" in again.output) == (0, False)

    def test_the_rules_of_others_are_kept(self, server: BucketServer, bucket: str) -> None:
        client = server.client()
        client.create_bucket(Bucket=bucket)
        client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [OTHERS_CORS]})
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [OTHERS_LIFECYCLE]})
        before = state(server, bucket)
        assert before is not None
        with Proxy(server, bucket=bucket) as proxy:
            assert apply(proxy, "--yes").exit_code == 0
        found = state(server, bucket)
        assert found is not None
        assert [rule for rule in found.cors if rule in before.cors] == before.cors
        assert [rule for rule in found.lifecycle if rule in before.lifecycle] == before.lifecycle
        assert (len(found.cors), len(found.lifecycle)) == (2, 2)

    def test_a_rule_that_exists_under_another_name_is_not_added(self, server: BucketServer, bucket: str) -> None:
        client = server.client()
        client.create_bucket(Bucket=bucket)
        every = {"AllowedOrigins": ["*"], "AllowedMethods": ["HEAD", "GET", "PUT"]}
        client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [every]})
        all_of_it = {**buckets.cleanup_rule("uploads"), "ID": "mine", "Filter": {"Prefix": ""}}
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [all_of_it]})
        before = state(server, bucket)
        with Proxy(server, bucket=bucket) as proxy:
            apply(proxy, "--yes")
            assert changes(proxy) == [f"PUT /{bucket}/uploads/.uploads/store.json"]
        found = state(server, bucket)
        assert before is not None
        assert found is not None
        assert (found.cors, found.lifecycle) == (before.cors, before.lifecycle)

    @pytest.mark.parametrize("answers", ["n\n", "", "\n"], ids=["no", "no terminal", "return"])
    def test_nothing_is_changed_without_a_yes(self, server: BucketServer, bucket: str, answers: str) -> None:
        with Proxy(server, bucket=bucket) as proxy:
            result = apply(proxy, answers=answers)
            assert changes(proxy) == []
        assert (result.exit_code, state(server, bucket)) == (1, None)
        assert result.output.startswith("Plan for ")

    def test_a_yes_at_the_terminal_is_enough(self, server: BucketServer, bucket: str) -> None:
        with Proxy(server, bucket=bucket) as proxy:
            assert apply(proxy, answers="y\n").exit_code == 0
        assert state(server, bucket) is not None

    def test_a_key_that_cannot_set_rules_leaves_them_to_the_user(self, server: BucketServer) -> None:
        server.client().delete_bucket_cors(Bucket=server.bucket)
        server.client().delete_bucket_lifecycle(Bucket=server.bucket)
        before = state(server, server.bucket)
        with Proxy(server) as proxy:
            result = apply(proxy, "--yes", **READER.keys)
        assert result.exit_code == 1
        failed = "failed. The credentials are not allowed to do this. Use the credentials of an administrator"
        assert f"Allow scripts of any page to read files (CORS): {failed}" in result.output
        assert f"(lifecycle): {failed}" in result.output
        assert state(server, server.bucket) == before
        server.set_up(server.bucket)

    @pytest.mark.parametrize("refusal", [(403, "AccessDenied"), (501, "NotImplemented"), (405, "MethodNotAllowed")])
    def test_rules_that_cannot_be_read_are_never_overwritten(
        self, server: BucketServer, bucket: str, refusal: tuple[int, str]
    ) -> None:
        client = server.client()
        client.create_bucket(Bucket=bucket)
        client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [OTHERS_CORS]})
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [OTHERS_LIFECYCLE]})
        before = state(server, bucket)
        blind = answer(*refusal)
        script = where(asks("cors"), blind, where(asks("lifecycle"), blind, forward(server.url)))
        with Proxy(server, script, bucket) as proxy:
            result = apply(proxy, "--yes")
            assert changes(proxy) == [f"PUT /{bucket}/uploads/.uploads/store.json"]
        found = state(server, bucket)
        assert before is not None
        assert found is not None
        assert (found.cors, found.lifecycle) == (before.cors, before.lifecycle)
        assert result.exit_code == 1
        assert result.output.count("The credentials are not allowed to read the current rules") == 2

    def test_a_service_that_fails_to_show_its_rules_stops_it_before_any_change(
        self, server: BucketServer, bucket: str
    ) -> None:
        server.client().create_bucket(Bucket=bucket)
        with Proxy(
            server, where(asks("lifecycle"), answer(400, "InternalError"), forward(server.url)), bucket
        ) as proxy:
            result = apply(proxy, "--yes")
            assert (result.exit_code, changes(proxy)) == (1, [])

    def test_a_failing_step_does_not_stop_the_others(self, server: BucketServer, bucket: str) -> None:
        server.client().create_bucket(Bucket=bucket)

        def sets_cors(exchange: Exchange) -> bool:
            return exchange.command == "PUT" and exchange.path.endswith("?cors")

        with Proxy(server, where(sets_cors, answer(403, "AccessDenied"), forward(server.url)), bucket) as proxy:
            result = apply(proxy, "--yes")
        found = state(server, bucket)
        assert found is not None
        assert (result.exit_code, found.cors) == (1, [])
        assert found.lifecycle
        assert found.marker

    def test_a_bucket_of_another_account_is_not_changed(self, server: BucketServer, bucket: str) -> None:
        server.client().create_bucket(Bucket=bucket)
        with Proxy(server, bucket=bucket) as proxy:
            result = apply(proxy, "--yes", **LEAST.keys)
            assert changes(proxy) == []
        assert result.exit_code == 1
        assert "Read the bucket: failed. The bucket belongs to another account, or the permission" in result.output

    def test_a_key_that_cannot_create_buckets_is_told(self, server: BucketServer, bucket: str) -> None:
        nothing = where(lambda exchange: "list-type" in exchange.path, answer(404, "NoSuchBucket"), forward(server.url))
        with Proxy(server, nothing, bucket) as proxy:
            result = apply(proxy, "--yes", **LEAST.keys)
        assert result.exit_code == 1
        assert "Create the private bucket: failed. The credentials are not allowed to do this." in result.output
        assert "(CORS): " not in result.output, "nothing else can be done without the bucket"

    @pytest.mark.parametrize("wrong", ["UPLOADS_S3_SECRET_ACCESS_KEY", "UPLOADS_S3_ACCESS_KEY_ID"])
    def test_wrong_credentials_change_nothing(self, server: BucketServer, bucket: str, wrong: str) -> None:
        with Proxy(server, bucket=bucket) as proxy:
            result = apply(proxy, "--yes", **{wrong: "not-right"})
            assert changes(proxy) == []
        assert result.exit_code == 1

    def test_a_dead_endpoint_is_an_error_of_one_line(self) -> None:
        url = f"http://127.0.0.1:{free_ports(1)[0]}"
        environment = {**SECRETS, "UPLOADS_S3_BUCKET": "b-1", "UPLOADS_S3_ENDPOINT_URL": url, "UPLOADS_TIMEOUT": "2"}
        result = run("s3", "--apply", "--yes", environment=environment)
        remedy = "Correct UPLOADS_S3_ENDPOINT_URL if it is wrong. Otherwise, try again."
        assert (result.exit_code, result.output) == (1, f"Error: The service cannot be reached. {remedy}\n")

    def test_missing_settings_are_named(self) -> None:
        result = run("s3", "--apply", environment={})
        assert result.exit_code == 2
        assert "Add --bucket with the name of the bucket, or set UPLOADS_S3_BUCKET." in result.output
        result = run("s3", "--apply", "--bucket", "b-1", environment={})
        assert (result.exit_code, "UPLOADS_S3_ACCESS_KEY_ID" in result.output) == (1, True)

    @pytest.mark.parametrize("kind", ["cloudinary", "imagekit", "disk"])
    def test_only_buckets_can_be_configured(self, kind: str) -> None:
        result = run(kind, "--apply", environment=SECRETS)
        assert (result.exit_code, "--apply is only for buckets" in result.output) == (2, True)

    def test_r2_without_an_account_does_not_configure_a_bucket_of_amazon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        planned = watch_plans(monkeypatch)
        keys = {name: value for name, value in SECRETS.items() if "_S3_" in name}
        result = run("r2", "--apply", "--yes", "--bucket", "b-1", environment=keys)
        assert planned == []
        assert (result.exit_code != 0, "--account" in result.output) == (True, True)

    def test_r2_is_configured_at_the_endpoint_of_its_account(self, monkeypatch: pytest.MonkeyPatch) -> None:
        planned = watch_plans(monkeypatch)
        run("r2", "--apply", "--yes", "--bucket", "b-1", "--account", "0a1b", environment=SECRETS)
        assert "0a1b.r2.cloudflarestorage.com" in planned[0]

    def test_it_runs_as_a_command_of_an_app(self, server: BucketServer, bucket: str, tmp_path: Path) -> None:
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
    """Return a list that receives the stores for which a plan is made; the stores themselves are not asked."""
    planned: list[str] = []

    def plan(bucket: buckets.Bucket) -> list[setup.Step]:
        planned.append(str(bucket.backend))
        return []

    monkeypatch.setattr(setup, "plan", plan)
    return planned


# -- what it prints


def sections(result: Result) -> dict[str, str]:
    """Return the text of each section by its title."""
    assert result.exit_code == 0, result.output
    found = re.split(r"^# (.*)\n", result.output, flags=re.MULTILINE)
    return {title: text.strip() for title, text in zip(found[1::2], found[2::2], strict=True)}


def section(result: Result, start: str) -> str:
    (text,) = (text for title, text in sections(result).items() if title.startswith(start))
    return text


def variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def filled(text: str) -> dict[str, str]:
    """Return the environment with something in place of each placeholder."""
    return {name: re.sub("<[^>]*>", "0a1b2c", value) for name, value in variables(text).items()}


def printed(kind: str, *arguments: str, **environment: str) -> Result:
    return run(kind, *arguments, environment={**SECRETS, **environment})


class TestPrinted:
    def test_a_second_uploads_has_its_own_variables(self) -> None:
        result = printed("s3", "--name", "documents", DOCUMENTS_S3_BUCKET="papers", DOCUMENTS_URL_PREFIX="/papers")
        environment = variables(section(result, "Environment"))
        assert environment["DOCUMENTS_S3_BUCKET"] == "papers"
        assert environment["DOCUMENTS_URL_PREFIX"] == "/papers"
        assert "UPLOADS_" not in result.output
        assert "healthCheckPath: /papers/_health" in section(result, "Render")
        assert "uploads doctor --name documents" in section(result, "Afterwards")

    @EVERY_KIND
    def test_the_environment_starts_an_app_on_that_backend(self, make_app: MakeApp, tmp_path: Path, kind: str) -> None:
        environment = filled(section(printed(kind, "--path", str(tmp_path / "disk")), "Environment"))
        app = make_app(uploads := Uploads(), **environment)
        with app.app_context():
            backend = uploads.backend
        assert backend.name == {"r2": "s3", "disk": "local"}.get(kind, kind)
        assert ("r2.cloudflarestorage.com" in str(backend)) == (kind == "r2")

    @EVERY_KIND
    @pytest.mark.parametrize("name", ["uploads", "documents"])
    def test_every_variable_is_a_setting_of_this_uploads(self, kind: str, name: str) -> None:
        settings = [*config.COMMON, *(setting for backend in BUILTIN_BACKENDS for setting in backend.settings())]
        known = {config.variable(name, setting.name) for setting in settings}
        output = printed(kind, "--name", name, **{f"{name.upper()}_PREFIX": "media/files"}).output
        named = set(re.findall(r"\b[A-Z]+_[A-Z0-9_]+\b", output))
        assert named <= known
        assert len(named) >= 2

    @EVERY_KIND
    def test_no_secret_of_the_environment_is_printed(self, kind: str) -> None:
        output = printed(kind, "--bucket", "b-1").output
        assert [value for value in SECRETS.values() if value in output] == []

    def test_the_known_bucket_is_filled_in(self) -> None:
        environment = {"UPLOADS_S3_BUCKET": "mine", "AWS_REGION": "eu-west-3", "UPLOADS_PREFIX": "media/files"}
        found = variables(section(printed("s3", **environment), "Environment"))
        assert found["UPLOADS_S3_BUCKET"] == "mine"
        assert (found["UPLOADS_S3_REGION"], found["UPLOADS_PREFIX"]) == ("eu-west-3", "media/files")
        found = variables(
            section(printed("s3", "--bucket", "other", "--region", "us-west-2", **environment), "Environment")
        )
        assert (found["UPLOADS_S3_BUCKET"], found["UPLOADS_S3_REGION"]) == ("other", "us-west-2")

    @EVERY_KIND
    def test_the_prefixes_of_paths_and_links_are_kept_for_every_kind(self, kind: str) -> None:
        result = printed(kind, UPLOADS_PREFIX="media/files", UPLOADS_URL_PREFIX="/media")
        found = variables(section(result, "Environment"))
        assert (found["UPLOADS_PREFIX"], found["UPLOADS_URL_PREFIX"]) == ("media/files", "/media")

    def test_another_s3_service_keeps_its_endpoint(self) -> None:
        found = variables(section(printed("s3", UPLOADS_S3_ENDPOINT_URL="https://minio.example"), "Environment"))
        assert found.get("UPLOADS_S3_ENDPOINT_URL") == "https://minio.example"

    @pytest.mark.parametrize(
        "arguments", [("s3", "--bucket", "a b"), ("s3", "--region", "x;y"), ("r2", "--account", "x y"), ("ftp",)]
    )
    def test_wrong_options_are_refused_before_anything_is_printed(self, arguments: tuple[str, ...]) -> None:
        result = run(*arguments, environment={})
        assert (result.exit_code, "Error: Invalid value for '" in result.output) == (2, True)

    def test_a_server_accepts_the_rules_as_they_are(self, server: BucketServer, bucket: str) -> None:
        result, client = printed("s3", "--bucket", bucket), server.client()
        client.create_bucket(Bucket=bucket)
        cors, lifecycle = (json.loads(section(result, start)) for start in ("CORS rules", "Lifecycle"))
        client.put_bucket_cors(Bucket=bucket, CORSConfiguration=cors)
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=lifecycle)
        policy = json.loads(section(result, "IAM policy"))
        # The policy of a user names nobody. The server accepts the policy of a bucket, which names everybody here.
        of_bucket = {**policy, "Statement": [{**one, "Principal": "*"} for one in policy["Statement"]]}
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(of_bucket))
        client.delete_bucket_policy(Bucket=bucket)
        found = state(server, bucket)
        assert found is not None
        assert buckets.allows_scripts(found.cors)
        assert buckets.has_cleanup(found.lifecycle, "uploads")

    def test_a_key_with_only_the_printed_policy_passes_doctor(self, server: BucketServer, make_app: MakeApp) -> None:
        policy = json.loads(section(printed("s3", "--bucket", server.bucket), "IAM policy"))
        one = Identity("as-printed", tuple(sorted(set(allowed_by(policy)))))
        assert set(one.actions) == {action.format(server.bucket) for action in LEAST.actions}
        server.allow(LEAST, READER, one)
        settings = server.environment(UPLOADS_S3_BUCKET=server.bucket, **one.keys)
        app = make_app(uploads := Uploads(), MAX_CONTENT_LENGTH=1 << 20, **settings)
        result = app.test_cli_runner().invoke(args=["uploads", "doctor", "--json"])
        report = json.loads(result.stdout)
        assert (result.exit_code, report["failures"], report["warnings"]) == (0, 0, 0)
        with app.app_context():  # in parts, which needs permissions of its own
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
        environment = variables(section(result, "Environment"))
        assert names == [*environment]
        assert values == {name: environment[name] for name in values}
        assert not {name for name in values if re.search("SECRET|PRIVATE|CLOUDINARY_URL|ACCESS_KEY_ID", name)}
        assert ("mountPath: /data\n" in section(result, "Render")) == (kind == "disk")

    @EVERY_KIND
    def test_koyeb_gets_each_variable_in_commands_that_a_shell_can_parse(self, kind: str) -> None:
        result = printed(kind, "--path", "/data")
        *before, update = shell(section(result, "Koyeb"))
        assert update[:3] == ["koyeb", "services", "update"]
        given = [word.split("=", 1) for at, word in enumerate(update) if update[at - 1] == "--env"]
        environment = variables(re.sub("<[^>]*>", "open", section(result, "Environment")))
        assert [name for name, _ in given] == [*environment]
        made = {words[3] for words in before if words[:3] == ["koyeb", "secrets", "create"]}
        assert {value[1:] for _, value in given if value.startswith("@")} == made
        assert all(value == environment[name] for name, value in given if not value.startswith("@"))
        assert (["koyeb", "volumes", "create"] in [words[:3] for words in before]) == (kind == "disk")

    def test_a_shell_passes_odd_characters_of_a_path_to_koyeb_unaltered(self) -> None:
        commands = section(printed("disk", "--path", "/it's $HOME"), "Koyeb").replace("<app>/<service>", "app/web")
        script = f"koyeb() {{ printf '%s\\n' \"$@\"; }}\n{commands}"
        words = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
        assert "UPLOADS_DIR=/it's $HOME/uploads" in words
        assert words[-1] == "uploads:/it's $HOME"

    def test_the_commands_of_the_aws_cli_name_the_files_of_the_sections(self) -> None:
        result = printed("s3", "--bucket", "mine", "--region", "eu-west-3")
        make, *put = shell(section(result, "Commands of the AWS CLI"))
        assert make == ["aws", "s3", "mb", "s3://mine", "--region", "eu-west-3"]
        titles = " ".join(sections(result))
        for words in put:
            assert words[3:5] == ["--bucket", "mine"]
            assert words[-1].removeprefix("file://") in titles

    def test_docker_gets_a_named_volume_that_contains_the_folder(self) -> None:
        result = printed("disk", "--path", "/data/")
        assert "      - uploads:/data\n" in section(result, "Docker")
        assert variables(section(result, "Environment"))["UPLOADS_DIR"] == "/data/uploads"


def shell(text: str) -> list[list[str]]:
    """Return the words of each command, with something in place of each placeholder."""
    joined = re.sub("<[^>]*>", "open", text.replace("\\\n", " "))
    return [shlex.split(line) for line in joined.splitlines() if line.strip()]


def allowed_by(policy: Any) -> Iterator[str]:
    """Yield the actions of SeaweedFS that an IAM policy allows."""
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
