"""What is checked before a file is stored: its size, type and name, and whether they are allowed."""

from __future__ import annotations

import io
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_persistent_uploads import TypeNotAllowed, UploadTooLarge, content_types
from flask_persistent_uploads.intake.validation import Inspected, display_name, inspect, sniff

DOCX = content_types.BY_EXTENSION["docx"]
UNKNOWN = content_types.UNKNOWN

# The first bytes of real files, by their extension.
HEADS = {
    "jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xd9",
    "png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89",
    "gif": b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00",
    "webp": b"RIFF\x24\x00\x00\x00WEBPVP8 \x18\x00\x00\x000\x01\x00\x9d\x01*\x01\x00\x01\x00",
    "avif": b"\x00\x00\x00\x20ftypavif\x00\x00\x00\x00avifmif1miafMA1B",
    "heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic",
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "mp4": b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41\x00\x00\x00\x08free",
    "mov": b"\x00\x00\x00\x14ftypqt  \x00\x00\x02\x00qt  \x00\x00\x00\x08wide",
    "webm": b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webmB\x87\x81\x04",
    "mkv": b"\x1aE\xdf\xa3\xa3B\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x88matroskaB\x87\x81\x04",
    "mp3": b"ID3\x04\x00\x00\x00\x00\x00\x00\xff\xfb\x90\x00",
    "wav": b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00D\xac\x00\x00",
    "ogg": b"OggS\x00\x02" + b"\x00" * 20 + b"\x01\x1e\x01vorbis",
    "docx": b"PK\x03\x04\x14\x00\x00\x00\x08\x00\x00\x00!\x00" + b"\x00" * 12 + b"\x13\x00\x00\x00[Content_Types].xml",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "html": b"<!DOCTYPE html><html><script>alert(1)</script></html>",
    "csv": b"name,amount\nAda,1\n",
    "txt": b"Hello\n",
}
PROVEN = {kind: content_types.BY_EXTENSION[kind] for kind in list(HEADS)[:14]}
UNPROVEN = {kind: content_types.BY_EXTENSION[kind] for kind in list(HEADS)[14:]}
INTERCHANGEABLE = {"image/heic": "image/heif", "image/heif": "image/heif"}


def inspect_sample(kind: str, filename: str, *allow: str) -> Inspected:
    return inspect(io.BytesIO(HEADS[kind]), filename, allow=allow, max_size=1000)


# -- type and extension


@pytest.mark.parametrize("kind", HEADS)
def test_a_file_with_a_true_name_keeps_its_type_and_extension(kind: str) -> None:
    for name in (f"a.{kind}", f"A.B.{kind.upper()}"):
        assert inspect_sample(kind, name) == Inspected(name, content_types.BY_EXTENSION[kind], kind, len(HEADS[kind]))


@pytest.mark.parametrize(("kind", "content_type"), PROVEN.items())
@pytest.mark.parametrize("filename", ["blob", "", "photo.unheard", ".png", "photo.jpg", "clip.pdf"])
def test_the_bytes_correct_a_name_that_claims_another_type(kind: str, content_type: str, filename: str) -> None:
    found = inspect_sample(kind, filename)
    assert INTERCHANGEABLE.get(found.content_type, found.content_type) == INTERCHANGEABLE.get(
        content_type, content_type
    )
    assert content_types.BY_EXTENSION[found.extension] == found.content_type


@pytest.mark.parametrize("kind", UNPROVEN)
def test_text_and_containers_prove_no_type(kind: str) -> None:
    assert sniff(HEADS[kind]) is None
    assert inspect_sample(kind, "blob") == Inspected("blob", UNKNOWN, "", len(HEADS[kind]))


@pytest.mark.parametrize("kind", UNPROVEN)
def test_a_provable_type_that_the_bytes_do_not_prove_is_not_believed(kind: str) -> None:
    assert inspect_sample(kind, "photo.jpg").content_type == UNKNOWN
    assert inspect_sample(kind, "clip.mp4").content_type == UNKNOWN


@pytest.mark.parametrize("kind", PROVEN)
@pytest.mark.parametrize("filename", ["a.svg", "a.html", "a.csv", "a.docx"])
def test_the_type_is_unknown_if_the_bytes_contradict_an_unprovable_name(kind: str, filename: str) -> None:
    assert inspect_sample(kind, filename).content_type == UNKNOWN


