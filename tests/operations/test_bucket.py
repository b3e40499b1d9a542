"""How a bucket's rules are read, and which requests set them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_persistent_uploads.backends import read_settings
from flask_persistent_uploads.backends.base import Backend
from flask_persistent_uploads.backends.local import LocalBackend
from flask_persistent_uploads.backends.memory import MemoryBackend
from flask_persistent_uploads.backends.s3 import S3Backend
from flask_persistent_uploads.errors import BackendError
from flask_persistent_uploads.operations import bucket as buckets
from flask_persistent_uploads.operations.bucket import (
    Bucket,
    NotAllowed,
    Rule,
    address_variable,
    allows_scripts,
    has_cleanup,
)

from ..fakes.scripted import ScriptedS3, answer

ABORT = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}
ON: Rule = {"ID": "x", "Status": "Enabled", **ABORT}
TAG = {"Key": "a", "Value": "b"}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (buckets.cleanup_rule("uploads"), True),
        (buckets.cleanup_rule("other"), False),
        ({**ON, "Filter": {}}, True),
        ({**ON, "Filter": {"Prefix": ""}}, True),
        ({**ON, "Filter": {"Prefix": "up"}}, True),
        ({**ON, "Filter": {"Prefix": "uploads"}}, True),
        ({**ON, "Filter": {"Prefix": "uploads/"}}, True),
        ({**ON, "Filter": {"Prefix": "uploads/pictures/"}}, False),
        ({**ON, "Filter": {"Prefix": "uploads-old/"}}, False),
        ({**ON, "Filter": {"Prefix": "logs/"}}, False),
        ({**ON, "Prefix": ""}, True),
        ({**ON, "Prefix": "uploads/"}, True),
        ({**ON, "Prefix": "logs/"}, False),
        (ON, True),
        ({**ON, "Status": "Disabled", "Filter": {}}, False),
        ({**ON, "Filter": {"Tag": TAG}}, False),
        ({**ON, "Filter": {"ObjectSizeGreaterThan": 5}}, False),
        ({**ON, "Filter": {"And": {"Prefix": "uploads/", "Tags": [TAG]}}}, False),
        ({**ON, "Filter": {"And": {"Prefix": "logs/", "Tags": [TAG]}}}, False),
        ({**ON, "Filter": {"And": {"Prefix": "uploads/", "ObjectSizeLessThan": 5}}}, False),
        ({"ID": "x", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 3}}, False),
        ({}, False),
    ],
)
def test_a_cleanup_rule_must_be_enabled_and_cover_the_whole_prefix(rule: Rule, expected: bool) -> None:
    assert has_cleanup([rule], "uploads") is expected
    useless = {"ID": "y", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}
    assert has_cleanup([useless, rule], "uploads") is expected
    assert has_cleanup([], "uploads") is False


@pytest.mark.parametrize("prefix", ["uploads", "media/files", "a"])
def test_our_own_rule_covers_its_prefix_and_no_other(prefix: str) -> None:
    assert has_cleanup([buckets.cleanup_rule(prefix)], prefix)
    assert not has_cleanup([buckets.cleanup_rule(prefix)], f"{prefix}-2")
    assert has_cleanup([buckets.cleanup_rule("media")], "media/files")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (buckets.CORS_RULE, True),
        ({"AllowedOrigins": ["*"], "AllowedMethods": ["HEAD", "PUT", "GET"]}, True),
        ({"AllowedOrigins": ["https://a.example", "*"], "AllowedMethods": ["GET", "HEAD"]}, True),
        ({"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]}, False),
        ({"AllowedOrigins": ["*"], "AllowedMethods": ["PUT", "POST"]}, False),
        ({"AllowedOrigins": ["https://*"], "AllowedMethods": ["GET", "HEAD"]}, False),
        ({"AllowedOrigins": ["https://a.example"], "AllowedMethods": ["GET", "HEAD"]}, False),
        ({}, False),
    ],
)
def test_a_cors_rule_must_allow_every_origin_to_read(rule: Rule, expected: bool) -> None:
    assert allows_scripts([rule]) is expected
    assert allows_scripts([{"AllowedOrigins": ["https://b.example"], "AllowedMethods": ["GET"]}, rule]) is expected
    assert allows_scripts([]) is False


AGED = {"Expiration": {"Days": 30}}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"Filter": {}, **AGED}, "old"),
        ({"Filter": {"Prefix": ""}, **AGED}, "old"),
        ({"Prefix": "", **AGED}, "old"),
        (AGED, "old"),
        ({"Filter": {"Prefix": "uploads/"}, **AGED}, "old"),
        ({"Filter": {"Prefix": "uploads/pictures/"}, **AGED}, "old"),
        ({"Filter": {"Prefix": "up"}, "Expiration": {"Date": "2026-01-01"}}, "old"),
        ({"Filter": {"And": {"Prefix": "uploads/", "ObjectSizeGreaterThan": 5}}, **AGED}, "old"),
        ({"Filter": {"Prefix": "logs/"}, **AGED}, None),
        ({"Filter": {"Prefix": "uploads-old/"}, **AGED}, None),
        ({"Filter": {"And": {"Prefix": "logs/", "ObjectSizeGreaterThan": 5}}, **AGED}, None),
        ({"Filter": {}, "Expiration": {"ExpiredObjectDeleteMarker": True}}, None),
        ({"Filter": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 3}}, None),
        ({"Filter": {}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}, None),
        ({"Filter": {}, "Status": "Disabled", **AGED}, None),
        ({"Filter": {"Tag": TAG}, **AGED}, None),
        ({"Filter": {"And": {"Prefix": "uploads/", "Tags": [TAG]}}, **AGED}, None),
    ],
)
def test_a_rule_that_deletes_uploads_by_age_is_found(rule: Rule, expected: str | None) -> None:
    assert buckets.expiration_rule([ON, {"ID": "old", "Status": "Enabled", **rule}], "uploads") == expected


def test_the_policy_is_the_smallest_one_and_lists_the_bucket_itself() -> None:
    on_objects, on_bucket = buckets.policy("my-bucket", "media/files")["Statement"]
    assert on_objects["Resource"] == "arn:aws:s3:::my-bucket/media/files/*"
    assert set(on_objects["Action"]) == {
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
    }
    assert (on_bucket["Action"], on_bucket["Resource"]) == ("s3:ListBucket", "arn:aws:s3:::my-bucket")


# -- the answers of a service

RULES = (
    b"<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Filter><Prefix>a/</Prefix></Filter>"
    b"<Expiration><Days>3</Days></Expiration></Rule></LifecycleConfiguration>"
)


class RecordedBucket(Bucket):
    """A bucket at a scripted service; :attr:`requests` are the requests that the service received."""

    def __init__(self, fake: ScriptedS3, **options: Any) -> None:
        keys = {"access_key_id": "k", "secret_access_key": "s"}
        super().__init__(S3Backend(bucket="my-bucket", endpoint_url=fake.url, timeout=3, **keys, **options))
        self.requests = fake.requests


At = Callable[..., RecordedBucket]


@pytest.fixture
def at() -> Iterator[At]:
    """``at(behaviour)`` returns a bucket at a service that behaves like this."""
    with contextlib.ExitStack() as stack:
        yield lambda behaviour, **options: RecordedBucket(stack.enter_context(ScriptedS3(behaviour)), **options)


ASK: dict[str, Callable[[Bucket], object]] = {
    "exists": Bucket.exists,
    "create": Bucket.create,
    "cors": Bucket.cors,
    "add cors": lambda bucket: bucket.add_cors(buckets.CORS_RULE),
    "lifecycle": Bucket.lifecycle,
    "add lifecycle": lambda bucket: bucket.add_lifecycle(buckets.cleanup_rule("uploads")),
}


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (405, "MethodNotAllowed"), (501, "NotImplemented")],
)
def test_a_missing_permission_raises_not_allowed(
    at: At, ask: Callable[[Bucket], object], status: int, code: str
) -> None:
    with pytest.raises(NotAllowed):
        ask(at(answer(status, code)))


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_any_other_refusal_raises_a_backend_error(at: At, ask: Callable[[Bucket], object]) -> None:
    with pytest.raises(BackendError):
        ask(at(answer(400, "MalformedXML")))


def test_missing_rules_are_an_empty_list_and_a_missing_bucket_does_not_exist(at: At) -> None:
    assert at(answer(404, "NoSuchCORSConfiguration")).cors() == []
    assert at(answer(404, "NoSuchLifecycleConfiguration")).lifecycle() == []
    assert at(answer(404, "NoSuchBucket")).exists() is False
    assert at(answer(200, body=b"<ListBucketResult/>")).exists() is True


@pytest.mark.parametrize("ask", [Bucket.cors, Bucket.lifecycle])
def test_the_rules_of_a_missing_bucket_are_an_error(at: At, ask: Callable[[Bucket], object]) -> None:
    with pytest.raises(BackendError, match="NoSuchBucket"):
        ask(at(answer(404, "NoSuchBucket")))


@pytest.mark.parametrize(("region", "place"), [("us-east-1", None), ("auto", None), ("eu-west-3", b"eu-west-3")])
def test_a_bucket_is_created_in_its_region_and_without_an_acl(at: At, region: str, place: bytes | None) -> None:
    bucket = at(answer(200), region=region)
    bucket.create()
    (request,) = bucket.requests
    found = re.search(rb"<LocationConstraint>(.*)</LocationConstraint>", request.body)
    assert (found and found[1]) == place
    assert not [name for name in request.headers if name.lower().startswith("x-amz-acl")]


def test_the_rest_of_the_lifecycle_configuration_is_kept_when_a_rule_is_added(at: At) -> None:
    """A request without it resets it (API_PutBucketLifecycleConfiguration)."""
    name = "x-amz-transition-default-minimum-object-size"
    bucket = at(answer(200, body=RULES, **{name.replace("-", "_"): "varies_by_storage_class"}))
    bucket.add_lifecycle(buckets.cleanup_rule("uploads"))
    headers = {key.lower(): value for key, value in bucket.requests[-1].headers.items()}
    assert headers.get(name) == "varies_by_storage_class"


def test_an_old_rule_is_sent_back_in_the_new_form_because_amazon_refuses_both_together(at: At) -> None:
    """https://github.com/aws/aws-sdk-ruby/issues/1653"""
    old = RULES.replace(b"<Filter>", b"").replace(b"</Filter>", b"")
    bucket = at(answer(200, body=old))
    bucket.add_lifecycle(buckets.cleanup_rule("uploads"))
    sent = bucket.requests[-1].body
    assert sent.count(b"<Filter><Prefix>") == 2
    assert b"<Prefix>a/</Prefix>" in sent


