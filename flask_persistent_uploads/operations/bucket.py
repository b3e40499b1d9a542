"""What a bucket needs around it: who may do what, which pages may read it, and what sweeps it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..backends.base import Backend
from ..errors import BackendRefused

if TYPE_CHECKING:
    from ..backends.s3 import S3Backend

SWEEP_DAYS = 2

Rule = Mapping[str, Any]


def policy(bucket: str, prefix: str) -> dict[str, Any]:
    """The least that the credentials must be allowed, as an IAM policy.

    ``s3:ListBucket`` is about the bucket itself, not about ``/*``: without it S3 answers 403 for a missing file.
    """
    actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": f"arn:aws:s3:::{bucket}/{prefix}/*"},
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{bucket}"},
        ],
    }


#: A page that fetches a file follows our redirect with "Origin: null", which only * matches (Fetch standard, 4.4).
CORS_RULE: Rule = {
    "AllowedOrigins": ["*"],
    "AllowedMethods": ["GET", "HEAD"],
    "AllowedHeaders": ["*"],
    "MaxAgeSeconds": 3600,
}


def lets_pages_read(rules: Sequence[Rule]) -> bool:
    """Whether one of a bucket's CORS rules lets a page of any origin fetch files."""
    return any(
        "*" in rule.get("AllowedOrigins", ()) and {"GET", "HEAD"} <= set(rule.get("AllowedMethods", ()))
        for rule in rules
    )


def sweep(prefix: str) -> dict[str, Any]:
    """A lifecycle rule that removes the parts of uploads that broke off, which are paid for and shown nowhere."""
    return {
        "ID": f"flask-persistent-uploads: abandoned parts below {prefix}/",
        "Status": "Enabled",
        "Filter": {"Prefix": f"{prefix}/"},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": SWEEP_DAYS},
    }


def sweeps(rules: Sequence[Rule], prefix: str) -> bool:
    """Whether one of a bucket's lifecycle rules removes abandoned parts below ``prefix``."""
    return any(
        rule.get("Status") == "Enabled"
        and "AbortIncompleteMultipartUpload" in rule
        and set(_conditions(rule)) <= {"Prefix"}
        and f"{prefix}/".startswith(str(_conditions(rule).get("Prefix", "")))
        for rule in rules
    )


def deletes(rules: Sequence[Rule], prefix: str) -> str | None:
    """The name of a rule that deletes files below ``prefix`` by their age, if there is one."""
    for rule in rules:
        conditions, by_age = _conditions(rule), {"Days", "Date"} & set(rule.get("Expiration", ()))
        start = str(conditions.get("Prefix", ""))
        overlaps = f"{prefix}/".startswith(start) or start.startswith(f"{prefix}/")
        tagged = {"Tag", "Tags"} & set(conditions)  # as no file of ours is
        if rule.get("Status") == "Enabled" and by_age and overlaps and not tagged:
            return str(rule.get("ID", "without a name"))
    return None


def _conditions(rule: Rule) -> dict[str, Any]:
    """What must hold for a rule to count: a prefix, and perhaps more."""
    where = dict(rule.get("Filter") or {"Prefix": rule.get("Prefix", "")})
    both = where.pop("And", {})
    return {**where, **both}


def _in_todays_form(rule: Rule) -> Rule:
    """A rule that is put beside one with a ``Filter`` must have one as well."""
    if "Filter" in rule or "Prefix" not in rule:
        return rule
    return {**{name: part for name, part in rule.items() if name != "Prefix"}, "Filter": {"Prefix": rule["Prefix"]}}


_NOT_ALLOWED = {"AccessDenied", "MethodNotAllowed", "NotImplemented"}


class NotAllowed(Exception):
    """The credentials may not do this, or the service does not know it."""


class Bucket:
    """A bucket's own settings, by boto3. Every method may raise :class:`NotAllowed` or ``BackendError``."""

    def __init__(self, backend: S3Backend) -> None:
        self.backend = backend
        self.name = backend.bucket

    @classmethod
    def of(cls, backend: Backend) -> Bucket | None:
        """The bucket behind a backend, if there is one."""
        from ..backends.s3 import S3Backend

        return cls(backend) if isinstance(backend, S3Backend) else None

    def exists(self) -> bool:
        # Not by head_bucket: an answer without a body would not say why it refuses.
        return self._ask("list_objects_v2", MaxKeys=1, absent={"NoSuchBucket"}) is not None

    def create(self) -> None:
        """Make it, private as all new buckets are; no ACL is sent."""
        region = self.backend.region
        where = {} if region in {"us-east-1", "auto"} else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        self._ask("create_bucket", **where)

    def cors(self) -> list[Rule]:
        found = self._ask("get_bucket_cors", absent={"NoSuchCORSConfiguration"})
        return list(found["CORSRules"]) if found else []

    def add_cors(self, rule: Rule) -> None:
        """Add a rule to those that are there."""
        self._ask("put_bucket_cors", CORSConfiguration={"CORSRules": [*self.cors(), rule]})

    def lifecycle(self) -> list[Rule]:
        return list(self._lifecycle().get("Rules", ()))

    def add_lifecycle(self, rule: Rule) -> None:
        """Add a rule to those that are there."""
        found = self._lifecycle()
        kept = {name: found[name] for name in ("TransitionDefaultMinimumObjectSize",) if name in found}
        rules = {"Rules": [*map(_in_todays_form, found.get("Rules", ())), rule]}
        self._ask("put_bucket_lifecycle_configuration", LifecycleConfiguration=rules, **kept)

    def _lifecycle(self) -> Mapping[str, Any]:
        return self._ask("get_bucket_lifecycle_configuration", absent={"NoSuchLifecycleConfiguration"}) or {}

    def _ask(self, operation: str, *, absent: Collection[str] = (), **parameters: Any) -> Any:
        """The answer, or ``None`` where its code is one of ``absent``."""
        from botocore.exceptions import ClientError

        with self.backend.errors():
            try:
                return getattr(self.backend.client(), operation)(Bucket=self.name, **parameters)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code in absent:
                    return None
                if code == "BucketAlreadyExists":
                    raise BackendRefused("This bucket is somebody else's: choose another name.") from error
                if code in _NOT_ALLOWED:
                    raise NotAllowed(operation) from error
                raise
