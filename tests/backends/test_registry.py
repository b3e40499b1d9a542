"""Which backends exist, which one the settings choose, and what happens if that is not clear."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from flask_persistent_uploads import ConfigError, Problem, backends
from flask_persistent_uploads.backends import registry
from flask_persistent_uploads.backends.memory import MemoryBackend

from ..conftest import BUILTIN, MakeApp, state_of

BUCKET = {"UPLOADS_S3_BUCKET": "photos"}
CLOUD = {"UPLOADS_CLOUDINARY_URL": "cloudinary://key:secret@demo"}

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that registers backends of other packages: ``install(shelf="package.module:Class")``."""

    def install(**targets: str) -> None:
        points = {name: EntryPoint(name, target, registry.ENTRY_POINTS) for name, target in targets.items()}
        monkeypatch.setattr(registry, "registered", lambda: points)

    return install


class Shelf(MemoryBackend):
    name = "shelf"

    def __init__(self, *, room: str, floor: str = "0") -> None:
        super().__init__()
        self.room = room
        self.floor = floor


class NotABackend:
    name = "nothing"


def chosen(environ: dict[str, str], *, uploads: str = "uploads") -> str:
    return backends.choose(backends.read_settings({}, environ, uploads=uploads)).name


def problems_of(environ: dict[str, str], tmp_path: Path, *, uploads: str = "uploads") -> list[Problem]:
    reading = backends.read_settings({}, environ, uploads=uploads)
    with pytest.raises(ConfigError) as caught:
        backends.build(backends.choose(reading), reading.settings, environ={}, instance_path=tmp_path)
    return [*caught.value.problems]


# -- which backends exist


def test_a_new_file_in_the_package_is_a_new_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "drawer.py").write_text(
        "from .memory import MemoryBackend\nclass DrawerBackend(MemoryBackend):\n    name = 'drawer'\n"
    )
    folders = [*backends.__path__, str(tmp_path)]
    monkeypatch.setattr(backends, "__path__", folders)
    monkeypatch.setitem(sys.modules, f"{backends.__name__}.drawer", None)  # removes the module again after the test
    del sys.modules[f"{backends.__name__}.drawer"]
    names = [backend.name for backend in registry.discover(folders, backends.__name__)]
    assert names == [*(backend.name for backend in backends.BUILTIN_BACKENDS), "drawer"]


class PatientShelf(MemoryBackend):
    name = "patient"

    def __init__(self, *, prefix: str, timeout: float, label: str = "") -> None:
        super().__init__()
        self.facts: list[object] = [prefix, timeout, label]


def test_arguments_named_like_common_settings_get_their_values(make_app: MakeApp) -> None:
    settings = {"UPLOADS_BACKEND": f"{__name__}:PatientShelf", "UPLOADS_TIMEOUT": 7, "UPLOADS_PATIENT_LABEL": "low"}
    backend = state_of(make_app(**settings)).backend
    assert isinstance(backend, PatientShelf)
    assert backend.facts == ["uploads", 7, "low"]
    own = state_of(make_app(**settings, UPLOADS_PATIENT_TIMEOUT="3")).backend
    assert isinstance(own, PatientShelf)
    assert own.facts == ["uploads", "3", "low"]


def test_the_package_has_these_backends() -> None:
    names = {backend.name for backend in backends.BUILTIN_BACKENDS}
    assert names >= {"cloudinary", "imagekit", "local", "memory", "s3"}


def test_without_a_description_each_argument_of_the_constructor_is_a_setting(make_app: MakeApp) -> None:
    backend = state_of(
        make_app(UPLOADS_BACKEND=f"{__name__}:Shelf", UPLOADS_SHELF_ROOM="a", UPLOADS_SHELF_FLOOR=2)
    ).backend
    assert isinstance(backend, Shelf)
    assert (backend.room, backend.floor) == ("a", "2")
    assert (backend.variable("room"), backend.variable("other")) == ("UPLOADS_SHELF_ROOM", "other")


