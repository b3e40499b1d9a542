"""The configuration of a bucket: permissions, CORS rules and lifecycle rules."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..backends.base import Backend
from ..backends.s3 import S3Backend
from ..config import Settings
from ..errors import BackendRefused

#: After how many days the parts of interrupted uploads are deleted.
CLEANUP_DAYS = 2

Rule = Mapping[str, Any]


def policy(bucket: str, prefix: str) -> dict[str, Any]:
    """Return the smallest IAM policy that the app's credentials need.

    ``s3:ListBucket`` applies to the bucket itself, not to ``/*``. Without it, S3 answers 403 for a missing file.
    """
    actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": f"arn:aws:s3:::{bucket}/{prefix}/*"},
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{bucket}"},
        ],
    }


#: A script on another site requests a file through our redirect. Browsers then send "Origin: null", which only *
#: matches. A script of the app's own pages sends the origin of the app.
CORS_RULE: Rule = {
    "AllowedOrigins": ["*"],
    "AllowedMethods": ["GET", "HEAD"],
    "AllowedHeaders": ["*"],
    "MaxAgeSeconds": 3600,
}


def allows_scripts(rules: Sequence[Rule]) -> bool:
    """Return whether one of a bucket's CORS rules lets the scripts of any page fetch files."""
    return any(
        "*" in rule.get("AllowedOrigins", ()) and {"GET", "HEAD"} <= set(rule.get("AllowedMethods", ()))
        for rule in rules
    )


def cleanup_rule(prefix: str) -> dict[str, Any]:
    """Return a lifecycle rule that deletes the parts of interrupted uploads, which cost money but are not listed."""
    return {
        "ID": f"flask-persistent-uploads: abandoned parts below {prefix}/",
        "Status": "Enabled",
        "Filter": {"Prefix": f"{prefix}/"},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": CLEANUP_DAYS},
    }


def has_cleanup(rules: Sequence[Rule], prefix: str) -> bool:
    """Return whether one of a bucket's lifecycle rules deletes the parts of interrupted uploads below ``prefix``."""
    return any(
        rule.get("Status") == "Enabled"
        and "AbortIncompleteMultipartUpload" in rule
        and set(_conditions(rule)) <= {"Prefix"}
        and f"{prefix}/".startswith(str(_conditions(rule).get("Prefix", "")))
        for rule in rules
    )


def expiration_rule(rules: Sequence[Rule], prefix: str) -> str | None:
    """Return the name of a lifecycle rule that deletes files below ``prefix`` by age; ``None`` if there is none."""
    for rule in rules:
        conditions, by_age = _conditions(rule), {"Days", "Date"} & set(rule.get("Expiration", ()))
        start = str(conditions.get("Prefix", ""))
        overlaps = f"{prefix}/".startswith(start) or start.startswith(f"{prefix}/")
        tagged = {"Tag", "Tags"} & set(conditions)  # our files have no tags
        if rule.get("Status") == "Enabled" and by_age and overlaps and not tagged:
            return str(rule.get("ID", "without a name"))
    return None


def _conditions(rule: Rule) -> dict[str, Any]:
    """Return the conditions under which a rule applies: a prefix, and perhaps more."""
    conditions = dict(rule.get("Filter") or {"Prefix": rule.get("Prefix", "")})
    combined = conditions.pop("And", {})
    return {**conditions, **combined}


def _with_filter(rule: Rule) -> Rule:
    """Return a rule with a ``Filter``. S3 refuses a configuration that mixes rules with and without one."""
    if "Filter" in rule or "Prefix" not in rule:
        return rule
    return {**{name: part for name, part in rule.items() if name != "Prefix"}, "Filter": {"Prefix": rule["Prefix"]}}


_NOT_ALLOWED = {"AccessDenied", "MethodNotAllowed", "NotImplemented"}


class NotAllowed(Exception):
    """The credentials do not allow this operation, or the service does not have it."""


def address_variable(settings: Settings) -> str:
    """Return the variable that decides the address of the service: the endpoint if one is set, else the region."""
    return settings.variable("s3_endpoint_url" if settings.is_set("s3_endpoint_url") else "s3_region")


class Bucket:
    """The configuration of a bucket, through boto3. Every method may raise :class:`NotAllowed` or ``BackendError``."""

    def __init__(self, backend: S3Backend) -> None:
        self.backend = backend
        self.name = backend.bucket

    @classmethod
    def of(cls, backend: Backend) -> Bucket | None:
        """Return the bucket of a backend; ``None`` if it has none."""
        return cls(backend) if isinstance(backend, S3Backend) else None

    def exists(self) -> bool:
        """Return whether the bucket exists."""
        # Not head_bucket: its response has no body, which would tell the reason of a refusal.
        return self._call("list_objects_v2", MaxKeys=1, absent={"NoSuchBucket"}) is not None

    def create(self) -> None:
        """Create the bucket, private as all new buckets are. No ACL is sent."""
        region = self.backend.region
        constraint = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        self._call("create_bucket", **({} if region in {"us-east-1", "auto"} else constraint))

    def cors(self) -> list[Rule]:
        """Return the CORS rules."""
        found = self._call("get_bucket_cors", absent={"NoSuchCORSConfiguration"})
        return list(found["CORSRules"]) if found else []

    def add_cors(self, rule: Rule) -> None:
        """Add a CORS rule, and keep the others."""
        self._call("put_bucket_cors", CORSConfiguration={"CORSRules": [*self.cors(), rule]})

    def lifecycle(self) -> list[Rule]:
        """Return the lifecycle rules."""
        return list(self._lifecycle().get("Rules", ()))

    def add_lifecycle(self, rule: Rule) -> None:
        """Add a lifecycle rule, and keep the others and the rest of the configuration."""
        found = self._lifecycle()
        kept = {name: found[name] for name in ("TransitionDefaultMinimumObjectSize",) if name in found}
        rules = {"Rules": [*map(_with_filter, found.get("Rules", ())), rule]}
        self._call("put_bucket_lifecycle_configuration", LifecycleConfiguration=rules, **kept)

    def _lifecycle(self) -> Mapping[str, Any]:
        return self._call("get_bucket_lifecycle_configuration", absent={"NoSuchLifecycleConfiguration"}) or {}

    def _call(self, operation: str, *, absent: Collection[str] = (), **parameters: Any) -> Any:
        """Call an operation of boto3. Return its response, or ``None`` if the service's error code is in ``absent``."""
        from botocore.exceptions import ClientError

        with self.backend.errors():
            try:
                return getattr(self.backend.client(), operation)(Bucket=self.name, **parameters)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code in absent:
                    return None
                if code == "BucketAlreadyExists":
                    raise self._taken() from error
                if code in _NOT_ALLOWED:
                    raise NotAllowed(operation) from error
                raise

    def _taken(self) -> BackendRefused:
        variable = self.backend.variable("bucket")
        message = f"The bucket {self.name} belongs to another account."
        return BackendRefused(message, remedy=f"Set {variable} to another name.", setting=variable)
