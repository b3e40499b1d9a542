"""Calls Cloudinary's SDK for one account, independently of the SDK's global configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from .. import remote
from .errors import translated

Response = Mapping[str, Any]


class Client:
    """Calls the SDK, which is imported with the first call, and translates its errors.

    ``account`` holds the options that the SDK would otherwise take from ``cloudinary.config()``. ``timeout`` is in
    seconds: for one whole call, or for one read of an upload.
    """

    def __init__(self, account: Mapping[str, Any], *, timeout: float, variable: remote.Variable) -> None:
        self._account = account
        self._timeout = timeout
        self._variable = variable

    def upload(self, key: str, content: bytes, options: Mapping[str, Any]) -> Response:
        return self._call(_uploader().upload, key, content, **options)

    def destroy(self, key: str, public_id: str, kind: str) -> Response:
        return self._call_in_time(_uploader().destroy, key, public_id, resource_type=kind, invalidate=True)

    def resource(self, key: str, public_id: str, kind: str) -> Response:
        return self._call_in_time(_admin().resource, key, public_id, resource_type=kind)

    def resources(self, **options: Any) -> Response:
        return self._call_in_time(_admin().resources, None, context=True, **options)

    def _call_in_time(self, call: Callable[..., Any], key: str | None, *arguments: Any, **options: Any) -> Response:
        return remote.call_with_deadline(self._timeout, lambda: self._call(call, key, *arguments, **options), key)

    def _call(self, call: Callable[..., Any], key: str | None, *arguments: Any, **options: Any) -> Response:
        with translated(key, self._variable):
            response = call(*arguments, **options, **self._account, timeout=remote.urllib3_timeout(self._timeout))
        if not isinstance(response, Mapping):
            raise remote.unreachable(key)
        return response


def _connect() -> None:
    """Import the SDK and give it new connections. Its own are global, and would be shared after a fork.

    Its own would also try every request four times, and send the content of a form again to the target of a redirect.
    """
    import cloudinary
    import urllib3
    from cloudinary import uploader, utils
    from cloudinary.api_client import call_api

    # Nothing is repeated that may have been sent: "no connection" must mean that the service got nothing.
    retries = urllib3.Retry(total=1, other=0, redirect=False, respect_retry_after_header=False)
    options = {**cloudinary.CERT_KWARGS, "maxsize": 64, "retries": retries}
    for module in (uploader, call_api):
        module._http = utils.get_http_connector(cloudinary.config(), options)


_connected = remote.PerProcess(_connect)


def _uploader() -> ModuleType:
    _connected.get()
    from cloudinary import uploader

    return uploader  # type: ignore[no-any-return]


def _admin() -> ModuleType:
    _connected.get()
    from cloudinary import api

    return api  # type: ignore[no-any-return]