def test_extensions_of_one_family_are_kept() -> None:
    assert inspect_sample("jpg", "a.JPEG").extension == "jpeg"
    assert inspect_sample("mp4", "a.m4v").extension == "m4v"
    assert inspect_sample("mp4", "a.mov") == Inspected("a.mov", "video/quicktime", "mov", len(HEADS["mp4"]))
    assert inspect_sample("heic", "a.heif").extension == "heif"


PICTURES = [b"avif", b"heic", b"heix", b"mif1"]
VIDEOS = [b"isom", b"mp42", b"M4V ", b"qt  ", b"iso5", b"iso6", b"avc1"]


@pytest.mark.parametrize("length", [24, 28, 32])
@pytest.mark.parametrize("brand", PICTURES + VIDEOS)
def test_the_brand_of_a_container_distinguishes_pictures_from_videos(brand: bytes, length: int) -> None:
    compatible = (b"mif1heic" if brand == b"mif1" else brand * 2) + brand * 2
    found = sniff(
        length.to_bytes(4, "big") + b"ftyp" + brand + bytes(4) + compatible[: length - 16] + b"\0\0\0\x08free"
    )
    assert found is not None
    assert found.startswith("image/" if brand in PICTURES else "video/")


@pytest.mark.parametrize("form", [b"AVI LIST", b"WAVEfmt ", b"ACONLIST", b"RMIDdata"])
def test_a_riff_container_is_a_picture_only_if_it_contains_webp(form: bytes) -> None:
    head = b"RIFF\x24\x00\x00\x00" + form + bytes(16)
    assert sniff(head) != "image/webp"
    with pytest.raises(TypeNotAllowed):
        inspect(io.BytesIO(head), "photo.webp", allow=("image/*",), max_size=1000)


@pytest.mark.parametrize("frame", [b"\xff\xfb\x90\x00", b"\xff\xfa\x90\x00", b"\xff\xf3\x44\xc4"])
def test_an_mp3_is_recognised_without_a_tag(frame: bytes) -> None:
    assert sniff(frame + bytes(100)) == "audio/mpeg"


@given(st.binary(max_size=200), st.sampled_from(list(HEADS.values())))
def test_any_bytes_have_a_known_type_or_none(tail: bytes, head: bytes) -> None:
    for data in (tail, head + tail, tail + head):
        assert sniff(data) in {None, "image/heif", "image/tiff", "audio/mp4", *PROVEN.values()}


def test_an_empty_file_is_accepted_if_its_type_need_not_be_proven() -> None:
    assert inspect(io.BytesIO(), "a.txt", max_size=1) == Inspected("a.txt", "text/plain", "txt", 0)
    assert inspect(io.BytesIO(), "a.png", max_size=1).content_type == UNKNOWN
    with pytest.raises(TypeNotAllowed):
        inspect(io.BytesIO(), "a.png", allow=("image/*",), max_size=1)


@pytest.mark.parametrize(
    "filename", ["a.x y", "a.x,%", "a.é", "a.日本", "a.b?c=d", 'a."x"', "a. final version", "a." + "x" * 100]
)
def test_an_unusual_extension_does_not_reach_the_key(filename: str) -> None:
    assert re.fullmatch(r"([a-z0-9]{1,16})?", inspect_sample("txt", filename).extension)


# -- what is allowed


@pytest.mark.parametrize(
    ("kind", "filename", "allow"),
    [
        *[(kind, "blob", "image/*") for kind in ("jpg", "png", "gif", "webp", "avif", "heic")],
        *[(kind, f"a.{kind}", "video/*") for kind in ("mp4", "mov", "webm", "mkv")],
        *[(kind, f"a.{kind}", "audio/*") for kind in ("mp3", "wav", "ogg")],
        *[(kind, f"a.{kind}", f".{kind}") for kind in HEADS],
        *[(kind, f"a.{kind}", content_type) for kind, content_type in (PROVEN | UNPROVEN).items()],
        ("png", "photo.jpg", "image/png"),
        ("pdf", "blob", "application/pdf"),
        ("csv", "a.CSV", "text/*"),
        ("docx", "a.docx", DOCX),
    ],
)
def test_an_allowed_file_passes(kind: str, filename: str, allow: str) -> None:
    assert (
        inspect_sample(kind, filename, allow)
        == inspect_sample(kind, filename, ".nothing", allow)
        == inspect_sample(kind, filename)
    )


