"""``flask uploads doctor`` online: each check fails alone, and no file of it is left in any store."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import formatdate
from io import BytesIO
from pathlib import Path
from typing import IO, Any, ClassVar

import pytest
from flask import Flask

from flask_persistent_uploads import Uploads
from flask_persistent_uploads.backends.base import Backend
from flask_persistent_uploads.errors import FileMissing
from flask_persistent_uploads.operations import doctor as examination
from flask_persistent_uploads.operations import trial
from flask_persistent_uploads.operations.checks import FAILURE
from flask_persistent_uploads.stored import Stat

from ...conftest import MakeApp
from ...fakes.cloudinary import FakeCloudinary
from ...fakes.imagekit import FakeImageKit
from ...fakes.scripted import Behaviour, Exchange, ScriptedS3, answer, forward, silent, where
from ...fakes.service import lost, status
from ...servers import ROOT, SECRET_ACCESS_KEY, clean_environment, free_ports, silent_server, stop
from .buckets import (
    LEAST,
    NO_LIST,
    READER,
    WRITER,
    BucketServer,
    Identity,
    Proxy,
    allow,
    alter_a_byte,
    anonymous_status,
    by_key,
    by_link,
    changed,
    delete_by_age,
    forbid_deleting,
    make_public,
    of,
    plain,
    ranged,
    unsigned,
    until,
)
from .cases import Report, assert_consistent

# No output may contain these: secrets, and the parts of a signed link that open a file.
SECRETS = (
    SECRET_ACCESS_KEY,
    "a-wrong-secret",
    "a-session-token",
    "private_x",
    "X-Amz-Signature",
    "ik-s=",
    "signature=",
)

Doctor = Callable[..., Report]


@pytest.fixture(scope="module")
def server() -> Iterator[BucketServer]:
    with BucketServer() as server:
        yield server


@pytest.fixture
def doctor(make_app: MakeApp) -> Doctor:
    """``doctor(settings)`` returns the report on an app with these settings, which contains no secret."""

    def examine(settings: Mapping[str, str], *arguments: str) -> Report:
        app = make_app(Uploads(), MAX_CONTENT_LENGTH=1 << 20, **settings)
        result = app.test_cli_runner().invoke(args=["uploads", "doctor", "--json", *arguments])
        assert isinstance(result.exception, (SystemExit, type(None))), result.exception
        assert [secret for secret in SECRETS if secret in result.output] == []
        report = Report(json.loads(result.stdout), result.exit_code)
        assert report.code == (1 if report.content["failures"] else 0)
        assert_consistent(report)
        return report

    return examine


def the_one(report: Report, name: str, verdict: str = "failure") -> str:
    """Return the message and the remedy of the only check that is a failure or a warning."""
    assert report.troubles == {name: verdict}, report.content["checks"]
    return said(report, name)


def said(report: Report, name: str) -> str:
    check = report.check(name)
    assert check["seen"].endswith(".")
    return f"{check['seen']} -> {check['remedy']}"


#: The online checks of a bucket, in the order in which they run.
ONLINE = (
    "service",
    "region",
    "listing",
    "clock skew",
    "access",
    "lifecycle",
    "save",
    "stat",
    "missing file",
    "read",
    "link",
    "link by head",
    "link by range",
    "tampering",
    "cors",
    "delete",
    "store",
)


# -- what goes wrong


def without_range(real: Behaviour) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        del exchange.headers["Range"]
        real(exchange)

    return behave


def at_another_time(real: Behaviour, seconds: int) -> Behaviour:
    """Answer with a clock that is ahead by so many seconds."""

    def behave(exchange: Exchange) -> None:
        date = formatdate(time.time() + seconds, usegmt=True)
        exchange.date_time_string = lambda timestamp=None: date  # type: ignore[method-assign]
        real(exchange)

    return behave


def then_gone(server: BucketServer, bucket: str = BucketServer.bucket) -> Behaviour:
    """Store a file, and delete it at once."""

    def behave(exchange: Exchange) -> None:
        def gone(status: int, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
            server.client().delete_object(Bucket=bucket, Key=exchange.path.removeprefix(f"/{bucket}/"))
            return status, body, headers

        changed(forward(server.url), gone)(exchange)

    return behave


@dataclass(frozen=True)
class Break:
    """What a proxy does with some requests, and the check that reports it with this text."""

    check: str
    verdict: str
    matches: Callable[[Exchange], bool]
    behaviour: Callable[[BucketServer], Behaviour]
    says: str


#: The checks that are left out if a check fails, because they need it.
HIDES: dict[str, set[str]] = {
    "delete": set(),
    "tampering": set(),
    "store": set(),
    "missing file": set(),
    "listing": set(),
    "read": set(),
    "link by head": set(),
    "link by range": set(),
    "lifecycle": set(),
    "cors": set(),
    "link": {"link by head", "link by range", "tampering", "cors"},
}
HIDES["stat"] = {"missing file", "read", "link"} | HIDES["link"]
HIDES["save"] = {"stat", "delete"} | HIDES["stat"]
HIDES["access"] = {"save", "lifecycle", "store"} | HIDES["save"]
HIDES["clock skew"] = HIDES["region"] = {"access"} | HIDES["access"]
HIDES["service"] = {"clock skew", "region", "listing"} | HIDES["clock skew"]


def assert_hides_only_what_needs_it(report: Report, check: str) -> None:
    """Assert that exactly the checks that need the failing one are left out."""
    silent = {"region"} if check != "region" else set()  # this server does not tell the region
    assert set(report.verdicts) & set(ONLINE) == set(ONLINE) - HIDES[check] - silent


BREAKS = {
    "clock behind": Break(
        "clock skew",
        "failure",
        of("HEAD", unsigned),
        lambda server: at_another_time(forward(server.url), 1200),
        r"The clock is 1(199|200|201) s behind the clock of the service\. -> Set the clock of this machine \(NTP\)\.",
    ),
    "clock ahead": Break(
        "clock skew",
        "failure",
        of("HEAD", unsigned),
        lambda server: at_another_time(forward(server.url), -1200),
        r"The clock is 1(199|200|201) s ahead of",
    ),
    "clock a little wrong": Break(
        "clock skew",
        "warning",
        of("HEAD", unsigned),
        lambda server: at_another_time(forward(server.url), 300),
        r"The clock is (299|300|301) s behind",
    ),
    "other region": Break(
        "region",
        "failure",
        of("HEAD", unsigned),
        lambda server: answer(301, x_amz_bucket_region="eu-west-3"),
        "The bucket is in the region eu-west-3, not us-east-1. -> UPLOADS_S3_REGION=eu-west-3$",
    ),
    "unknown key": Break(
        "access",
        "failure",
        by_key,
        lambda server: answer(403, "InvalidAccessKeyId"),
        "Correct UPLOADS_S3_ACCESS_KEY_ID.$",
    ),
    "invalid token": Break(
        "access", "failure", by_key, lambda server: answer(400, "InvalidToken"), "Correct UPLOADS_S3_SESSION_TOKEN.$"
    ),
    "expired token": Break(
        "access", "failure", by_key, lambda server: answer(400, "ExpiredToken"), "Renew UPLOADS_S3_SESSION_TOKEN"
    ),
    "full": Break(
        "save",
        "failure",
        of("PUT", by_key),
        lambda server: answer(507, "InsufficientStorage"),
        "full.* -> Delete files",
    ),
    "busy": Break(
        "save",
        "failure",
        of("PUT", by_key),
        lambda server: answer(503, "SlowDown"),
        r"not available .* -> Try again, and see the status page of the service\.$",
    ),
    "altered on its way in": Break(
        "save", "failure", of("PUT", by_key), lambda server: forward(server.url, flip=True), "altered on its way"
    ),
    "gone at once": Break("stat", "failure", of("PUT", by_key), then_gone, "does not know the file"),
    "read altered": Break(
        "read",
        "failure",
        of("GET", by_key, "doctor-"),
        lambda server: changed(forward(server.url), alter_a_byte),
        "The file that is read back is not the file that was saved.",
    ),
    "link refused": Break(
        "link",
        "failure",
        lambda exchange: of("GET", by_link)(exchange) and plain(exchange),
        lambda server: answer(403, "SignatureDoesNotMatch"),
        "The direct url answers 403 to GET, not 200.",
    ),
    "link altered": Break(
        "link",
        "failure",
        lambda exchange: of("GET", by_link)(exchange) and plain(exchange),
        lambda server: changed(forward(server.url), alter_a_byte),
        "The direct url returns other bytes than were saved.",
    ),
    "link moved": Break(
        "link",
        "failure",
        of("GET", by_link),
        lambda server: answer(302, Location="/elsewhere"),
        "The direct url answers 302 to GET, not 200.",
    ),
    "no HEAD": Break(
        "link by head",
        "failure",
        of("HEAD", by_link),
        lambda server: answer(403),
        "The direct url answers 403 to HEAD, not 200.",
    ),
    "Range ignored": Break(
        "link by range",
        "failure",
        lambda exchange: by_link(exchange) and ranged(exchange),
        lambda server: without_range(forward(server.url)),
        "The direct url answers 200 to GET, not 206.",
    ),
    "Range altered": Break(
        "link by range",
        "failure",
        lambda exchange: by_link(exchange) and ranged(exchange),
        lambda server: changed(forward(server.url), alter_a_byte),
        "other bytes",
    ),
    "delete refused": Break(
        "delete",
        "failure",
        of("DELETE", by_key),
        lambda server: answer(403, "AccessDenied"),
        r"The permission s3:DeleteObject is missing\. -> Allow s3:DeleteObject on arn:aws:s3:::proof/uploads/\*\.\n"
        r"The file uploads/\.uploads/doctor-[0-9a-f]{16}\.txt may be left in the store\. Delete it\.$",
    ),
}

#: Breaks with which uploads work all the same.
WORKING = {"delete", "link by head", "link by range"}


class TestOneThingIsWrongWithABucket:
    """The report names this one thing and nothing else."""

    def test_a_bucket_that_setup_created_is_healthy(self, server: BucketServer, doctor: Doctor) -> None:
        with Proxy(server) as proxy:
            report = doctor(proxy.settings())
        checks = [name for name in report.verdicts if name in ONLINE]
        assert report.troubles == {}
        assert report.headline == "Uploads survive. Files are kept in s3, not on the disk of the app."
        assert checks == [name for name in ONLINE if name != "region"], "this server does not tell the region"
        assert (len(proxy.saved()), proxy.left()) == (1, [])

    def test_the_region_is_compared_if_the_service_tells_it(self, server: BucketServer, doctor: Doctor) -> None:
        told = answer(403, x_amz_bucket_region="us-east-1")
        with Proxy(server, where(of("HEAD", unsigned), told, forward(server.url))) as proxy:
            report = doctor(proxy.settings())
        assert report.check("region") == {
            "name": "region",
            "verdict": "ok",
            "seen": "The bucket is in the region us-east-1.",
            "remedy": None,
            "setting": None,
            "details": [],
        }
        assert report.troubles == {}

    @pytest.mark.parametrize("name", BREAKS)
    def test_a_break_is_reported_by_its_check_and_hides_only_what_needs_it(
        self, server: BucketServer, doctor: Doctor, name: str
    ) -> None:
        broken = BREAKS[name]
        with Proxy(server, where(broken.matches, broken.behaviour(server), forward(server.url))) as proxy:
            report = doctor(proxy.settings())
        assert re.search(broken.says, the_one(report, broken.check, broken.verdict))
        works = broken.verdict == "warning" or broken.check in WORKING
        assert report.headline.startswith("Uploads survive. " if works else "UPLOADS DO NOT WORK. ")
        assert report.survives is (True if works else None)
        if broken.verdict == "failure":
            assert_hides_only_what_needs_it(report, broken.check)
        stays = proxy.saved() if broken.check == "delete" else []
        assert proxy.left() == stays
        for left in stays:
            server.client().delete_object(Bucket=proxy.bucket, Key=left)

    @pytest.mark.parametrize(
        ("identity", "check", "says"),
        [
            (
                READER,
                "save",
                r"s3:PutObject is missing\. -> Allow .* on arn:aws:s3:::proof/uploads/\*\.$",
            ),
            (
                WRITER,
                "stat",
                r"s3:GetObject is missing\. -> Allow .* on arn:aws:s3:::proof/uploads/\*\.$",
            ),
            (
                NO_LIST,
                "missing file",
                r"The permission s3:ListBucket is missing\. -> "
                r"Allow s3:ListBucket on arn:aws:s3:::proof \(the bucket itself, not arn:aws:s3:::proof/\*\)\.",
            ),
        ],
        ids=["save", "read", "list"],
    )
    def test_a_missing_permission_is_named(
        self, server: BucketServer, doctor: Doctor, identity: Identity, check: str, says: str
    ) -> None:
        with Proxy(server) as proxy:
            report = doctor(proxy.settings(**identity.keys))
        assert re.search(says, the_one(report, check))
        assert_hides_only_what_needs_it(report, check)
        assert proxy.left() == []

    def test_the_code_of_the_service_and_not_its_text_tells_a_missing_permission(
        self, server: BucketServer, doctor: Doctor
    ) -> None:
        refused = where(of("PUT", by_key), answer(403, "AllAccessDisabled"), forward(server.url))
        with Proxy(server, refused) as proxy:
            said = the_one(doctor(proxy.settings()), "save")
        assert "permission" not in said
        assert "The account is disabled." in said

    def test_a_policy_that_forbids_deleting_leaves_the_file_and_says_so(
        self, server: BucketServer, doctor: Doctor
    ) -> None:
        bucket, client = server.new_bucket(), server.client()
        forbid_deleting(server, bucket)
        with Proxy(server, bucket=bucket) as proxy:
            said = the_one(doctor(proxy.settings(UPLOADS_S3_BUCKET=bucket)), "delete")
            (left,) = proxy.left()
        assert said.startswith("The permission s3:DeleteObject is missing.")
        assert f"The file {left} may be left in the store." in said
        client.delete_bucket_policy(Bucket=bucket)

    def test_the_smallest_policy_that_setup_prints_is_enough(self, server: BucketServer, doctor: Doctor) -> None:
        with Proxy(server) as proxy:
            report = doctor(proxy.settings(**LEAST.keys))
        assert report.troubles == {}
        assert [name for name, verdict in report.verdicts.items() if verdict == "skipped"] == ["lifecycle"]
        assert proxy.left() == []

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"UPLOADS_S3_SECRET_ACCESS_KEY": "a-wrong-secret"}, "Correct UPLOADS_S3_SECRET_ACCESS_KEY."),
            ({"UPLOADS_S3_ACCESS_KEY_ID": "nobody"}, "Correct UPLOADS_S3_ACCESS_KEY_ID."),
            ({"UPLOADS_S3_BUCKET": "not-there"}, "Create the bucket, or correct UPLOADS_S3_BUCKET."),
        ],
        ids=["secret", "key", "bucket"],
    )
    def test_a_wrong_setting_is_named(
        self, server: BucketServer, doctor: Doctor, settings: dict[str, str], says: str
    ) -> None:
        with Proxy(server) as proxy:
            report = doctor(proxy.settings(**settings))
        assert the_one(report, "access").endswith(f" -> {says}")
        assert report.check("access")["setting"] == next(iter(settings))
        assert proxy.left() == []

    def test_a_deleted_bucket_is_reported(self, server: BucketServer, doctor: Doctor) -> None:
        bucket, client = f"gone-{uuid.uuid4().hex}", server.client()
        client.create_bucket(Bucket=bucket)
        client.delete_bucket(Bucket=bucket)
        with Proxy(server, bucket=bucket) as proxy:
            assert "There is no such bucket." in the_one(doctor(proxy.settings()), "access")

    def test_a_cors_rule_for_one_origin_is_not_enough(self, server: BucketServer, doctor: Doctor) -> None:
        bucket = server.new_bucket()
        rules = [{"AllowedOrigins": ["https://one.example"], "AllowedMethods": ["GET", "HEAD"]}]
        server.client().put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
        with Proxy(server, bucket=bucket) as proxy:
            said = the_one(doctor(proxy.settings()), "cors", "warning")
            origins = [request.headers["Origin"] for request in proxy.requests if "Origin" in request.headers]
        assert (origins, proxy.left()) == (["null"], [])
        assert said.endswith(" -> Run with the credentials of an administrator: flask uploads setup s3 --apply")
        server.set_up(bucket)
        assert doctor(server.settings(bucket)).troubles == {}

    def test_a_bucket_without_a_cleanup_rule_is_a_warning(self, server: BucketServer, doctor: Doctor) -> None:
        bucket = server.new_bucket()
        server.client().delete_bucket_lifecycle(Bucket=bucket)
        with Proxy(server, bucket=bucket) as proxy:
            said = the_one(doctor(proxy.settings()), "lifecycle", "warning")
        assert said.endswith(" -> Run with the credentials of an administrator: flask uploads setup s3 --apply")
        assert proxy.left() == []

    def test_a_bucket_that_anybody_can_list_is_a_failure(self, server: BucketServer, doctor: Doctor) -> None:
        bucket = server.new_bucket()
        allow(server, bucket, "s3:ListBucket", f"arn:aws:s3:::{bucket}")
        until(lambda: anonymous_status(f"{server.url}/{bucket}?list-type=2") == 200)
        with Proxy(server, bucket=bucket) as proxy:
            report = doctor(proxy.settings())
        assert the_one(report, "listing").startswith("Anybody can list the bucket")
        assert_hides_only_what_needs_it(report, "listing")
        assert proxy.left() == []

    def test_a_web_site_at_the_endpoint_is_not_taken_for_a_public_listing(
        self, server: BucketServer, doctor: Doctor
    ) -> None:
        with Proxy(server, where(by_key, answer(404, "404"), answer(200, body=b"<html>Hello</html>"))) as proxy:
            report = doctor(proxy.settings())
        assert "listing" not in report.troubles

    def test_a_bucket_that_anybody_can_read_is_a_failure(self, server: BucketServer, doctor: Doctor) -> None:
        """The server refuses wrong signatures nevertheless, so a request without any finds out."""
        bucket = server.new_bucket()
        make_public(server, bucket)
        with Proxy(server, bucket=bucket) as proxy:
            report = doctor(proxy.settings())
        assert "Make the bucket or the files private." in the_one(report, "tampering")
        assert_hides_only_what_needs_it(report, "tampering")
        assert proxy.left() == []

    def test_a_public_bucket_does_not_hide_that_it_is_another_store(self, server: BucketServer, doctor: Doctor) -> None:
        bucket = server.new_bucket()
        make_public(server, bucket)
        server.client().delete_bucket_cors(Bucket=bucket)
        delete_by_age(server, bucket)
        report = doctor({**server.settings(bucket), "UPLOADS_STORE_ID": "20260101T000000Z-01234567"})
        failing = {"tampering": "failure", "store": "failure", "lifecycle": "failure", "cors": "warning"}
        assert report.troubles == failing
        assert said(report, "store").startswith("ANOTHER STORE. ")
        assert {"listing", "delete", "missing file"} <= set(report.verdicts)
        server.client().delete_bucket_lifecycle(Bucket=bucket)
        report = doctor({**server.settings(bucket), "UPLOADS_STORE_ID": "20260101T000000Z-01234567"})
        assert report.headline.startswith("ANOTHER STORE. ")

    def test_a_key_that_cannot_write_does_not_hide_that_it_is_another_store(
        self, server: BucketServer, doctor: Doctor
    ) -> None:
        report = doctor(
            {**server.settings(server.bucket), **READER.keys, "UPLOADS_STORE_ID": "20260101T000000Z-01234567"}
        )
        assert report.troubles == {"save": "failure", "store": "failure"}
        assert said(report, "store").startswith("ANOTHER STORE. ")

    def test_a_service_that_accepts_any_signature_is_a_failure(self, server: BucketServer, doctor: Doctor) -> None:
        """It answers each link with what it found for the first one."""
        first: list[tuple[int, bytes]] = []

        def lenient(status: int, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
            first.append((status, body))
            return (*first[0], headers) if status == 403 else (status, body, headers)

        script = where(of("GET", by_link), changed(forward(server.url), lenient), forward(server.url))
        with Proxy(server, script) as proxy:
            said = the_one(doctor(proxy.settings()), "tampering")
        assert said.startswith("A link with an altered signature still returns the file, so the file is public.")
        assert proxy.left() == []

    def test_a_store_other_than_the_expected_one_is_a_failure(self, server: BucketServer, doctor: Doctor) -> None:
        with Proxy(server) as proxy:
            report = doctor(proxy.settings(UPLOADS_STORE_ID="20260101T000000Z-01234567"))
        said = the_one(report, "store")
        assert said.startswith("ANOTHER STORE. The app expects the store 20260101T000000Z-01234567 ")
        assert report.headline.startswith("ANOTHER STORE. ")
        assert_hides_only_what_needs_it(report, "store")
        assert proxy.left() == []

    def test_a_marker_that_cannot_be_read_is_a_failure(self, server: BucketServer, doctor: Doctor) -> None:
        bucket = server.new_bucket()
        server.client().put_object(Bucket=bucket, Key="uploads/.uploads/store.json", Body=b"{}")
        with Proxy(server, bucket=bucket) as proxy:
            assert "Delete it" in the_one(doctor(proxy.settings()), "store")
        assert proxy.left() == []

    def test_a_marker_that_the_key_cannot_look_for_is_no_second_failure(
        self, server: BucketServer, doctor: Doctor
    ) -> None:
        """Without s3:ListBucket, S3 answers 403 for a marker that does not exist."""
        bucket = server.new_bucket()
        server.client().delete_object(Bucket=bucket, Key="uploads/.uploads/store.json")
        no_marker = where(
            lambda exchange: "store.json" in exchange.path, answer(403, "AccessDenied"), forward(server.url)
        )
        with Proxy(server, no_marker, bucket) as proxy:
            report = doctor(proxy.settings())
        assert report.troubles == {}
        assert report.check("store")["verdict"] == "skipped"

    def test_a_file_that_still_exists_after_its_deletion_is_reported(
        self, server: BucketServer, doctor: Doctor
    ) -> None:
        with Proxy(server, where(of("DELETE", by_key), answer(204), forward(server.url))) as proxy:
            said = the_one(doctor(proxy.settings()), "delete")
            (left,) = proxy.left()
        assert left in said
        server.client().delete_object(Bucket=proxy.bucket, Key=left)

    @pytest.mark.parametrize("late", [True, False], ids=["it arrives after the deletion", "the deletion is refused"])
    def test_a_save_in_doubt_that_leaves_the_file_says_so(
        self, server: BucketServer, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, late: bool
    ) -> None:
        monkeypatch.setattr(trial, "CALL_SECONDS", 3.0)

        def arrives_late(exchange: Exchange) -> None:
            time.sleep(4.0)
            forward(server.url)(exchange)

        saves, deletes = of("PUT", by_key), of("DELETE", by_key)
        lost_twice = where(saves, forward(server.url, lose_answer=True), forward(server.url))
        refused = where(deletes, answer(403, "AccessDenied"), lost_twice)
        with Proxy(server, where(saves, arrives_late, forward(server.url)) if late else refused) as proxy:
            said = the_one(doctor(proxy.settings()), "save")
            until(lambda: len(proxy.left()) > 0)
            (left,) = set(proxy.left())
        server.client().delete_object(Bucket=proxy.bucket, Key=left)
        assert f"The file {left} may be left in the store. Delete it." in said

    def test_a_save_that_certainly_stored_nothing_does_not_claim_a_leftover(
        self, server: BucketServer, doctor: Doctor
    ) -> None:
        with Proxy(server, where(of("PUT", by_key), answer(403, "AccessDenied"), forward(server.url))) as proxy:
            assert "may be left" not in the_one(doctor(proxy.settings()), "save")

    def test_a_rule_that_deletes_uploads_is_the_headline(self, server: BucketServer, doctor: Doctor) -> None:
        bucket = server.new_bucket()
        delete_by_age(server, bucket)
        report = doctor(server.settings(bucket))
        assert "'tidy' of the bucket deletes uploads by age. -> Remove that rule." in the_one(report, "lifecycle")
        assert report.headline.startswith("UPLOADS WILL BE LOST. ")
        assert report.survives is False
        assert_hides_only_what_needs_it(report, "lifecycle")

    def test_an_endpoint_for_browsers_that_cannot_be_reached_from_here_is_one_warning(
        self, server: BucketServer, doctor: Doctor
    ) -> None:
        elsewhere = {"UPLOADS_S3_PUBLIC_ENDPOINT_URL": f"http://127.0.0.1:{free_ports(1)[0]}"}
        report = doctor({**server.settings(server.bucket), **elsewhere})
        assert "UPLOADS_S3_PUBLIC_ENDPOINT_URL" in the_one(report, "link", "warning")

    def test_a_public_url_on_a_private_bucket_names_that_setting(self, server: BucketServer, doctor: Doctor) -> None:
        public = {"UPLOADS_PUBLIC_URL": f"{server.url}/{server.bucket}"}
        report = doctor({**server.settings(server.bucket), **public})
        said = the_one(report, "link")
        assert said.startswith("The direct url answers 403 to GET, not 200.")
        assert "UPLOADS_PUBLIC_URL" in said
        assert report.check("link")["setting"] == "UPLOADS_PUBLIC_URL"


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
    """Return the settings that choose a fake service."""
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
    """Return the files in the account."""
    if isinstance(service, FakeCloudinary):
        return [*service.accounts["demo"].assets]
    return [*service.accounts["demo"].files]


def sent(service: Service) -> int:
    """Return how many uploads the service received."""
    return sum(request.method == "POST" and request.path.endswith("/upload") for request in service.requests)


class TestOtherServices:
    def test_public_links_have_no_signature_to_tamper_with(self, service: Service, doctor: Doctor) -> None:
        report = doctor(settings_for(service))
        assert report.troubles == {}
        only_buckets = {"region", "tampering", "listing", "lifecycle"}
        assert set(report.verdicts) & set(ONLINE) == set(ONLINE) - only_buckets
        assert (sent(service), kept(service)) == (1, [])

    def test_private_links_with_an_altered_signature_are_refused(self, service: Service, doctor: Doctor) -> None:
        report = doctor(private(service))
        assert report.check("tampering")["seen"] == "A link with an altered signature is refused."
        assert report.content["failures"] == 0
        assert (sent(service), kept(service)) == (1, [])

    def test_a_service_that_is_not_a_bucket_gets_no_advice_for_buckets(self, service: Service, doctor: Doctor) -> None:
        text = json.dumps(doctor(private(service)).content)
        assert not any(word in text for word in ("origin *", "bucket", "s3:", "setup s3"))

    def test_a_private_file_that_anybody_can_read_is_a_failure(
        self, imagekit: FakeImageKit, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(imagekit, "_is_signed", lambda *_: True)
        assert "returns the file, so the file is public." in the_one(doctor(private(imagekit)), "tampering")

    def test_a_wrong_secret_names_the_variables(self, service: Service, doctor: Doctor) -> None:
        wrong = {
            "UPLOADS_CLOUDINARY_URL": "cloudinary://key:a-wrong-secret@demo",
            "UPLOADS_IMAGEKIT_PRIVATE_KEY": "a-wrong-secret",
        }
        settings = {name: wrong.get(name, value) for name, value in settings_for(service).items()}
        (variable,) = wrong.keys() & settings.keys()
        report = doctor(settings)
        assert the_one(report, "access").endswith(f" -> Correct {variable}.")
        assert report.check("access")["setting"] == variable
        assert kept(service) == []

    def test_a_refused_save_is_a_failure_of_that_check(self, service: Service, doctor: Doctor) -> None:
        service.fail(status(403, "not for you"), on="POST")
        the_one(doctor(settings_for(service)), "save")
        assert kept(service) == []

    def test_a_file_that_is_too_large_for_the_plan_is_a_failure(self, service: Service, doctor: Doctor) -> None:
        limits = service.accounts["demo"].max_bytes
        limits.update(dict.fromkeys(limits, 1))
        assert "too large" in the_one(doctor(settings_for(service)), "save")

    def test_a_lost_answer_leaves_no_file(self, service: Service, doctor: Doctor) -> None:
        service.fail(lost, on="POST", times=2)
        the_one(doctor(settings_for(service)), "save")
        assert kept(service) == []

    def test_a_refused_deletion_leaves_the_file_and_says_so(self, service: Service, doctor: Doctor) -> None:
        service.fail(status(403), on="/destroy" if isinstance(service, FakeCloudinary) else "DELETE")
        said = the_one(doctor(settings_for(service)), "delete")
        assert re.search(r"\.uploads/doctor-[0-9a-f]{16}\.txt may be left in the store\. Delete it\.", said)
        assert len(kept(service)) == 1

    def test_a_wrong_address_of_delivery_is_a_failure(self, service: Service, doctor: Doctor) -> None:
        wrong = {
            "UPLOADS_PUBLIC_URL": f"{service.url}/other",
            "UPLOADS_IMAGEKIT_URL_ENDPOINT": f"{service.url}/ik/other",
        }
        settings = {name: wrong.get(name, value) for name, value in settings_for(service).items()}
        report = doctor(settings)
        assert next(name for name, verdict in report.troubles.items() if verdict == "failure") in {"link", "read"}
        assert kept(service) == []

    def test_a_search_index_that_lags_behind_is_not_a_failure(self, imagekit: FakeImageKit, doctor: Doctor) -> None:
        """ImageKit documents that its search index lags behind."""
        imagekit.accounts["demo"].index_delay = 1.5
        assert doctor(settings_for(imagekit)).content["failures"] == 0
        assert kept(imagekit) == []

    def test_a_disk_is_tried_and_no_folder_is_left(self, doctor: Doctor, tmp_path: Path) -> None:
        report = doctor({"UPLOADS_DIR": str(tmp_path / "disk" / "deep")})
        assert report.troubles == {}
        assert {"save", "stat", "read", "missing file", "delete"} <= set(report.verdicts)
        assert [*tmp_path.rglob("*")] == []


# -- backends of other packages


class Odd(Backend):
    """Raises an error that no backend may raise, in the method that :attr:`broken` names."""

    name = "odd"
    broken = ""
    files: ClassVar[dict[str, bytes]] = {}

    def _maybe(self, method: str) -> None:
        if method == Odd.broken:
            raise RuntimeError("odd: a-wrong-secret")

    def save(self, key: str, stream: IO[bytes], **_: Any) -> str:
        Odd.files[key] = stream.read()
        self._maybe("save")
        return hashlib.sha256(Odd.files[key]).hexdigest()

    def open(self, key: str) -> IO[bytes]:
        self._maybe("open")
        if key not in Odd.files:
            raise FileMissing(key)
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


class TestBackendsOfOtherPackages:
    @pytest.fixture(autouse=True)
    def _without_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Odd, "files", {})

    def test_a_backend_that_keeps_the_contract_has_no_failure(self, doctor: Doctor) -> None:
        report = doctor({"UPLOADS_BACKEND": f"{__name__}:Odd"})
        assert report.content["failures"] == 0
        assert Odd.files == {}

    @pytest.mark.parametrize(
        ("method", "check"),
        [("save", "save"), ("stat", "stat"), ("open", "access"), ("delete", "delete"), ("url", "service")],
    )
    def test_any_error_is_a_finding_without_its_text(
        self, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, method: str, check: str
    ) -> None:
        monkeypatch.setattr(Odd, "broken", method)
        report = doctor({"UPLOADS_BACKEND": f"{__name__}:Odd"})
        assert report.check(check)["seen"] == "An unexpected error occurred (RuntimeError)."
        assert len(Odd.files) == (method == "delete")

    def test_a_file_that_it_does_not_delete_is_named(self, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Odd, "broken", "delete")
        remedy = doctor({"UPLOADS_BACKEND": f"{__name__}:Odd"}).check("delete")["remedy"]
        (left,) = Odd.files
        assert left in remedy


# -- time, and interruption


@dataclass(frozen=True)
class Run:
    """The report on an app, and how long doctor took without the start of a process."""

    report: examination.Report
    seconds: float

    @property
    def failing(self) -> list[str]:
        return [name for name, finding in self.report.findings if finding.status == FAILURE]


def start(environment: Mapping[str, str], folder: Path) -> subprocess.Popen[str]:
    """Start ``flask uploads doctor`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "tests.system.app", "uploads", "doctor"],
        cwd=folder,
        env=clean_environment(PYTHONPATH=str(ROOT), COLUMNS="100", **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def timed(settings: Mapping[str, str], folder: Path) -> Run:
    """Examine an app with these settings, in this thread."""
    app = Flask("timed", instance_path=str(folder))
    app.config.update(UPLOADS_PLATFORM="machine", **settings)
    uploads = Uploads(app)
    state = app.extensions["flask_persistent_uploads"][uploads.name].state
    case = examination.Case.of_app(app, state.settings, state.backend, clean_environment())
    begun = time.monotonic()
    report = examination.examine(case)
    seconds = time.monotonic() - begun
    assert [secret for secret in SECRETS if secret in json.dumps(report.as_json())] == []
    return Run(report, seconds)


def a_byte_a_second(exchange: Exchange) -> None:
    exchange.receive()
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":
        exchange.wfile.write(bytes([byte]))
        if exchange.server.owner.stopping.wait(1):
            return


@contextlib.contextmanager
def dead(kind: str, server: BucketServer) -> Iterator[str]:
    """Yield an endpoint that does not work."""
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


DEAD = ("refuses", "has no address", "never answers", "sends a byte a second", "answers only without a key")


@pytest.fixture(scope="module")
def ends(server: BucketServer, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Run]:
    """Run doctor on each dead endpoint, all at the same time, because most of the time is waiting."""
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
        public = {"UPLOADS_S3_BUCKET": server.bucket, "UPLOADS_S3_PUBLIC_ENDPOINT_URL": nowhere}
        cases["endpoint for browsers"] = server.environment(**public)
        cases["cloudinary"] = settings_for(cloudinary, UPLOADS_CLOUDINARY_UPLOAD_PREFIX=nowhere)
        cases["imagekit"] = settings_for(imagekit, UPLOADS_IMAGEKIT_BASE_URL=nowhere)
        runs: dict[str, Future[Run]] = {}
        for kind, environment in cases.items():
            runs[kind] = pool.submit(timed, environment, folder)
        return {kind: run.result() for kind, run in runs.items()}


SLOW = (DEAD[-1], "cloudinary", "imagekit")


class TestTime:
    def test_a_bucket_is_checked_in_less_than_three_seconds(self, server: BucketServer, tmp_path: Path) -> None:
        run = timed(server.settings(server.bucket), tmp_path)
        assert run.report.headline.startswith("Uploads survive. ")
        assert run.seconds < 3

    @pytest.mark.parametrize("kind", [*DEAD[:-1], *SLOW])
    def test_a_dead_service_is_reported_in_less_than_nine_seconds(self, ends: Mapping[str, Run], kind: str) -> None:
        run = ends[kind]
        print(f"{kind}: {run.seconds:.2f} s")
        assert run.report.headline.startswith("UPLOADS DO NOT WORK. ")
        assert run.failing == ["service" if kind in DEAD[:-1] else "access"]
        assert run.seconds < 9

    @pytest.mark.parametrize("kind", DEAD[:-1])
    def test_the_remedy_for_a_dead_service_names_the_endpoint(self, ends: Mapping[str, Run], kind: str) -> None:
        (problem,) = (finding.problem for name, finding in ends[kind].report.findings if name == "service")
        assert problem.remedy.startswith("Correct UPLOADS_S3_ENDPOINT_URL if it is wrong. ")
        assert problem.setting == "UPLOADS_S3_ENDPOINT_URL"

    def test_an_endpoint_for_browsers_that_never_answers_takes_less_than_nine_seconds(
        self, ends: Mapping[str, Run]
    ) -> None:
        run = ends["endpoint for browsers"]
        print(f"endpoint for browsers: {run.seconds:.2f} s")
        assert run.report.headline.startswith("Uploads survive. ")
        assert run.seconds < 9

    def test_the_command_ends_if_the_service_never_answers(self, server: BucketServer, tmp_path: Path) -> None:
        with silent_server() as url:
            process = start(server.environment(UPLOADS_S3_ENDPOINT_URL=url), tmp_path)
            try:
                output, _ = process.communicate(timeout=60)
            finally:
                stop(process)
        assert process.returncode == 1
        assert output.startswith("UPLOADS DO NOT WORK. ")
        assert re.findall(r"^failure +(\w+)", output, re.MULTILINE) == ["service"]
        assert "Traceback" not in output
        assert [secret for secret in SECRETS if secret in output] == []


class TestInterruption:
    @pytest.mark.parametrize("at", ["save", "read", "link", "delete"])
    def test_an_interrupted_run_leaves_no_file(self, server: BucketServer, tmp_path: Path, at: str) -> None:
        def stored_without_an_answer(exchange: Exchange) -> None:
            changed(forward(server.url), hold)(exchange)

        def hold(status: int, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
            held.set()
            proxy.stopping.wait(20)
            return status, body, headers

        held = threading.Event()
        requests = {
            "save": of("PUT", by_key),
            "read": of("GET", by_key, "doctor-"),
            "link": of("GET", by_link),
            "delete": lambda exchange: of("DELETE", by_key)(exchange) and not held.is_set(),
        }
        script = where(requests[at], stored_without_an_answer, forward(server.url))
        with Proxy(server, script) as proxy:
            process = start(proxy.settings(), tmp_path)
            try:
                assert held.wait(20)
                process.send_signal(signal.SIGINT)
                output, _ = process.communicate(timeout=10)
            finally:
                stop(process)
            assert (len(proxy.saved()), proxy.left()) == (1, [])
        assert process.returncode not in {0, None}
        assert "Traceback" not in output
        assert [secret for secret in SECRETS if secret in output] == []


class TestOutput:
    def test_the_text_begins_with_what_is_wrong_and_shows_no_secret(
        self, server: BucketServer, make_app: MakeApp
    ) -> None:
        wrong = {**server.settings(server.bucket), "UPLOADS_S3_SECRET_ACCESS_KEY": "a-wrong-secret"}
        result = make_app(**wrong).test_cli_runner().invoke(args=["uploads", "doctor"])
        assert result.output.startswith("UPLOADS DO NOT WORK. The service refused the request (SignatureDoesNotMatch).")
        assert "\nfailure  access: The service refused the request" in result.output
        assert "\n           -> Correct UPLOADS_S3_SECRET_ACCESS_KEY.\n" in result.output
        assert [secret for secret in SECRETS if secret in result.output] == []

    def test_offline_sends_no_request(self, server: BucketServer, doctor: Doctor) -> None:
        with Proxy(server) as proxy:
            report = doctor(proxy.settings(), "--offline")
        assert proxy.requests == []
        assert not set(report.verdicts) & set(ONLINE)
