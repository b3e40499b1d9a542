"""Real servers on loopback for tests, benchmarks and the demo: an S3 server, gunicorn, and a round-robin proxy."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask_persistent_uploads.operations.platform import PLATFORMS

from .fakes.loopback import Handler, Loopback

ROOT = Path(__file__).resolve().parent.parent
ACCESS_KEY_ID = "test-access-key"
SECRET_ACCESS_KEY = "test-secret-access-key"
BUCKET = "test-bucket"


def free_ports(count: int) -> list[int]:
    """Return ports on which nobody listens at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


def stop(process: subprocess.Popen[Any], *, within: float = 2.0) -> None:
    """Terminate a process that the caller started; kill it if it does not end within ``within`` seconds."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment without the variables that choose a backend or identify a platform.

    It declares this host as a plain machine, because tests may run in a container. A test that simulates a platform
    sets ``UPLOADS_PLATFORM=""``.
    """
    starts = ("AWS_", "UPLOADS_", "S3_", "CLOUDINARY", "IMAGEKIT", "IMAGE_KIT")
    names = {"BUCKET_NAME", "USE_S3", "MEDIA_ROOT", "GUNICORN_CMD_ARGS", "WEB_CONCURRENCY"}
    for platform in PLATFORMS:
        names |= {*platform.known_by, *platform.confirmed_by, *platform.instance}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(starts) and k not in names}
    return {**kept, "AWS_EC2_METADATA_DISABLED": "true", "UPLOADS_PLATFORM": "machine", **more}


class S3Server:
    """SeaweedFS, which checks signatures, as a context manager."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> S3Server:
        self._folder = Path(tempfile.mkdtemp(prefix="s3-"))
        self.process = self._start()
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop(self.process)
        shutil.rmtree(self._folder, ignore_errors=True)

    def environment(self, **more: str) -> dict[str, str]:
        """Return the variables with which an app uses the server."""
        return {
            "UPLOADS_S3_BUCKET": BUCKET,
            "UPLOADS_S3_ENDPOINT_URL": self.url,
            "UPLOADS_S3_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "UPLOADS_S3_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            **more,
        }

    def client(self, **config: Any) -> Any:
        """Return a plain boto3 client, to inspect the server independently of the package."""
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, **config),
        )

    def _start(self) -> subprocess.Popen[bytes]:
        weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
        if weed is None:
            raise RuntimeError("The S3 server is not installed. Run 'make test' or 'make demo', which install it.")
        credentials = [{"accessKey": ACCESS_KEY_ID, "secretKey": SECRET_ACCESS_KEY}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identities = {"identities": [{"name": "test", "credentials": credentials, "actions": actions}]}
        (self._folder / "identities.json").write_text(json.dumps(identities))
        ports = free_ports(9)
        flags = {
            "dir": self._folder,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3.port": self.port,
            "s3.port.grpc": ports[0],
            "s3.config": self._folder / "identities.json",
            "s3.autoCreateBucket": "false",
            "s3.allowDeleteBucketNotEmpty": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.allowedOrigins": "http://none.invalid",
            "master.port": ports[1],
            "master.port.grpc": ports[2],
            "volume.port": ports[3],
            "volume.port.grpc": ports[4],
            "filer.port": ports[5],
            "filer.port.grpc": ports[6],
            "webdav": "false",
            "admin.ui": "false",
            "admin.port": ports[7],
            "admin.port.grpc": ports[8],
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 512,
            "filer.localSocket": self._folder / "f.sock",
            "s3.localSocket": self._folder / "s.sock",
        }
        with (self._folder / "log").open("wb") as log:
            return subprocess.Popen(
                [weed, "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in flags.items())],
                env={**clean_environment(), "TMPDIR": str(self._folder)},
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def _wait(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        client = self.client(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=3)
        deadline = time.monotonic() + 60
        while True:
            try:
                with contextlib.suppress(client.exceptions.BucketAlreadyExists):
                    client.create_bucket(Bucket=BUCKET)
                client.put_object(Bucket=BUCKET, Key="ready", Body=b"x")
                client.get_object(Bucket=BUCKET, Key="ready")["Body"].read()
                client.delete_object(Bucket=BUCKET, Key="ready")
            except (BotoCoreError, ClientError) as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    log = (self._folder / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"The S3 server did not start:\n{log}") from error
                time.sleep(0.1)
            else:
                return


class Gunicorn:
    """``gunicorn module:app`` on its own port, as a context manager."""

    def __init__(
        self,
        app: str,
        *arguments: str,
        environment: Mapping[str, str],
        folder: Path,
        port: int | None = None,
        log: Path | None = None,
    ) -> None:
        self.port = port or free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._command = [sys.executable, "-m", "gunicorn", app, "--bind", f"127.0.0.1:{self.port}", *arguments]
        self._environment = clean_environment(**{"PYTHONPATH": str(ROOT), **environment})
        self.folder = folder

    def __enter__(self) -> Gunicorn:
        with (self.log or Path(os.devnull)).open("ab") as output:
            self.process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self._environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop(self.process, within=5)

    def kill(self) -> None:
        """Kill the master and its workers, as a host does when it takes the machine away."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(child) for child in children.read_text().split()]

    def end_worker(self, worker: int) -> None:
        """Kill one of the workers. The master starts another one."""
        if worker in self.workers():
            os.kill(worker, signal.SIGKILL)

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/")
                connection.getresponse().read()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    log = self.log.read_text(errors="replace")[-3000:] if self.log else "(no log)"
                    raise RuntimeError(f"Gunicorn did not start:\n{log}") from None
                time.sleep(0.05)
            else:
                return
            finally:
                connection.close()


class _Exchange(Handler):
    """Passes on one request and its answer, and closes the connection."""

    _HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding"})  # RFC 9110, 7.6.1

    def forward(self) -> None:
        self.close_connection = True
        if "Transfer-Encoding" in self.headers:
            self.send_error(411)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            answer, content = self._ask(self.server.owner.next(), body)
        except (OSError, http.client.HTTPException):
            self.send_error(502)
            return
        self.send_response_only(answer.status, answer.reason)
        for name, value in self._passed(answer.getheaders()):
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = forward  # noqa: N815 - http.server's names

    def _ask(self, server: str, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        target = self.requestline.split()[1]  # unaltered; self.path lacks a slash if the target begins with two
        with contextlib.closing(http.client.HTTPConnection(server, timeout=60)) as connection:
            connection.connect()
            connection.putrequest(self.command, target, skip_host=True, skip_accept_encoding=True)
            for name, value in self._passed(self.headers.items()):
                connection.putheader(name, value)
            with contextlib.suppress(
                ConnectionError
            ):  # the server may answer before it has read everything, for example with 413
                connection.endheaders(body)
            answer = connection.getresponse()
            return answer, answer.read()

    def _passed(self, headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        return ((name, value) for name, value in headers if name.lower() not in self._HOP_BY_HOP)


class RoundRobin(Loopback):
    """A proxy that passes each request to the next of several servers, as a host with several instances does.

    Requests and answers stay unaltered, except that the connection is closed after each answer. Redirects are not
    followed. A server that is gone is a 502, and a body without a length is a 411.
    """

    handler = _Exchange

    def __init__(self, *urls: str) -> None:
        super().__init__()
        self._turns = itertools.cycle([urlsplit(url).netloc for url in urls])
        self._one_at_a_time = threading.Lock()

    def next(self) -> str:
        """Return the host and the port of the server whose turn it is."""
        with self._one_at_a_time:
            return next(self._turns)


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """Yield the address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