def test_an_argument_without_a_default_must_be_set(tmp_path: Path) -> None:
    named = {"DOCUMENTS_BACKEND": f"{__name__}:Shelf"}
    assert problems_of(named, tmp_path, uploads="documents") == [
        Problem("DOCUMENTS_SHELF_ROOM is not set.", "Set it, or set DOCUMENTS_BACKEND=local.", "DOCUMENTS_SHELF_ROOM")
    ]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no.such:Thing", "It cannot be imported (ModuleNotFoundError)."),
        (f"{__name__}:Missing", "It cannot be imported (AttributeError)."),
        (f"{__name__}:NotABackend", "It is not a subclass of Backend with a name."),
        (f"{__name__}:MemoryBackend", "It is registered under another name than its own, 'memory'."),
        ("broken:Thing", "It cannot be imported (ZeroDivisionError)."),
    ],
)
class TestABrokenPackage:
    @pytest.fixture(autouse=True)
    def _broken(self, install: Install, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "broken.py").write_text("1 / 0")
        monkeypatch.syspath_prepend(tmp_path)
        install(shelf=target)

    def test_it_is_only_a_warning_if_nothing_refers_to_it(
        self, make_app: MakeApp, reason: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        make_app()
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert f"Another package registers the backend 'shelf'. {reason} Repair or uninstall it." in warnings

    def test_it_is_only_a_warning_if_another_backend_is_named(self, make_app: MakeApp, reason: str) -> None:
        assert state_of(make_app(UPLOADS_BACKEND="local", UPLOADS_SHELF_ROOM="a")).backend.name == "local"

    def test_it_is_a_problem_if_its_settings_are_set(self, make_app: MakeApp, reason: str) -> None:
        with pytest.raises(ConfigError) as caught:
            make_app(UPLOADS_SHELF_ROOM="a")
        assert caught.value.problems[0].message == f"Another package registers the backend 'shelf'. {reason}"


def test_a_registered_backend_cannot_replace_one_of_this_package(install: Install) -> None:
    install(memory=f"{__name__}:MemoryBackend", local="tests.backends.test_registry:Impostor")
    assert chosen({}) == "local"
    assert backends.read_settings({}, {}).known["local"].__module__ == "flask_persistent_uploads.backends.local"


class Impostor(MemoryBackend):
    name = "local"


def test_a_subclass_of_a_backend_of_this_package_can_be_named(make_app: MakeApp) -> None:
    assert isinstance(state_of(make_app(UPLOADS_BACKEND=f"{__name__}:Impostor")).backend, Impostor)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("s4", "'s4'. There is no such backend."),
        ("no.such:Thing", "'no.such:Thing'. It cannot be imported (ImportStringError)."),
        (f"{__name__}:NotABackend", f"'{__name__}:NotABackend'. It is not a subclass of Backend with a name."),
        ("user:password@host", "not valid. There is no such backend."),
        (":", "':'. There is no such backend."),
        ("..backends:Memory", "'..backends:Memory'. There is no such backend."),
    ],
)
def test_an_unusable_name_is_reported_with_the_choices(name: str, reason: str, install: Install) -> None:
    install(shelf=f"{__name__}:Shelf")
    reading = backends.read_settings({}, {"UPLOADS_BACKEND": name})
    assert reading.problems == (
        Problem(
            f"UPLOADS_BACKEND is {reason}",
            f"Set it to {BUILTIN}, shelf or module:Class.",
            "UPLOADS_BACKEND",
        ),
    )
    with pytest.raises(ConfigError) as caught:
        backends.choose(reading)
    assert caught.value.problems == reading.problems


# -- which one is chosen


@pytest.mark.parametrize(
    ("environ", "backend"),
    [
        ({}, "local"),
        ({"MEDIA_ROOT": "media", "S3_BUCKET_NAME": "photos"}, "s3"),
        ({"UPLOADS_DIR": "media", "S3_BUCKET_NAME": "photos"}, "s3"),
        ({**BUCKET, "CLOUDINARY_URL": "cloudinary://key:secret@demo"}, "s3"),
        ({**CLOUD, "BUCKET_NAME": "photos"}, "cloudinary"),
        ({**BUCKET, **CLOUD, "UPLOADS_BACKEND": "CLOUDINARY"}, "cloudinary"),
    ],
)
def test_a_name_of_the_extension_wins_over_a_native_name(environ: dict[str, str], backend: str) -> None:
    assert chosen(environ) == backend


@pytest.mark.parametrize(
    ("environ", "backend"),
    [
        ({"S3_BUCKET_NAME": "photos"}, "s3"),
        ({"S3_BUCKET_NAME": "photos", "OLD_DIR": "old"}, "local"),
        ({"S3_BUCKET_NAME": "photos", "MEDIA_ROOT": "media"}, "s3"),
        ({"S3_BUCKET_NAME": "photos", "OLD_DIR": "old", "OLD_S3_BUCKET": "old"}, "s3"),
        ({"S3_BUCKET_NAME": "photos", "OLD_DIR": "old", "OLD_CLOUDINARY_URL": "cloudinary://k:s@c"}, "cloudinary"),
        ({"S3_BUCKET_NAME": "photos", "CLOUDINARY_URL": "cloudinary://k:s@c", "OLD_DIR": "old"}, "local"),
        ({**BUCKET, "CLOUDINARY_API_KEY": "1"}, "local"),
    ],
)
def test_for_another_uploads_its_own_folder_wins_over_a_shared_bucket(environ: dict[str, str], backend: str) -> None:
    assert chosen(environ, uploads="old") == backend


