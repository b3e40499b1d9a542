"""``make demo``: the same pictures in two apps, and a redeploy.

Start an S3 server and two gunicorn apps on loopback. One app calls ``file.save()``, the other uses the extension.
Upload the same pictures to both, kill both and delete their folders, as a redeploy does. Start both again and request
every picture. Then leave the quickstart running to try by hand. With CI=true, end after the table, and exit with 1 if
the extension lost or altered a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import urllib.error
import urllib.request
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from tests.servers import Gunicorn, S3Server

HERE = Path(__file__).resolve().parent
NAMES = ("EVENT 3.png", "🧩 CHAPTER 01_ (1).png", "holiday, day 1.png", "photo.png", "Ärger & Glück.png")
REPORTS = HERE / "replacing-basicfilewriter"


def picture(seed: int, side: int = 256) -> bytes:
    """Return a real PNG: a gradient that differs for each seed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    rows = (bytes([0]) + bytes(v for x in range(side) for v in (x, y, (x * y * seed) % 256)) for y in range(side))
    size = side.to_bytes(4, "big")
    header = chunk(b"IHDR", size + size + bytes([8, 2, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")


def upload(url: str, pictures: Mapping[str, bytes]) -> dict[str, str]:
    """Upload all pictures in one form, and return the path that the app keeps for each."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode() + content
        for field, (name, content) in enumerate(pictures.items())
    ]
    body = b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()])
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/reports", body, headers)) as answer:
        files = json.load(answer)["files"]
    return {name: files[str(field)] for field, name in enumerate(pictures)}


def fetch(url: str, path: str, content: bytes) -> str:
    """Return "ok" if the app returns exactly this content, otherwise "ALTERED" or the HTTP error."""
    try:
        with urllib.request.urlopen(f"{url}/{quote(path)}") as answer:
            return "ok" if answer.read() == content else "ALTERED"
    except urllib.error.HTTPError as error:
        error.close()
        return f"{error.code} {error.reason}"


def redeploy_both(server: S3Server, folder: Path) -> bool:
    """Print the table. Return whether the extension kept every picture."""
    pictures = {name: picture(seed) for seed, name in enumerate(NAMES, start=2)}
    database = str(folder / "reports.db")
    apps = {
        "before:app": {"DATABASE": database},
        "after:app": {"DATABASE": database, **server.environment()},
    }
    results: list[list[tuple[str, str]]] = []
    for app, environment in apps.items():
        machine = folder / app.partition(":")[0]
        environment["PYTHONPATH"] = os.pathsep.join([str(REPORTS), str(HERE.parent)])
        machine.mkdir()
        with Gunicorn(app, "-w", "2", environment=environment, folder=machine) as first:
            paths = upload(first.url, pictures)
            before = [fetch(first.url, paths[name], content) for name, content in pictures.items()]
            first.kill()
        shutil.rmtree(machine)
        machine.mkdir()
        with Gunicorn(app, "-w", "2", environment=environment, folder=machine) as second:
            after = [fetch(second.url, paths[name], content) for name, content in pictures.items()]
        results.append(list(zip(before, after, strict=True)))
    old, new = results
    print(f"{'picture':24} {'before redeploy':16} {'after, with file.save()':24} after, with this extension")
    for name, (_, lost), (uploaded, kept) in zip(pictures, old, new, strict=True):
        print(f"{name:24} {uploaded:16} {lost:24} {kept}")
    return all(pair == ("ok", "ok") for pair in new)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="uploads-demo-") as name, S3Server() as server:
        folder = Path(name)
        print("In a redeploy, both apps are killed, their folders are deleted, and both start again.\n")
        kept = redeploy_both(server, folder)
        print(f"\nThe extension {'kept every picture' if kept else 'LOST A PICTURE'}.")
        if os.environ.get("CI") == "true":
            return 0 if kept else 1
        environment = server.environment(PYTHONPATH=os.pathsep.join([str(HERE / "quickstart"), str(HERE.parent)]))
        with Gunicorn("app:create_app()", environment=environment, folder=folder) as quickstart:
            print(f"\nTry it by hand: {quickstart.url} (files are kept in the S3 server at {server.url})")
            print("Press Ctrl-C to end everything.")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
        print("\nEverything has ended.")
        return 0


if __name__ == "__main__":
    sys.exit(main())
