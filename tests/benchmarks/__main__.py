"""``make bench`` compares the speed of the package with that of simple code, in the same run.

Every figure is a ratio of medians over interleaved rounds, so that a busy machine affects both sides alike. The output
shows which limits hold. A limit that does not hold is not an error.
"""

from __future__ import annotations

import io
import logging
import random
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from flask import Flask, redirect, send_from_directory
from werkzeug.datastructures import FileStorage
from werkzeug.formparser import FormDataParser
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from flask_persistent_uploads import Uploads
from flask_persistent_uploads.backends.s3.sigv4 import Credentials, presign
from flask_persistent_uploads.intake.multipart import StrictFormDataParser

from ..servers import BUCKET, S3Server
from ..system.client import form

AWS = {
    "UPLOADS_S3_BUCKET": "bucket",
    "UPLOADS_S3_REGION": "eu-west-1",
    "UPLOADS_S3_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "UPLOADS_S3_SECRET_ACCESS_KEY": "x" * 40,
}
KILOBYTE, MEGABYTE = 1000, 1_000_000


def measure(
    sides: Mapping[str, Callable[[], object]], *, rounds: int, repeat: int = 1, clock: Callable[[], float]
) -> dict[str, float]:
    """Return the seconds per call of each side: the median over rounds that call every side in turn."""
    took: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, call in sides.items():
            begun = clock()
            for _ in range(repeat):
                call()
            if number:  # the first round only warms up
                took[name].append((clock() - begun) / repeat)
    return {name: statistics.median(times) for name, times in took.items()}


def line(what: str, hold: str, measured: str, *, held: bool | None = None) -> None:
    verdict = {True: "held", False: "NOT HELD", None: ""}[held]
    print(f"{what:62} {hold:18} {measured:34} {verdict}")


def wsgi_call(app: Flask, path: Callable[[], str]) -> Callable[[], None]:
    """Return a function that calls the app once, as a server does."""
    environ = EnvironBuilder(path="/").get_environ()

    def call() -> None:
        answer = app({**environ, "PATH_INFO": path()}, lambda *_: lambda _: None)
        for _ in answer:
            pass
        if hasattr(answer, "close"):
            answer.close()

    return call


def key() -> str:
    return f"reports/{secrets.token_hex(16)}-event-3.jpg"


