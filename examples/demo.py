"""``make demo``: the same pictures, two apps, one redeploy.

Starts an S3 server and two gunicorn apps on loopback, one with the old function and one with the extension; uploads the
same pictures to both; kills both and wipes their folders, as a redeploy does; starts them again and fetches every
picture. Then it leaves a quickstart running to try by hand. With CI=true it ends after the table, and exits with 1 if
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
LEGACY = HERE / "replacing-basicfilewriter"


def picture(seed: int, side: int = 256) -> bytes:
    """A real PNG: a gradient of its own for each seed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    rows = (bytes([0]) + bytes(v for x in range(side) for v in (x, y, (x * y * seed) % 256)) for y in range(side))
    size = side.to_bytes(4, "big")
    header = chunk(b"IHDR", size + size + bytes([8, 2, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")


def upload(url: str, pictures: Mapping[str, bytes]) -> dict[str, str]:
    """One form with every picture in a field of its own; the path that the app keeps for each."""
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


def verdict(url: str, path: str, content: bytes) -> str:
    try:
        with urllib.request.urlopen(f"{url}/{quote(path)}") as answer:
            return "ok" if answer.read() == content else "ALTERED"
    except urllib.error.HTTPError as error:
        error.close()
        return f"{error.code} {error.reason}"


def redeploy_both(server: S3Server, folder: Path) -> bool:
    """Show the table; whether the extension kept every picture."""
    pictures = {name: picture(seed) for seed, name in enumerate(NAMES, start=2)}
    database = str(folder / "reports.db")
    apps = {
        "the old function": ("before:app", {"DATABASE": database}),
        "the extension": ("after:app", {"DATABASE": database, **server.environment()}),
    }
    results: dict[str, list[tuple[str, str]]] = {}
    for title, (app, environment) in apps.items():
        machine = folder / title.replace(" ", "-")
        environment["PYTHONPATH"] = os.pathsep.join([str(LEGACY), str(HERE.parent)])
        machine.mkdir()
        with Gunicorn(app, "-w", "2", environment=environment, folder=machine) as before:
            paths = upload(before.url, pictures)
            first = [verdict(before.url, paths[name], content) for name, content in pictures.items()]
            before.kill()
        shutil.rmtree(machine)
        machine.mkdir()
        with Gunicorn(app, "-w", "2", environment=environment, folder=machine) as after:
            second = [verdict(after.url, paths[name], content) for name, content in pictures.items()]
        results[title] = list(zip(first, second, strict=True))
    old, new = results.values()
    print(f"{'picture':26} {'before':10} {'after, with the old function':30} after, with the extension")
    for name, (_, lost), (first_seen, kept) in zip(pictures, old, new, strict=True):
        print(f"{name:26} {first_seen:10} {lost:30} {kept}")
    return all(pair == ("ok", "ok") for pair in new)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="uploads-demo-") as name, S3Server() as server:
        folder = Path(name)
        print("A redeploy: both apps killed, their folders wiped, both started again.\n")
        kept = redeploy_both(server, folder)
        print("\nEvery picture is back." if kept else "\nThe extension lost a picture.")
        if os.environ.get("CI") == "true":
            return 0 if kept else 1
        environment = server.environment(PYTHONPATH=os.pathsep.join([str(HERE / "quickstart"), str(HERE.parent)]))
        with Gunicorn("app:create_app()", environment=environment, folder=folder) as quickstart:
            print(f"\nTry it by hand: {quickstart.url}  (files go to the S3 server at {server.url}; Ctrl-C ends all)")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
        print("\nEverything that was started is gone.")
        return 0


if __name__ == "__main__":
    sys.exit(main())