@pytest.mark.parametrize(
    ("kind", "filename", "allow"),
    [
        *[
            (kind, f"a.{kind}", "image/*")
            for kind in HEADS
            if not content_types.BY_EXTENSION[kind].startswith("image/")
        ],
        *[(kind, "photo.jpg", "image/*") for kind in UNPROVEN],
        *[(kind, "photo.jpg", ".jpg") for kind in HEADS if kind != "jpg"],
        *[(kind, "a.pdf", "application/pdf") for kind in HEADS if kind != "pdf"],
        ("svg", "a.svg", "image/*"),
        ("svg", "a.png", "image/*"),
        ("png", "a.svg", ".svg"),
        ("gif", "a.csv", ".csv"),
        ("pdf", "a.docx", ".docx"),
        ("docx", "a.zip", ".docx"),
        ("txt", "a.txt.csv", ".txt"),
        ("csv", "csv", ".csv"),
        ("html", "a.png.html", ".png"),
        ("html", "a.mp4", "video/*"),
        ("html", "a.mp3", "audio/*"),
    ],
)
def test_a_forbidden_file_is_refused_with_the_allowed_types(kind: str, filename: str, allow: str) -> None:
    stream = io.BytesIO(HEADS[kind])
    with pytest.raises(TypeNotAllowed) as caught:
        inspect(stream, filename, allow=(allow, ".nothing"), max_size=1000, field="photo")
    assert caught.value.description == f"The type of '{filename}' is not allowed. Allowed types: {allow}, .nothing."
    assert (caught.value.field, caught.value.filename) == ("photo", filename)
    assert stream.tell() == 0


# -- size and stream


def test_a_file_may_have_as_many_bytes_as_the_limit_and_no_more() -> None:
    assert inspect(io.BytesIO(b"x" * 5000), "a.txt", max_size=5000).size == 5000
    with pytest.raises(UploadTooLarge) as caught:
        inspect(io.BytesIO(b"x" * 5001), "C:\\a.txt", max_size=5000, field="report")
    assert caught.value.description == "'a.txt' is too large. A file may have at most 5 kB."
    assert (caught.value.field, caught.value.filename) == ("report", "a.txt")


def test_a_stream_is_inspected_from_its_start_and_left_there() -> None:
    stream = io.BytesIO(HEADS["png"])
    stream.seek(7)
    assert inspect(stream, "a.png", max_size=1000).size == len(HEADS["png"])
    assert stream.read() == HEADS["png"]


def test_a_stream_that_is_too_large_is_left_at_its_start() -> None:
    stream = io.BytesIO(b"x" * 11)
    with pytest.raises(UploadTooLarge):
        inspect(stream, "a.txt", max_size=10)
    assert stream.tell() == 0


# -- names


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("C:\\fakepath\\x.png", "x.png"),
        ("../../etc/passwd", "passwd"),
        ("a/b\\c.png", "c.png"),
        ("x\u202egnp.exe", "x gnp.exe"),
        ("a\0.png", "a .png"),
        ("a\x1b[2J.png", "a [2J.png"),
        ("a\r\nX: 1.png", "a X: 1.png"),
        ("a\u2028b\u2029.png", "a b .png"),
        ("\ufeffa\u200b.png", "a .png"),
        ("a\ud800.png", "a .png"),
        ("  EVENT   3.webp ", "EVENT 3.webp"),
        ("Cafe\u0301 图片 😀.png", "Café 图片 😀.png"),
        ("", ""),
        ("a/", ""),
    ],
)
def test_a_name_is_shown_without_folders_and_invisible_characters(filename: str, shown: str) -> None:
    assert display_name(filename) == shown


@given(st.text(st.characters(), max_size=400))
def test_any_name_becomes_safe_to_show_and_to_keep(filename: str) -> None:
    shown = display_name(filename)
    assert len(shown.encode()) <= 255
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert "/" not in shown
    assert "\\" not in shown


def test_a_long_name_is_cut_between_characters() -> None:
    assert display_name("é" * 200) == "é" * 127


def test_a_long_name_keeps_its_extension() -> None:
    assert inspect_sample("csv", "x" * 300 + ".csv", ".csv").extension == "csv"
