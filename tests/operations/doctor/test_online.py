"""``flask uploads doctor`` online: each check is seen failing, alone, and nothing of it is left in any store."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from email.utils import formatdate
from io import BytesIO
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from flask_persistent_uploads import Uploads
from flask_persistent_uploads.backends.base import Backend
from flask_persistent_uploads.cli import uploads as commands
from flask_persistent_uploads.operations.doctor import online
from flask_persistent_uploads.stored import Stat

from ...conftest import MakeApp
from ...fakes.cloudinary import FakeCloudinary
from ...fakes.imagekit import FakeImageKit
from ...fakes.scripted import Behaviour, Exchange, ScriptedS3, answer, forward, silent, where
from ...fakes.service import lost, status
from ...servers import (
    ROOT,
    SECRET_ACCESS_KEY,
    S3Server,
    clean_environment,
    free_ports,
    silent_server,
    stop,
)

Report = dict[str, Any]
Changed = Callable[[int, bytes, dict[str, str]], tuple[int, bytes, dict[str, str]]]

# What may stand in no output: secrets, and what opens a file to whoever reads it.
SECRETS = (
    SECRET_ACCESS_KEY,
    "a-wrong-secret",
    "a-session-token",
    "private_x",
    "X-Amz-Signature",
    "ik-s=",
    "signature=",
)


class Known(NamedTuple):
    """An identity of the server: its access key, and SeaweedFS's actions for the bucket ``{}``."""

    name: str
    actions: tuple[str, ...]

    @property
    def keys(self) -> dict[str, str]:
        return {"UPLOADS_S3_ACCESS_KEY_ID": self.name, "UPLOADS_S3_SECRET_ACCESS_KEY": f"{self.name}-secret"}


#: What the policy of ``setup`` allows, as far as the server can say it.
LEAST = Known("least", ("Read:{}/uploads/*", "Write:{}/uploads/*", "List:{}"))
READER = Known("reader", ("Read:{}", "List:{}"))
WRITER = Known("writer", ("Write:{}", "List:{}"))
NO_LIST = Known("no-list", ("Read:{}", "Write:{}"))


class Servant(S3Server):
    """A server with identities that may do less, in the bucket ``proof``, which ``setup --apply`` has made."""

    bucket = "proof"

    def __enter__(self) -> Servant:
        super().__enter__()
        try:
            self.allow(LEAST, READER, WRITER, NO_LIST)
            self.made_by_setup(self.bucket)
        except BaseException:
            self.__exit__()
            raise
        return self

    def allow(self, *known: Known) -> None:
        """Have the server read its identities again, with these."""
        path = self._folder / "identities.json"
        first = json.loads(path.read_text())["identities"][:1]
        more = [
            {
                "name": one.name,
                "credentials": [{"accessKey": one.name, "secretKey": f"{one.name}-secret"}],
                "actions": [action.format(self.bucket) for action in one.actions],
            }
            for one in known
        ]
        path.write_text(json.dumps({"identities": [*first, *more]}))
        os.kill(self.process.pid, signal.SIGHUP)
        until(lambda: code_of(lambda: self.client(access=LEAST.name).list_objects_v2(Bucket=self.bucket)) != UNKNOWN)

    def client(self, *, access: str | None = None, **config: Any) -> Any:
        if access is None:
            return super().client(**config)
        import boto3

        session = boto3.session.Session(access, f"{access}-secret")
        return session.client("s3", endpoint_url=self.url, region_name="us-east-1")

    def made_by_setup(self, bucket: str) -> str:
        environment = self.environment(UPLOADS_S3_BUCKET=bucket)
        result = CliRunner().invoke(commands, ["setup", "s3", "--apply", "--yes"], env=environment)
        assert result.exit_code == 0, result.output
        return bucket

    def new_bucket(self) -> str:
        """One as ``setup`` makes it, for a test to spoil."""
        return self.made_by_setup(f"own-{uuid.uuid4().hex}")


UNKNOWN = "InvalidAccessKeyId"


def code_of(call: Callable[[], object]) -> str | None:
    """The code of S3's refusal, if it is one."""
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return None


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server() -> Iterator[Servant]:
    with Servant() as server:
        yield server


class Door(ScriptedS3):
    """What stands before the real server: as ``script`` has it, else passing everything on. It knows what came in."""

    def __init__(self, server: Servant, script: Behaviour | None = None, bucket: str = Servant.bucket) -> None:
        super().__init__(script or forward(server.url))
        self.real, self.bucket = server, bucket

    def settings(self, **more: str) -> dict[str, str]:
        return {**self.real.environment(UPLOADS_S3_ENDPOINT_URL=self.url, UPLOADS_S3_BUCKET=self.bucket), **more}

    def saved(self) -> list[str]:
        """The names of the objects that were sent here to be stored."""
        start = f"/{self.bucket}/"
        return [request.path.removeprefix(start) for request in self.requests if request.method == "PUT"]

    def left(self) -> list[str]:
        """Those of them that are there; a listing of this server would hide them."""
        return [name for name in self.saved() if self._is_there(name)]

    def _is_there(self, name: str) -> bool:
        return code_of(lambda: self.real.client().head_object(Bucket=self.bucket, Key=name)) is None