def test_a_name_that_is_taken_names_the_variable_of_the_bucket(at: At) -> None:
    bucket = at(answer(409, "BucketAlreadyExists"))
    bucket.backend.variables = {"bucket": "S3_BUCKET_NAME"}
    with pytest.raises(BackendError) as raised:
        bucket.create()
    assert raised.value.message == "The bucket my-bucket belongs to another account."
    assert (raised.value.remedy, raised.value.setting) == ("Set S3_BUCKET_NAME to another name.", "S3_BUCKET_NAME")


@pytest.mark.parametrize("backend", [MemoryBackend(), LocalBackend(Path("/nowhere"))])
def test_a_store_that_is_not_a_bucket_has_none(backend: Backend) -> None:
    assert Bucket.of(backend) is None


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "UPLOADS_S3_REGION"),
        ({"AWS_REGION": "eu-west-3"}, "AWS_REGION"),
        ({"AWS_REGION": "auto", "UPLOADS_S3_ENDPOINT_URL": "https://a.example"}, "UPLOADS_S3_ENDPOINT_URL"),
    ],
)
def test_the_endpoint_or_else_the_region_decides_the_address_of_the_service(
    variables: dict[str, str], expected: str
) -> None:
    assert address_variable(read_settings({}, variables).settings) == expected
