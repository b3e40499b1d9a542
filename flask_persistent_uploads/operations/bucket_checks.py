"""Check a bucket, for ``flask uploads doctor``. These checks do not apply to any other store."""

from __future__ import annotations

from ..config import Settings
from ..errors import BackendError, BackendRefused, Problem
from . import web
from .bucket import Bucket, NotAllowed, expiration_rule, has_cleanup
from .checks import Check, Finding, failure, ok, skipped, warning
from .setup import setup_command
from .trial import StoreTrial

_SUCCESS, _REFUSED = 200, {401, 403}
_DENIED = {"AccessDenied", "403"}  # a response to HEAD has no body and so no code

# The permission that each check needs.
_PERMISSIONS = {
    "save": "s3:PutObject",
    "stat": "s3:GetObject",
    "missing file": "s3:ListBucket",
    "read": "s3:GetObject",
    "delete": "s3:DeleteObject",
}


def is_denied(error: Exception) -> bool:
    """Return whether the service accepts the credentials, but they lack a permission."""
    return isinstance(error, BackendRefused) and error.service_code in _DENIED


def missing_permission(bucket: Bucket, check: str, error: BackendError) -> Problem | None:
    """Return the problem that the permission for a check is missing; ``None`` if ``error`` has another cause."""
    permission = _PERMISSIONS.get(check)
    if permission is None or not is_denied(error):
        return None
    resource = f"arn:aws:s3:::{bucket.name}"
    if permission == "s3:ListBucket":
        remedy = f"Allow {permission} on {resource} (the bucket itself, not {resource}/*)."
    else:
        remedy = f"Allow {permission} on {resource}/{bucket.backend.prefix}/*."
    return Problem(f"The permission {permission} is missing.", remedy)


def no_cors_rule(settings: Settings) -> Problem:
    """Return the problem that scripts cannot fetch files."""
    message = "Scripts of pages cannot fetch files: no CORS rule of the bucket allows the origin *."
    return Problem(message, _run_setup(settings))


def public_endpoint(trial: StoreTrial) -> str | None:
    """Return the variable of the endpoint that only browsers have to reach; ``None`` if it is not set."""
    name = "s3_public_endpoint_url"
    return trial.settings.variable(name) if trial.bucket is not None and trial.settings.is_set(name) else None


def region(trial: StoreTrial) -> Finding | None:
    """Check that the bucket is in the region that is set, which every direct url names."""
    response = trial.service_response
    actual = response.headers.get("x-amz-bucket-region") if response else None
    if trial.bucket is None or actual is None:
        return None
    configured = trial.bucket.backend.region
    if actual != configured:
        variable = trial.settings.variable("s3_region")
        message = f"The bucket is in the region {actual}, not {configured}."
        return failure(message, f"{variable}={actual}", setting=variable)
    return ok(f"The bucket is in the region {configured}.")


def listing(trial: StoreTrial) -> Finding | None:
    """Check that nobody can list the bucket without credentials."""
    if trial.bucket is None:
        return None
    try:
        response = web.request(f"{trial.bucket.backend.api_url}?list-type=2&max-keys=1")
    except web.Unreachable:
        return None
    if response.status == _SUCCESS and b"<ListBucketResult" in response.body:
        message = "Anybody can list the bucket, and can thus find every file."
        return failure(message, "Remove the bucket policy or ACL that allows s3:ListBucket to everybody.")
    if response.status not in _REFUSED:
        return None
    return ok("The bucket cannot be listed without credentials.")


def lifecycle(trial: StoreTrial) -> Finding | None:
    """Check that no lifecycle rule deletes uploads, and that one deletes the parts of interrupted uploads."""
    if trial.bucket is None:
        return None
    try:
        rules = trial.call(trial.bucket.lifecycle)
    except NotAllowed:
        return skipped("The credentials are not allowed to read the lifecycle rules of the bucket.")
    except BackendError as error:
        return skipped(f"The lifecycle rules of the bucket cannot be read. {error.message}", error.remedy)
    prefix = trial.bucket.backend.prefix
    if name := expiration_rule(rules, prefix):
        return failure(f"The lifecycle rule {name!r} of the bucket deletes uploads by age.", "Remove that rule.")
    if has_cleanup(rules, prefix):
        return ok("A lifecycle rule deletes the parts of interrupted uploads.")
    return warning("No lifecycle rule deletes the parts of interrupted uploads.", _run_setup(trial.settings))


def _run_setup(settings: Settings) -> str:
    return f"Run with the credentials of an administrator: {setup_command(settings.uploads, 's3 --apply')}"


CHECKS: tuple[Check[StoreTrial], ...] = (
    Check("region", region, needs=("service",), essential=True),
    Check("listing", listing, needs=("service",)),
    Check("lifecycle", lifecycle, needs=("access",), preserves=True),
)