Doctor = Callable[..., Report]


@pytest.fixture
def doctor(make_app: MakeApp) -> Doctor:
    """``doctor(settings)``: the report on an app with these settings, in whose output no secret is."""

    def examine(settings: Mapping[str, str], *arguments: str) -> Report:
        app = make_app(Uploads(), MAX_CONTENT_LENGTH=1 << 20, **settings)
        result = app.test_cli_runner().invoke(args=["uploads", "doctor", "--json", *arguments])
        assert isinstance(result.exception, (SystemExit, type(None))), result.exception
        assert [secret for secret in SECRETS if secret in result.output] == []
        report: Report = json.loads(result.stdout)
        assert result.exit_code == (1 if report["failures"] else 0)
        return report

    return examine


def troubles(report: Report) -> dict[str, dict[str, str]]:
    """What is a failure or a warning, by the name of the check."""
    return {check["name"]: check for check in report["checks"] if check["verdict"] in {"failure", "warning"}}


def the_one(report: Report, name: str, verdict: str = "failure") -> str:
    """What is said and advised by the only check that is not content."""
    found = troubles(report)
    assert {name: check["verdict"] for name, check in found.items()} == {name: verdict}, found
    return f"{found[name]['seen']} -> {found[name]['remedy']}"


ONLINE = (
    "service",
    "clock skew",
    "region",
    "save",
    "stat",
    "read",
    "link",
    "link by head",
    "link by range",
    "tampering",
    "cors",
    "store",
    "missing file",
    "listing",
    "lifecycle",
    "delete",
)


# -- what requests are


def by_link(exchange: Exchange) -> bool:
    return "X-Amz-Signature" in exchange.path


def by_key(exchange: Exchange) -> bool:
    return "Authorization" in exchange.headers


def by_nobody(exchange: Exchange) -> bool:
    return not by_link(exchange) and not by_key(exchange)


def of(method: str, who: Callable[[Exchange], bool], also: str = "") -> Callable[[Exchange], bool]:
    return lambda exchange: exchange.command == method and who(exchange) and also in exchange.path


def ranged(exchange: Exchange) -> bool:
    return "Range" in exchange.headers


def plain(exchange: Exchange) -> bool:
    return "Range" not in exchange.headers and "Origin" not in exchange.headers


# -- what goes wrong