@pytest.mark.parametrize(
    ("environ", "found", "names"),
    [
        (
            {**BUCKET, **CLOUD},
            "UPLOADS_CLOUDINARY_URL (for cloudinary) and UPLOADS_S3_BUCKET (for s3)",
            "cloudinary or s3",
        ),
        (
            {"BUCKET_NAME": "b", "IMAGEKIT_PRIVATE_KEY": "k", "IMAGEKIT_URL_ENDPOINT": "https://ik.io/x"},
            "IMAGEKIT_PRIVATE_KEY (for imagekit) and BUCKET_NAME (for s3)",
            "imagekit or s3",
        ),
        (
            {**BUCKET, **CLOUD, "UPLOADS_IMAGEKIT_PRIVATE_KEY": "k"},
            "UPLOADS_CLOUDINARY_URL (for cloudinary) and UPLOADS_IMAGEKIT_PRIVATE_KEY (for imagekit) and "
            "UPLOADS_S3_BUCKET (for s3)",
            "cloudinary or imagekit or s3",
        ),
    ],
)
def test_several_implied_backends_are_refused(environ: dict[str, str], found: str, names: str, tmp_path: Path) -> None:
    assert problems_of(environ, tmp_path) == [
        Problem(
            f"Several backends are configured at once, by {found}.",
            f"Set UPLOADS_BACKEND to {names}, or remove the variables of the others.",
            "UPLOADS_BACKEND",
        )
    ]


@pytest.mark.parametrize(
    ("uploads", "environ", "source", "needed"),
    [
        ("uploads", {"UPLOADS_S3_REGION": "auto", "UPLOADS_DIR": "a"}, "UPLOADS_S3_REGION", "UPLOADS_S3_BUCKET"),
        ("uploads", {"CLOUDINARY_API_SECRET": "x"}, "CLOUDINARY_API_SECRET", "UPLOADS_CLOUDINARY_CLOUD_NAME"),
        ("old", {"OLD_S3_ENDPOINT_URL": "https://s3.example.com"}, "OLD_S3_ENDPOINT_URL", "OLD_S3_BUCKET"),
        ("old", {"OLD_IMAGEKIT_PUBLIC_KEY": "x"}, "OLD_IMAGEKIT_PUBLIC_KEY", "OLD_IMAGEKIT_PRIVATE_KEY"),
    ],
)
def test_half_an_account_is_refused_with_the_name_of_what_is_missing(
    uploads: str, environ: dict[str, str], source: str, needed: str, tmp_path: Path
) -> None:
    local = f"{uploads.upper()}_BACKEND=local"
    assert problems_of(environ, tmp_path, uploads=uploads) == [
        Problem(f"{source} is set, but {needed} is not.", f"Set {needed} too, or set {local}.", needed)
    ]
    assert chosen({**environ, **dict([local.split("=")])}, uploads=uploads) == "local"


@pytest.mark.parametrize(
    "environ",
    [
        {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "c"},
        {"IMAGEKIT_PUBLIC_KEY": "public"},
        {"CLOUDINARY_API_KEY": "1", "MEDIA_ROOT": "media"},
        {"UPLOADS_CLOUDINARY_PRIVATE": "true", "UPLOADS_IMAGEKIT_PRIVATE": "true"},
    ],
)
def test_variables_that_do_not_show_an_intent_choose_nothing(environ: dict[str, str]) -> None:
    assert chosen(environ) == "local"


def test_the_remedy_for_half_an_account_never_sets_a_native_variable_to_a_backend(tmp_path: Path) -> None:
    *_, problem = problems_of({"UPLOADS_S3_REGION": "auto", "USE_S3": "maybe"}, tmp_path)
    assert problem.remedy == "Set UPLOADS_S3_BUCKET too, or set UPLOADS_BACKEND=local."


@pytest.mark.parametrize("source", [{"UPLOADS_BACKEND": "s3"}, {"USE_S3": "true"}])
def test_the_remedy_for_a_missing_bucket_is_a_value_that_the_variable_accepts(
    source: dict[str, str], tmp_path: Path
) -> None:
    assert problems_of(source, tmp_path) == [
        Problem(
            "UPLOADS_S3_BUCKET (or S3_BUCKET_NAME, AWS_STORAGE_BUCKET_NAME, BUCKET_NAME) is not set.",
            "Set it, or set UPLOADS_BACKEND=local.",
            "UPLOADS_S3_BUCKET",
        )
    ]