def bench_redirect() -> None:
    import boto3
    from botocore.config import Config

    client = boto3.session.Session().client(
        "s3",
        region_name="eu-west-1",
        aws_access_key_id="AKIAEXAMPLE",
        aws_secret_access_key="x" * 40,
        config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"}),
    )
    app = Flask(__name__)
    app.config.update(AWS)
    Uploads(app)
    app.add_url_rule("/empty", "empty", lambda: "")
    app.add_url_rule("/same/<path:path>", "same", lambda path: "")

    def naive(path: str) -> Response:
        return redirect(client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": path}), 302)

    app.add_url_rule("/naive/<path:path>", "naive", naive)
    took = measure(
        {
            "empty": wsgi_call(app, lambda: "/empty"),
            "same": wsgi_call(app, lambda: f"/same/{key()}"),
            "ours": wsgi_call(app, lambda: f"/uploads/{key()}"),
            "naive": wsgi_call(app, lambda: f"/naive/{key()}"),
        },
        rounds=30,
        repeat=400,
        clock=time.process_time,
    )
    ratio = took["ours"] / took["empty"]
    line("redirect of a new key / empty view", "<= 1.05", f"{ratio:.2f}", held=ratio <= 1.05)
    line("redirect of a new key / empty view behind a <path:…> rule", "", f"{took['ours'] / took['same']:.2f}")
    ratio = took["naive"] / took["ours"]
    line("generate_presigned_url + redirect / ours", ">= 4", f"{ratio:.1f}", held=ratio >= 4)

    credentials, moment = Credentials("AKIAEXAMPLE", "x" * 40), int(time.time())
    took = measure(
        {
            "ours": lambda: presign(
                "GET",
                "https://bucket.s3.eu-west-1.amazonaws.com/",
                f"uploads/{key()}",
                region="eu-west-1",
                credentials=credentials,
                signed_at=moment,
                expires_in=3600,
            ),
            "naive": lambda: client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": key()}),
            "key": key,
        },
        rounds=20,
        repeat=300,
        clock=time.process_time,
    )
    ratio = (took["naive"] - took["key"]) / (took["ours"] - took["key"])
    line("signing: boto3 / ours", ">= 25", f"{ratio:.0f}", held=ratio >= 25)


def bench_parsing() -> None:
    for size, hold in ((KILOBYTE, None), (100 * KILOBYTE, 5.0), (10 * MEGABYTE, None)):
        data = form(("f", "a.bin", random.Random(size).randbytes(size)))

        def parse(parser: FormDataParser, data: bytes = data) -> None:
            _, _, files = parser.parse(
                io.BytesIO(data), "multipart/form-data", len(data), {"boundary": data[2 : data.index(b"\r")].decode()}
            )
            files["f"].close()

        took = measure(
            {
                "ours": lambda: parse(StrictFormDataParser(max_size=1 << 30, max_files=50)),
                "werkzeug": lambda: parse(FormDataParser()),
            },
            rounds=25,
            repeat=max(1, 5 * MEGABYTE // size // 10),
            clock=time.process_time,
        )
        ratio = took["werkzeug"] / took["ours"]
        held = None if hold is None else ratio >= hold
        line(
            f"parsing a file of {size // KILOBYTE} kB: Werkzeug / ours",
            f">= {hold:.0f}" if hold else "",
            f"{ratio:.1f}",
            held=held,
        )


def bench_saving(server: S3Server) -> None:
    client = server.client()
    app = Flask(__name__)
    app.config.update(server.environment())
    uploads = Uploads(app)
    with app.app_context():
        for size in (10 * KILOBYTE, 100 * KILOBYTE, MEGABYTE, 10 * MEGABYTE, 25 * MEGABYTE):
            data = random.Random(size).randbytes(size)
            with tempfile.TemporaryFile() as file:
                file.write(data)

                def put(data: bytes = data) -> None:
                    client.put_object(Bucket=BUCKET, Key=f"bench/{secrets.token_hex(16)}", Body=data)

                def upload_fileobj(data: bytes = data) -> None:
                    client.upload_fileobj(io.BytesIO(data), BUCKET, f"bench/{secrets.token_hex(16)}")

                took = measure(
                    {
                        "ours": lambda: uploads.save(file, filename="a.bin"),
                        "put": put,
                        "fileobj": upload_fileobj,
                    },
                    rounds=40 if size <= MEGABYTE else 12,
                    clock=time.perf_counter,
                )
            ratio = (took["ours"] - 0.001) / took["put"]
            line(
                f"saving {size // KILOBYTE} kB to S3: (ours - 1 ms) / bare put_object",
                "<= 1.10",
                f"{ratio:.2f}  (upload_fileobj: {took['fileobj'] / took['put']:.2f})",
                held=ratio <= 1.10,
            )


def bench_disk() -> None:
    with tempfile.TemporaryDirectory() as folder:
        app = Flask(__name__)
        app.config.update(UPLOADS_DIR=folder)
        uploads = Uploads(app)
        app.add_url_rule("/naive/<path:path>", "naive", lambda path: send_from_directory(folder, path))
        with app.app_context():
            for size in (100 * KILOBYTE, 10 * MEGABYTE):
                data = random.Random(size).randbytes(size)
                storage = FileStorage(io.BytesIO(data), "a.bin")

                def naive() -> None:
                    storage.stream.seek(0)  # noqa: B023
                    storage.save(Path(folder, secrets.token_hex(16)))  # noqa: B023

                took = measure(
                    {"ours": lambda: uploads.save(storage), "naive": naive},  # noqa: B023
                    rounds=30,
                    clock=time.perf_counter,
                )
                ratio = took["ours"] / took["naive"]
                line(f"saving {size // KILOBYTE} kB to disk: ours, durable / FileStorage.save", "", f"{ratio:.2f}")
            path = uploads.save(b"x" * 100_000, filename="a.png")
        took = measure(
            {
                "ours": wsgi_call(app, lambda: f"/{path}"),
                "naive": wsgi_call(app, lambda: f"/naive/{path.key}"),
            },
            rounds=20,
            repeat=200,
            clock=time.process_time,
        )
        line("serving 100 kB from disk: ours / send_from_directory", "", f"{took['ours'] / took['naive']:.2f}")


def bench_start() -> None:
    def start() -> None:
        app = Flask(__name__)
        app.config.update(AWS)
        Uploads(app)

    took = measure({"with": start, "without": lambda: Flask(__name__)}, rounds=30, clock=time.perf_counter)
    milliseconds = (took["with"] - took["without"]) * 1000
    line("init_app", "< 5 ms", f"{milliseconds:.1f} ms", held=milliseconds < 5)
    code = "import flask, sys; from flask_persistent_uploads import Uploads; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    sdks = sorted({"boto3", "botocore", "cloudinary", "imagekitio", "PIL"} & set(loaded))
    line("SDKs imported by it", "none", ", ".join(sdks) or "none", held=not sdks)


def main() -> None:
    logging.disable()
    line("what", "hold", "measured")
    bench_redirect()
    bench_parsing()
    bench_disk()
    bench_start()
    with S3Server() as server:
        bench_saving(server)


if __name__ == "__main__":
    main()