def changed(real: Behaviour, change: Changed) -> Behaviour:
    """The real server's answer, but for what ``change`` makes of its status, body and headers."""

    def behave(exchange: Exchange) -> None:
        reply = exchange.reply

        def other(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
            reply(*change(status, body, dict(headers or {})))

        exchange.reply = other  # type: ignore[method-assign]
        real(exchange)

    return behave


def one_byte(status: int, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
    return status, body[:-1] + bytes([body[-1] ^ 1]) if body else body, headers


def without_range(real: Behaviour) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        del exchange.headers["Range"]
        real(exchange)

    return behave


def at_another_time(real: Behaviour, seconds: int) -> Behaviour:
    """The service's clock is ahead by so much."""

    def behave(exchange: Exchange) -> None:
        date = formatdate(time.time() + seconds, usegmt=True)
        exchange.date_time_string = lambda timestamp=None: date  # type: ignore[method-assign]
        real(exchange)

    return behave


def then_gone(server: Servant, bucket: str = Servant.bucket) -> Behaviour:
    """What was stored vanishes at once."""

    def behave(exchange: Exchange) -> None:
        def gone(status: int, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
            server.client().delete_object(Bucket=bucket, Key=exchange.path.removeprefix(f"/{bucket}/"))
            return status, body, headers

        changed(forward(server.url), gone)(exchange)

    return behave


class Break(NamedTuple):
    """What a door does with the requests that ``matches``, and what the check says that sees it."""

    check: str
    verdict: str
    matches: Callable[[Exchange], bool]
    behaviour: Callable[[Servant], Behaviour]
    says: str


BREAKS = {
    "clock behind": Break(
        "clock skew",
        "failure",
        of("HEAD", by_nobody),
        lambda server: at_another_time(forward(server.url), 1200),
        r"The clock is 1(199|200|201) s behind the service's -> set the clock of this machine \(NTP\)",
    ),
    "clock ahead": Break(
        "clock skew",
        "failure",
        of("HEAD", by_nobody),
        lambda server: at_another_time(forward(server.url), -1200),
        r"The clock is 1(199|200|201) s ahead of",
    ),
    "clock a little wrong": Break(
        "clock skew",
        "warning",
        of("HEAD", by_nobody),
        lambda server: at_another_time(forward(server.url), 300),
        r"The clock is (299|300|301) s behind",
    ),
    "other region": Break(
        "region",
        "failure",
        of("HEAD", by_nobody),
        lambda server: answer(301, x_amz_bucket_region="eu-west-3"),
        "The bucket is in the region eu-west-3, not us-east-1 -> UPLOADS_S3_REGION=eu-west-3",
    ),
    "unknown key": Break(
        "save",
        "failure",
        by_key,
        lambda server: answer(403, "InvalidAccessKeyId"),
        "correct UPLOADS_S3_ACCESS_KEY_ID",
    ),
    "invalid token": Break(
        "save", "failure", by_key, lambda server: answer(400, "InvalidToken"), "correct UPLOADS_S3_SESSION_TOKEN"
    ),
    "expired token": Break(
        "save", "failure", by_key, lambda server: answer(400, "ExpiredToken"), "UPLOADS_S3_SESSION_TOKEN"
    ),
    "full": Break("save", "failure", by_key, lambda server: answer(507, "InsufficientStorage"), "full.*make room"),
    "busy": Break("save", "failure", of("PUT", by_key), lambda server: answer(503, "SlowDown"), "not available now"),
    "altered on its way in": Break(
        "save", "failure", of("PUT", by_key), lambda server: forward(server.url, flip=True), "altered on its way"
    ),
    "gone at once": Break("stat", "failure", of("PUT", by_key), then_gone, "does not know the file"),
    "read altered": Break(
        "read",
        "failure",
        of("GET", by_key, "doctor-"),
        lambda server: changed(forward(server.url), one_byte),
        "What is read back is not what was saved",
    ),
    "link refused": Break(
        "link",
        "failure",
        lambda exchange: of("GET", by_link)(exchange) and plain(exchange),
        lambda server: answer(403, "SignatureDoesNotMatch"),
        "The direct url answers 403 to GET in place of 200",
    ),
    "link altered": Break(
        "link",
        "failure",
        lambda exchange: of("GET", by_link)(exchange) and plain(exchange),
        lambda server: changed(forward(server.url), one_byte),
        "The direct url gives other bytes than were saved",
    ),
    "link moved": Break(
        "link",
        "failure",
        of("GET", by_link),
        lambda server: answer(302, Location="/elsewhere"),
        "The direct url answers 302 to GET in place of 200",
    ),
    "no HEAD": Break(
        "link by head",
        "failure",
        of("HEAD", by_link),
        lambda server: answer(403),
        "The direct url answers 403 to HEAD in place of 200",
    ),
    "Range ignored": Break(
        "link by range",
        "failure",
        lambda exchange: by_link(exchange) and ranged(exchange),
        lambda server: without_range(forward(server.url)),
        "The direct url answers 200 to GET in place of 206",
    ),
    "Range altered": Break(
        "link by range",
        "failure",
        lambda exchange: by_link(exchange) and ranged(exchange),
        lambda server: changed(forward(server.url), one_byte),
        "other bytes",
    ),
    "delete refused": Break(
        "delete",
        "failure",
        of("DELETE", by_key),
        lambda server: answer(403, "AccessDenied"),
        r"The permission s3:DeleteObject is missing; .*\.uploads/doctor-[0-9a-f]{16}\.txt is left there "
        r"-> allow s3:DeleteObject on arn:aws:s3:::proof/uploads/\*",
    ),
}


class TestOneThingIsWrongWithABucket:
    """The report names that and nothing else."""

    def test_a_bucket_that_setup_made_has_no_trouble(self, server: Servant, doctor: Doctor) -> None:
        with Door(server) as door:
            report = doctor(door.settings())
            checks = [check["name"] for check in report["checks"] if check["name"] in ONLINE]
        assert troubles(report) == {}
        assert report["headline"].startswith("Uploads survive")
        assert checks == [name for name in ONLINE if name != "region"], "which this server does not tell"
        assert (len(door.saved()), door.left()) == (1, [])

    def test_the_region_is_compared_where_the_service_tells_it(self, server: Servant, doctor: Doctor) -> None:
        told = answer(403, x_amz_bucket_region="us-east-1")
        with Door(server, where(of("HEAD", by_nobody), told, forward(server.url))) as door:
            report = doctor(door.settings())
        assert {"name": "region", "verdict": "ok", "seen": "The bucket is in us-east-1", "remedy": None} in report[
            "checks"
        ]
        assert troubles(report) == {}

    @pytest.mark.parametrize("name", BREAKS)
    def test_what_goes_wrong_on_the_way_is_named_by_its_check(self, server: Servant, doctor: Doctor, name: str) -> None:
        broken = BREAKS[name]
        with Door(server, where(broken.matches, broken.behaviour(server), forward(server.url))) as door:
            report = doctor(door.settings())
        assert re.search(broken.says, the_one(report, broken.check, broken.verdict))
        works = broken.verdict == "warning" or broken.check in {"delete", "link by head", "link by range"}
        assert report["headline"].startswith("Uploads survive: " if works else "UPLOADS DO NOT WORK. ")
        stays = door.saved() if broken.check == "delete" else []
        assert door.left() == stays
        for left in stays:
            server.client().delete_object(Bucket=door.bucket, Key=left)

    @pytest.mark.parametrize(
        ("known", "check", "says"),
        [
            (READER, "save", r"The permission s3:PutObject is missing -> allow .* on arn:aws:s3:::proof/uploads/\*"),
            (WRITER, "stat", r"The permission s3:GetObject is missing -> allow .* on arn:aws:s3:::proof/uploads/\*"),
            (
                NO_LIST,
                "missing file",
                r"The permission s3:ListBucket is missing -> "
                r"allow s3:ListBucket on arn:aws:s3:::proof \(the bucket itself, not arn:aws:s3:::proof/\*\)",
            ),
        ],
        ids=["save", "read", "list"],
    )
    def test_a_permission_that_the_key_lacks_is_named(
        self, server: Servant, doctor: Doctor, known: Known, check: str, says: str
    ) -> None:
        with Door(server) as door:
            report = doctor(door.settings(**known.keys))
        assert re.search(says, the_one(report, check))
        assert door.left() == []

    def test_a_policy_that_denies_deleting_leaves_the_file_and_says_so(self, server: Servant, doctor: Doctor) -> None:
        bucket, client = server.new_bucket(), server.client()
        deny(server, bucket, "s3:DeleteObject")
        with Door(server, bucket=bucket) as door:
            said = the_one(doctor(door.settings(UPLOADS_S3_BUCKET=bucket)), "delete")
            (left,) = door.left()
        assert said.startswith("The permission s3:DeleteObject is missing; ")
        assert left.removeprefix("uploads/") in said
        client.delete_bucket_policy(Bucket=bucket)

    def test_the_least_that_setup_prints_is_enough(self, server: Servant, doctor: Doctor) -> None:
        with Door(server) as door:
            report = doctor(door.settings(**LEAST.keys))
        assert troubles(report) == {}
        assert [check["name"] for check in report["checks"] if check["verdict"] == "skipped"] == ["lifecycle"]
        assert door.left() == []

    @pytest.mark.parametrize(
        ("settings", "variable"),
        [
            ({"UPLOADS_S3_SECRET_ACCESS_KEY": "a-wrong-secret"}, "UPLOADS_S3_SECRET_ACCESS_KEY"),
            ({"UPLOADS_S3_ACCESS_KEY_ID": "nobody"}, "UPLOADS_S3_ACCESS_KEY_ID"),
            ({"UPLOADS_S3_BUCKET": "not-there"}, "make it, or correct UPLOADS_S3_BUCKET"),
        ],
        ids=["secret", "key", "bucket"],
    )
    def test_what_is_set_wrongly_is_named_as_the_variable(
        self, server: Servant, doctor: Doctor, settings: dict[str, str], variable: str
    ) -> None:
        with Door(server) as door:
            said = the_one(doctor(door.settings(**settings)), "save")
        assert said.endswith(f"correct {variable}" if variable.startswith("UPLOADS") else variable)
        assert door.left() == []

    def test_a_bucket_that_was_deleted_is_said_to_be_gone(self, server: Servant, doctor: Doctor) -> None:
        bucket, client = f"gone-{uuid.uuid4().hex}", server.client()
        client.create_bucket(Bucket=bucket)
        client.delete_bucket(Bucket=bucket)
        with Door(server, bucket=bucket) as door:
            assert "there is no such bucket" in the_one(doctor(door.settings()), "save")

    def test_a_bucket_whose_rule_names_one_origin_keeps_pages_from_reading(
        self, server: Servant, doctor: Doctor
    ) -> None:
        bucket = server.new_bucket()
        rules = [{"AllowedOrigins": ["https://one.example"], "AllowedMethods": ["GET", "HEAD"]}]
        server.client().put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
        with Door(server, bucket=bucket) as door:
            said = the_one(doctor(door.settings()), "cors", "warning")
            asked = [request.headers["Origin"] for request in door.requests if "Origin" in request.headers]
        assert (asked, door.left()) == (["null"], [])
        assert said.endswith("-> flask uploads setup s3 --apply")
        server.made_by_setup(bucket)
        assert troubles(doctor(door_settings(server, bucket))) == {}

    def test_a_bucket_without_a_rule_that_sweeps_is_told(self, server: Servant, doctor: Doctor) -> None:
        bucket = server.new_bucket()
        server.client().delete_bucket_lifecycle(Bucket=bucket)
        with Door(server, bucket=bucket) as door:
            said = the_one(doctor(door.settings()), "lifecycle", "warning")
        assert said.endswith("-> flask uploads setup s3 --apply")
        assert door.left() == []

    def test_a_bucket_that_anybody_may_list_is_a_failure(self, server: Servant, doctor: Doctor) -> None:
        bucket = server.new_bucket()
        allow(server, bucket, "s3:ListBucket", f"arn:aws:s3:::{bucket}")
        until(lambda: anonymous(f"{server.url}/{bucket}?list-type=2") == 200)
        with Door(server, bucket=bucket) as door:
            said = the_one(doctor(door.settings()), "listing")
        assert said.startswith("Anybody can list the bucket")
        assert door.left() == []

    def test_a_bucket_that_anybody_may_read_is_a_failure(self, server: Servant, doctor: Doctor) -> None:
        """Its wrong signatures are refused all the same: it is asked without any."""
        bucket = server.new_bucket()
        server.client().put_object(Bucket=bucket, Key="uploads/a.txt", Body=b"x")
        allow(server, bucket, "s3:GetObject", f"arn:aws:s3:::{bucket}/*")
        until(lambda: anonymous(f"{server.url}/{bucket}/uploads/a.txt") == 200)
        with Door(server, bucket=bucket) as door:
            assert "make the bucket or the files private" in the_one(doctor(door.settings()), "tampering")
        assert door.left() == []

    def test_a_service_that_takes_any_signature_is_a_failure(self, server: Servant, doctor: Doctor) -> None:
        """It answers what was asked by link with what it found for the first link."""
        first: list[tuple[int, bytes]] = []

        def lenient(status: int, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
            first.append((status, body))
            return (*first[0], headers) if status == 403 else (status, body, headers)

        script = where(of("GET", by_link), changed(forward(server.url), lenient), forward(server.url))
        with Door(server, script) as door:
            said = the_one(doctor(door.settings()), "tampering")
        assert said.startswith("A link with an altered signature still gives the file: it is public")
        assert door.left() == []

    def test_another_store_than_the_one_of_the_environment_is_a_failure(self, server: Servant, doctor: Doctor) -> None:
        with Door(server) as door:
            said = the_one(doctor(door.settings(UPLOADS_STORE_ID="20260101T000000Z-01234567")), "store")
        assert said.startswith("ANOTHER STORE. The store 20260101T000000Z-01234567 ")
        assert door.left() == []

    def test_a_marker_that_cannot_be_read_is_a_failure(self, server: Servant, doctor: Doctor) -> None:
        bucket = server.new_bucket()
        server.client().put_object(Bucket=bucket, Key="uploads/.uploads/store.json", Body=b"{}")
        with Door(server, bucket=bucket) as door:
            assert "delete it" in the_one(doctor(door.settings()), "store")
        assert door.left() == []

    def test_a_file_that_is_still_there_after_its_deletion_is_told(self, server: Servant, doctor: Doctor) -> None:
        with Door(server, where(of("DELETE", by_key), answer(204), forward(server.url))) as door:
            said = the_one(doctor(door.settings()), "delete")
            (left,) = door.left()
        assert left.removeprefix("uploads/") in said
        server.client().delete_object(Bucket=door.bucket, Key=left)

    @pytest.mark.parametrize(
        "late",
        [
            pytest.param(True, id="it came after the deletion"),
            pytest.param(
                False,
                id="the deletion is refused",
            ),
        ],
    )
    def test_a_save_in_doubt_that_leaves_the_file_says_so(
        self, server: Servant, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, late: bool
    ) -> None:
        monkeypatch.setattr(online, "_STEP", 1.0)

        def arrives_late(exchange: Exchange) -> None:
            time.sleep(1.5)
            forward(server.url)(exchange)

        saves, deletes = of("PUT", by_key), of("DELETE", by_key)
        lost_twice = where(saves, forward(server.url, lose_answer=True), forward(server.url))
        refused = where(deletes, answer(403, "AccessDenied"), lost_twice)
        with Door(server, where(saves, arrives_late, forward(server.url)) if late else refused) as door:
            said = the_one(doctor(door.settings()), "save")
            until(lambda: len(door.left()) > 0)
            (left,) = set(door.left())
        server.client().delete_object(Bucket=door.bucket, Key=left)
        assert left.removeprefix("uploads/") in said

    def test_a_rule_that_deletes_uploads_is_the_headline(self, server: Servant, doctor: Doctor) -> None:
        bucket = server.new_bucket()
        rule = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
        rules = {"Rules": [rule]}
        server.client().put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rules)
        report = doctor(door_settings(server, bucket))
        assert "'tidy' deletes uploads by their age -> remove that rule" in the_one(report, "lifecycle")
        assert report["headline"].startswith("UPLOADS WILL BE LOST. ")

    def test_an_endpoint_of_browsers_that_is_not_reached_from_here_is_one_warning(
        self, server: Servant, doctor: Doctor
    ) -> None:
        elsewhere = {"UPLOADS_S3_PUBLIC_ENDPOINT_URL": f"http://127.0.0.1:{free_ports(1)[0]}"}
        said = the_one(doctor({**door_settings(server, server.bucket), **elsewhere}), "link", "warning")
        assert "UPLOADS_S3_PUBLIC_ENDPOINT_URL" in said


def door_settings(server: Servant, bucket: str) -> dict[str, str]:
    return server.environment(UPLOADS_S3_BUCKET=bucket)


def allow(server: Servant, bucket: str, action: str, resource: str, effect: str = "Allow") -> None:
    """A policy of the bucket, for everybody."""
    statement = {"Effect": effect, "Principal": "*", "Action": action, "Resource": resource}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    server.client().put_bucket_policy(Bucket=bucket, Policy=policy)


def deny(server: Servant, bucket: str, action: str) -> None:
    allow(server, bucket, action, f"arn:aws:s3:::{bucket}/*", "Deny")
    until(lambda: code_of(lambda: server.client().delete_object(Bucket=bucket, Key="none")) == "AccessDenied")


def anonymous(url: str) -> int:
    try:
        with urlopen(url) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code


# -- Cloudinary and ImageKit


@pytest.fixture
def cloudinary() -> Iterator[FakeCloudinary]:
    with FakeCloudinary() as fake:
        fake.add()
        yield fake


@pytest.fixture
def imagekit() -> Iterator[FakeImageKit]:
    with FakeImageKit() as fake:
        fake.add()
        yield fake


Service = FakeCloudinary | FakeImageKit


@pytest.fixture(params=["cloudinary", "imagekit"])
def service(request: pytest.FixtureRequest) -> Service:
    fake: Service = request.getfixturevalue(request.param)
    return fake


def settings_for(service: Service, **more: str) -> dict[str, str]:
    if isinstance(service, FakeCloudinary):
        return {
            "UPLOADS_CLOUDINARY_URL": "cloudinary://key:secret@demo",
            "UPLOADS_CLOUDINARY_UPLOAD_PREFIX": service.url,
            "UPLOADS_PUBLIC_URL": f"{service.url}/demo",
            **more,
        }
    return {
        "UPLOADS_IMAGEKIT_PRIVATE_KEY": "private_x",
        "UPLOADS_IMAGEKIT_URL_ENDPOINT": f"{service.url}/ik/demo",
        "UPLOADS_IMAGEKIT_BASE_URL": service.url,
        **more,
    }


def private(service: Service) -> dict[str, str]:
    kind = "CLOUDINARY" if isinstance(service, FakeCloudinary) else "IMAGEKIT"
    return settings_for(service, **{f"UPLOADS_{kind}_PRIVATE": "true"})


def kept(service: Service) -> list[object]:
    if isinstance(service, FakeCloudinary):
        return [*service.accounts["demo"].assets]
    return [*service.accounts["demo"].files]


def sent(service: Service) -> int:
    """How many uploads came in."""
    return sum(request.method == "POST" and request.path.endswith("/upload") for request in service.requests)


class TestOtherServices:
    def test_public_links_are_checked_without_a_signature_to_tamper_with(
        self, service: Service, doctor: Doctor
    ) -> None:
        report = doctor(settings_for(service))
        assert troubles(report) == {}
        bucket_only = {"region", "tampering", "listing", "lifecycle"}
        assert {check["name"] for check in report["checks"]} >= set(ONLINE) - bucket_only
        assert not {check["name"] for check in report["checks"]} & bucket_only
        assert (sent(service), kept(service)) == (1, [])

    def test_private_links_are_refused_after_tampering(self, service: Service, doctor: Doctor) -> None:
        report = doctor(private(service))
        checks = {check["name"]: check for check in report["checks"]}
        assert checks["tampering"]["seen"] == "An altered link is refused"
        assert report["failures"] == 0
        assert (sent(service), kept(service)) == (1, [])

    def test_a_private_cloud_is_not_told_to_set_what_it_cannot(
        self, cloudinary: FakeCloudinary, doctor: Doctor
    ) -> None:
        assert "origin *" not in json.dumps(troubles(doctor(private(cloudinary))))

    def test_a_private_file_that_is_open_to_all_is_told(
        self, imagekit: FakeImageKit, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(imagekit, "_is_signed", lambda *_: True)
        assert "the file: it is public" in the_one(doctor(private(imagekit)), "tampering")

    def test_a_wrong_secret_names_the_credentials(self, service: Service, doctor: Doctor) -> None:
        wrong = {
            "UPLOADS_CLOUDINARY_URL": "cloudinary://key:a-wrong-secret@demo",
            "UPLOADS_IMAGEKIT_PRIVATE_KEY": "a-wrong-secret",
        }
        settings = {name: wrong.get(name, value) for name, value in settings_for(service).items()}
        assert re.search(
            r"correct the (cloud name, the API key and the API secret|private key)$", the_one(doctor(settings), "save")
        )
        assert kept(service) == []

    def test_a_refused_save_is_a_failure_of_that_check(self, service: Service, doctor: Doctor) -> None:
        service.fail(status(403, "not for you"), on="POST")
        the_one(doctor(settings_for(service)), "save")
        assert kept(service) == []

    def test_a_file_that_is_too_large_for_the_plan_is_told(self, service: Service, doctor: Doctor) -> None:
        limits = service.accounts["demo"].max_bytes
        limits.update(dict.fromkeys(limits, 1))
        assert "too large" in the_one(doctor(settings_for(service)), "save")

    def test_a_lost_answer_leaves_nothing(self, service: Service, doctor: Doctor) -> None:
        service.fail(lost, on="POST", times=2)
        the_one(doctor(settings_for(service)), "save")
        assert kept(service) == []

    def test_a_delete_that_is_refused_leaves_the_file_and_says_so(self, service: Service, doctor: Doctor) -> None:
        service.fail(status(403), on="/destroy" if isinstance(service, FakeCloudinary) else "DELETE")
        said = the_one(doctor(settings_for(service)), "delete")
        assert re.search(r"\.uploads/doctor-[0-9a-f]{16}\.txt is left there", said)
        assert len(kept(service)) == 1

    def test_a_delivery_that_is_broken_is_a_failure_of_the_link(self, service: Service, doctor: Doctor) -> None:
        where_from = {
            "UPLOADS_PUBLIC_URL": f"{service.url}/other",
            "UPLOADS_IMAGEKIT_URL_ENDPOINT": f"{service.url}/ik/other",
        }
        settings = {name: where_from.get(name, value) for name, value in settings_for(service).items()}
        report = doctor(settings)
        first = next(name for name, check in troubles(report).items() if check["verdict"] == "failure")
        assert first in {"link", "read"}
        assert kept(service) == []

    def test_a_file_that_the_search_does_not_find_yet_is_no_failure(
        self, imagekit: FakeImageKit, doctor: Doctor
    ) -> None:
        """ImageKit documents that its search lags behind what is stored."""
        imagekit.accounts["demo"].index_delay = 1.5
        assert doctor(settings_for(imagekit))["failures"] == 0
        assert kept(imagekit) == []

    def test_an_app_on_a_disk_is_checked_and_no_folder_is_made(self, doctor: Doctor, tmp_path: Path) -> None:
        report = doctor({"UPLOADS_DIR": str(tmp_path / "disk" / "deep")})
        assert troubles(report) == {}
        assert {"save", "stat", "read", "missing file", "delete"} <= {check["name"] for check in report["checks"]}
        assert [*tmp_path.rglob("*")] == []


# -- third parties' backends


class Odd(Backend):
    """Raises what no backend may, in the method that :attr:`where` names."""

    name = "odd"
    where = ""
    files: ClassVar[dict[str, bytes]] = {}

    def _maybe(self, method: str) -> None:
        if method == Odd.where:
            raise RuntimeError("odd: a-wrong-secret")

    def save(self, key: str, stream: IO[bytes], **_: Any) -> str:
        Odd.files[key] = stream.read()
        self._maybe("save")
        return hashlib.sha256(Odd.files[key]).hexdigest()

    def open(self, key: str) -> IO[bytes]:
        self._maybe("open")
        return BytesIO(Odd.files[key])

    def stat(self, key: str) -> Stat | None:
        self._maybe("stat")
        return Stat(key, len(Odd.files[key]), datetime.now(timezone.utc)) if key in Odd.files else None

    def delete(self, key: str) -> None:
        self._maybe("delete")
        Odd.files.pop(key, None)

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        self._maybe("entries")
        return iter(())

    def url(self, key: str, **_: Any) -> str | None:
        self._maybe("url")
        return None

    def filesystem_path(self, key: str) -> Path | None:
        self._maybe("filesystem_path")
        return None


class TestThirdParties:
    @pytest.fixture(autouse=True)
    def _anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Odd, "files", {})

    def test_one_that_keeps_its_promises_has_no_failure(self, doctor: Doctor) -> None:
        report = doctor({"UPLOADS_BACKEND": f"{__name__}:Odd"})
        assert report["failures"] == 0
        assert Odd.files == {}

    @pytest.mark.parametrize(
        ("method", "check"),
        [("save", "save"), ("stat", "stat"), ("open", "read"), ("delete", "delete"), ("url", "service")],
    )
    def test_whatever_it_raises_is_a_finding_and_no_traceback(
        self, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, method: str, check: str
    ) -> None:
        monkeypatch.setattr(Odd, "where", method)
        report = doctor({"UPLOADS_BACKEND": f"{__name__}:Odd"})
        assert check in troubles(report)
        assert len(Odd.files) == (method == "delete")

    def test_what_it_does_not_delete_is_told(self, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Odd, "where", "delete")
        said = troubles(doctor({"UPLOADS_BACKEND": f"{__name__}:Odd"}))["delete"]["seen"]
        (left,) = Odd.files
        assert left in said


# -- time, and interruption


class Run(NamedTuple):
    output: str
    code: int
    seconds: float


def start(environment: Mapping[str, str], folder: Path) -> subprocess.Popen[str]:
    """``flask uploads doctor`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "tests.system.app", "uploads", "doctor"],
        cwd=folder,
        env=clean_environment(PYTHONPATH=str(ROOT), COLUMNS="100", **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def timed(environment: Mapping[str, str], folder: Path) -> Run:
    begun = time.monotonic()
    process = start(environment, folder)
    try:
        process.wait(12)
    except subprocess.TimeoutExpired:
        process.kill()  # more than that is too long anyhow
    output, _ = process.communicate()
    seconds = time.monotonic() - begun
    assert [secret for secret in SECRETS if secret in output] == []
    assert "Traceback" not in output
    return Run(output, process.returncode, seconds)


def a_byte_a_second(exchange: Exchange) -> None:
    exchange.receive()
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":
        exchange.wfile.write(bytes([byte]))
        if exchange.server.owner.stopping.wait(1):
            return


@contextlib.contextmanager
def dead(kind: str, server: Servant) -> Iterator[str]:
    """An endpoint that is of no use."""
    with contextlib.ExitStack() as stack:
        if kind == "refuses":
            yield f"http://127.0.0.1:{free_ports(1)[0]}"
        elif kind == "has no address":
            yield "http://s3.nowhere.invalid"
        elif kind == "never answers":
            yield stack.enter_context(silent_server())
        elif kind == "sends a byte a second":
            yield stack.enter_context(ScriptedS3(a_byte_a_second)).url
        else:
            script = where(by_key, silent, forward(server.url))
            yield stack.enter_context(ScriptedS3(script)).url


DEAD = ("refuses", "has no address", "never answers", "sends a byte a second", "answers who has no key alone")


@pytest.fixture(scope="module")
def ends(server: Servant, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Run]:
    """How doctor ends on each that is dead; side by side, as most of the time is waiting."""
    folder = tmp_path_factory.mktemp("time")
    with (
        contextlib.ExitStack() as stack,
        FakeCloudinary() as cloudinary,
        FakeImageKit() as imagekit,
        silent_server() as nowhere,
        ThreadPoolExecutor(8) as pool,
    ):
        cloudinary.add()
        imagekit.add()
        addresses = {kind: stack.enter_context(dead(kind, server)) for kind in DEAD}
        cases = {kind: server.environment(UPLOADS_S3_ENDPOINT_URL=url) for kind, url in addresses.items()}
        browsers = {"UPLOADS_S3_BUCKET": server.bucket, "UPLOADS_S3_PUBLIC_ENDPOINT_URL": nowhere}
        cases["browsers' endpoint"] = server.environment(**browsers)
        cases["cloudinary"] = settings_for(cloudinary, UPLOADS_CLOUDINARY_UPLOAD_PREFIX=nowhere)
        cases["imagekit"] = settings_for(imagekit, UPLOADS_IMAGEKIT_BASE_URL=nowhere)
        runs = {}
        for kind, environment in cases.items():
            runs[kind] = pool.submit(timed, environment, folder)
            time.sleep(0.5)  # none waits for the others' start
        return {kind: run.result() for kind, run in runs.items()}


SLOW = (DEAD[-1], "cloudinary", "imagekit")


class TestTime:
    def test_a_bucket_is_checked_in_less_than_three_seconds(self, server: Servant, tmp_path: Path) -> None:
        run = timed(server.environment(UPLOADS_S3_BUCKET=server.bucket), tmp_path)
        assert (run.code, run.output.startswith("Uploads survive: ")) == (0, True)
        assert run.seconds < 3

    @pytest.mark.parametrize("kind", [*DEAD[:-1], *SLOW])
    def test_a_service_that_is_dead_is_told_in_less_than_ten(self, ends: Mapping[str, Run], kind: str) -> None:
        run = ends[kind]
        print(f"{kind}: {run.seconds:.2f} s")
        assert run.code == 1
        assert run.output.startswith("UPLOADS DO NOT WORK. ")
        first = "service" if kind in DEAD[:-1] else "save"
        assert re.findall(r"^failure +(\w+)", run.output, re.MULTILINE) == [first]
        assert run.seconds < 10

    def test_an_endpoint_of_browsers_that_never_answers_takes_less_than_ten(self, ends: Mapping[str, Run]) -> None:
        run = ends["browsers' endpoint"]
        print(f"browsers' endpoint: {run.seconds:.2f} s")
        assert run.output.startswith("Uploads survive: ")
        assert run.seconds < 10


class TestInterruption:
    @pytest.mark.parametrize("at", ["save", "read", "link", "delete"])
    def test_one_that_is_interrupted_leaves_nothing(self, server: Servant, tmp_path: Path, at: str) -> None:
        def stored_without_an_answer(exchange: Exchange) -> None:
            changed(forward(server.url), hold)(exchange)

        def hold(status: int, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
            held.set()
            door.stopping.wait(20)
            return status, body, headers

        held = threading.Event()
        held_up = {
            "save": of("PUT", by_key),
            "read": of("GET", by_key, "doctor-"),
            "link": of("GET", by_link),
            "delete": lambda exchange: of("DELETE", by_key)(exchange) and not held.is_set(),
        }
        script = where(held_up[at], stored_without_an_answer, forward(server.url))
        with Door(server, script) as door:
            process = start(door.settings(), tmp_path)
            try:
                assert held.wait(20)
                process.send_signal(signal.SIGINT)
                output, _ = process.communicate(timeout=10)
            finally:
                stop(process)
            assert (len(door.saved()), door.left()) == (1, [])
        assert process.returncode not in {0, None}
        assert "Traceback" not in output
        assert [secret for secret in SECRETS if secret in output] == []


class TestOutput:
    def test_the_text_names_what_is_wrong_first_and_shows_no_secret(self, server: Servant, make_app: MakeApp) -> None:
        wrong = {**door_settings(server, server.bucket), "UPLOADS_S3_SECRET_ACCESS_KEY": "a-wrong-secret"}
        result = make_app(**wrong).test_cli_runner().invoke(args=["uploads", "doctor"])
        assert result.output.startswith("UPLOADS DO NOT WORK. The store for uploads refused (SignatureDoesNotMatch).")
        assert (
            "\nfailure  save            The store for uploads refused (SignatureDoesNotMatch)\n  -> " in result.output
        )
        assert [secret for secret in SECRETS if secret in result.output] == []

    def test_offline_asks_nobody(self, server: Servant, doctor: Doctor) -> None:
        with Door(server) as door:
            report = doctor(door.settings(), "--offline")
        assert door.requests == []
        assert not {check["name"] for check in report["checks"]} & set(ONLINE)
