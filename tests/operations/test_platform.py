"""Detection of the platform and the instance, and the table of platforms."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flask_persistent_uploads.errors import ConfigError, Problem
from flask_persistent_uploads.operations.platform import LAST_VERIFIED, PLATFORMS, Host, Platform, detect

from ..servers import ROOT, clean_environment

BY_ID = {platform.id: platform for platform in PLATFORMS}

# The environment of a running instance on each platform.
RUNNING: dict[str, dict[str, str]] = {
    "render": {
        "RENDER": "true",
        "RENDER_SERVICE_ID": "srv-1",
        "RENDER_INSTANCE_ID": "srv-1-a1",
        "RENDER_GIT_COMMIT": "c0ffee",
    },
    "koyeb": {
        "KOYEB_SERVICE_ID": "s1",
        "KOYEB_APP_NAME": "shop",
        "KOYEB_INSTANCE_ID": "i1",
        "KOYEB_REGIONAL_DEPLOYMENT_ID": "d1",
    },
    "heroku": {"DYNO": "web.1"},
    "railway": {"RAILWAY_ENVIRONMENT_ID": "e1", "RAILWAY_REPLICA_ID": "r1", "RAILWAY_DEPLOYMENT_ID": "d1"},
    "fly": {"FLY_APP_NAME": "shop", "FLY_MACHINE_ID": "m1", "FLY_MACHINE_VERSION": "v1"},
    "cloud-run": {"K_SERVICE": "shop", "K_REVISION": "shop-00001", "K_CONFIGURATION": "shop"},
    "azure": {"WEBSITE_SITE_NAME": "shop", "WEBSITE_INSTANCE_ID": "i1"},
    "vercel": {"VERCEL": "1", "VERCEL_DEPLOYMENT_ID": "dpl_1"},
    "lambda": {"AWS_LAMBDA_FUNCTION_NAME": "shop", "AWS_LAMBDA_LOG_STREAM_NAME": "2026/11/21/[$LATEST]a1"},
    "kubernetes": {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root folder of a machine that is not a container."""
    boot = tmp_path / "root" / "proc" / "sys" / "kernel" / "random"
    boot.mkdir(parents=True)
    (boot / "boot_id").write_text("5c0bd0a6-boot\n")
    return tmp_path / "root"


@pytest.mark.parametrize(
    ("variable", "platform"),
    [
        ("RENDER", "render"),
        ("KOYEB_SERVICE_ID", "koyeb"),
        ("KOYEB_APP_NAME", "koyeb"),
        ("DYNO", "heroku"),
        ("RAILWAY_ENVIRONMENT_ID", "railway"),
        ("FLY_MACHINE_ID", "fly"),
        ("FLY_APP_NAME", "fly"),
        ("K_SERVICE", "cloud-run"),
        ("CLOUD_RUN_JOB", "cloud-run"),
        ("WEBSITE_SITE_NAME", "azure"),
        ("VERCEL", "vercel"),
        ("AWS_LAMBDA_FUNCTION_NAME", "lambda"),
        ("KUBERNETES_SERVICE_HOST", "kubernetes"),
    ],
)
def test_one_variable_is_enough_to_detect_a_platform(variable: str, platform: str, root: Path) -> None:
    assert detect({variable: "x"}, root=root).platform.id == platform
    assert detect({variable: ""}, root=root).platform.id == "machine"


def test_the_test_above_covers_every_variable_of_the_table() -> None:
    (mark,) = (
        mark
        for mark in test_one_variable_is_enough_to_detect_a_platform.pytestmark  # type: ignore[attr-defined]
        if mark.name == "parametrize"
    )
    assert set(mark.args[1]) == {(name, platform.id) for platform in PLATFORMS for name in platform.known_by}


@pytest.mark.parametrize("environ", [{}, {"HOME": "/root"}, {"IS_PULL_REQUEST": "false"}, {"PORT": "10000"}])
def test_other_variables_do_not_suggest_a_platform(environ: dict[str, str], root: Path) -> None:
    host = detect(environ, root=root)
    assert (host.platform.id, host.names, host.doubt, host.building) == ("machine", ("5c0bd0a6-boot",), None, False)


@pytest.mark.parametrize("platform", [name for name in RUNNING if name != "kubernetes"])
def test_a_platform_wins_over_the_docker_or_kubernetes_that_it_runs_on(platform: str, root: Path) -> None:
    (root / ".dockerenv").touch()
    on_kubernetes = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", **RUNNING[platform]}
    assert detect(on_kubernetes, root=root).platform.id == platform
    assert detect(RUNNING["kubernetes"], root=root).platform.id == "kubernetes"


def test_the_first_platform_in_the_table_wins(root: Path) -> None:
    for number, first in enumerate(RUNNING):
        for second in list(RUNNING)[number + 1 :]:
            assert detect({**RUNNING[second], **RUNNING[first]}, root=root).platform.id == first


@pytest.mark.parametrize("file", [".dockerenv", "run/.containerenv"])
def test_a_container_is_detected_by_a_file_in_its_root(file: str, root: Path) -> None:
    (root / file).parent.mkdir(exist_ok=True)
    (root / file).touch()
    assert detect({}, root=root).platform.id == "docker"


def test_uploads_platform_overrides_the_detection(root: Path) -> None:
    for platform in PLATFORMS:
        assert detect(RUNNING["render"], f" {platform.id.upper()} ", root=root).platform is platform
    assert detect(RUNNING["render"], "", root=root).platform.id == "render"


def test_an_unknown_platform_is_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        detect({}, "rendr", variable="DOCUMENTS_PLATFORM")
    (problem,) = caught.value.problems
    assert problem == Problem(
        "DOCUMENTS_PLATFORM is 'rendr'. There is no such platform.",
        f"Set it to one of {', '.join(BY_ID)}.",
        "DOCUMENTS_PLATFORM",
    )


@pytest.mark.parametrize("value", ["eu: west", 'a "b"', "a\nb", "{x}", "it's"])
def test_a_wrong_platform_is_repeated_unaltered(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        detect({}, value)
    (problem,) = caught.value.problems
    assert problem.message == f"UPLOADS_PLATFORM is {value!r}. There is no such platform."
    assert problem.remedy.startswith("Set it to one of ")
    assert "\n" not in str(problem)


def test_a_variable_that_may_have_been_set_by_hand_raises_a_doubt(root: Path) -> None:
    assert detect({"RENDER": "true"}, root=root, variable="DOCUMENTS_PLATFORM").doubt == Problem(
        "RENDER suggests Render, but RENDER_SERVICE_ID is not set.",
        "If the app does not run on Render, remove RENDER, or set DOCUMENTS_PLATFORM=machine.",
        "DOCUMENTS_PLATFORM",
    )
    azure = detect({"WEBSITE_SITE_NAME": "x"}, root=root)
    assert azure.doubt is not None
    assert azure.doubt.message == "WEBSITE_SITE_NAME suggests Azure App Service, but WEBSITE_INSTANCE_ID is not set."


def test_a_release_command_on_fly_counts_as_building(root: Path) -> None:
    assert detect({**RUNNING["fly"], "RELEASE_COMMAND": "1"}, root=root).building
    assert not detect({**RUNNING["fly"], "RELEASE_COMMAND": ""}, root=root).building
    assert not detect({**RUNNING["heroku"], "RELEASE_COMMAND": "1"}, root=root).building


def test_a_platform_set_by_hand_is_marked_as_stated(root: Path) -> None:
    assert detect({}, "docker", root=root).stated
    assert not detect(RUNNING["render"], root=root).stated


def test_the_log_shows_the_names_and_the_id_of_an_instance(root: Path) -> None:
    host = detect(RUNNING["fly"], root=root)
    assert str(host) == f"m1 v1 ({host.id})"


def test_a_complete_environment_or_a_stated_platform_raises_no_doubt(root: Path) -> None:
    for platform, environ in RUNNING.items():
        assert detect(environ, root=root).doubt is None, platform
    for name in BY_ID:
        assert detect({"RENDER": "true"}, name, root=root).doubt is None


def test_render_without_an_instance_id_counts_as_building(root: Path) -> None:
    service = {"RENDER": "true", "RENDER_SERVICE_ID": "srv-1"}
    assert detect(service, root=root).building
    assert detect({**service, "RENDER_INSTANCE_ID": ""}, root=root).building
    assert not detect({**service, "RENDER_INSTANCE_ID": "srv-1-a"}, root=root).building
    assert not detect({"RENDER": "true"}, root=root).building, "RENDER alone may have been set by hand"
    assert not any(detect(environ, root=root).building for environ in RUNNING.values())


# -- the id of a host


def test_all_processes_of_an_instance_have_the_same_id() -> None:
    script = "import os; from flask_persistent_uploads.operations.platform import detect; print(detect(os.environ).id)"
    for environ in (RUNNING["render"], {"UPLOADS_PLATFORM": ""}):
        command = [sys.executable, "-c", script]
        seen = {
            subprocess.check_output(
                command, env=clean_environment(PYTHONPATH=str(ROOT), PYTHONHASHSEED=seed, **environ), text=True
            ).strip()
            for seed in ("1", "2")
        }
        assert seen == {detect(environ).id}


@pytest.mark.parametrize(
    ("platform", "variable"),
    [(platform.id, variable) for platform in PLATFORMS for variable in platform.instance],
)
def test_another_instance_or_deploy_has_a_different_id(platform: str, variable: str, root: Path) -> None:
    here = {**dict.fromkeys(BY_ID[platform].instance, "1"), BY_ID[platform].known_by[0]: "1"}
    other = {**here, variable: "2"}
    assert detect(here, root=root).id != detect(other, root=root).id
    assert detect(here, root=root).id == detect({**here, "PORT": "1"}, root=root).id


def test_names_with_the_same_concatenation_have_different_ids() -> None:
    render, fly = BY_ID["render"], BY_ID["fly"]
    ids = [Host(render, names).id for names in (("ab", "c"), ("a", "bc"), ("abc",))]
    assert len({*ids, Host(fly, ("abc",)).id}) == 4


def test_an_unnamed_instance_uses_its_host_name_and_a_machine_its_boot_id(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "pod-7f9c")
    assert detect({"DYNO": "web.1"}, root=root).names == ("pod-7f9c",), "it is web.1 after every restart"
    assert detect(RUNNING["kubernetes"], root=root).names == ("pod-7f9c",)
    assert detect({}, "docker", root=root).names == ("pod-7f9c",)
    assert detect({}, "machine", root=root).names == ("5c0bd0a6-boot",)
    assert detect({}, "machine", root=root / "without-proc").names == ("pod-7f9c",)


def test_the_kind_of_a_machine_survives_restarts_and_differs_between_machines(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "etc").mkdir()
    (root / "etc" / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    before = detect({}, root=root)
    (root / "proc/sys/kernel/random/boot_id").write_text("after-a-restart\n")
    after = detect({}, root=root)
    assert (before.kind, before.id != after.id) == (after.kind, True)
    assert before.kind.startswith("machine ")
    assert "0123" not in before.kind, "machine-id(5): the id must not be exposed"
    (root / "etc" / "machine-id").write_text("of another\n")
    assert detect({}, root=root).kind not in {before.kind, "machine "}
    (root / "etc" / "machine-id").unlink()
    kinds = set()
    for name in ("db-1", "db-2"):
        monkeypatch.setattr("socket.gethostname", lambda name=name: name)
        kinds.add(detect({}, root=root).kind)
    assert len(kinds) == 2


def test_all_instances_of_a_platform_have_the_same_kind(root: Path) -> None:
    (root / "etc").mkdir()
    for platform, environ in RUNNING.items():
        for identity in ("one", "two"):
            (root / "etc" / "machine-id").write_text(identity)
            assert detect(environ, root=root).kind == platform


def test_an_id_reveals_nothing_of_the_environment(root: Path) -> None:
    for environ in RUNNING.values():
        host = detect({name: f"beef{number}" for number, name in enumerate(environ)}, root=root)
        assert len(host.id) == 12
        assert set(host.id) <= set("0123456789abcdef")
        assert "beef" not in host.id


# -- the table


def facts(platform: Platform) -> tuple[object, ...]:
    return (
        platform.wiped,
        platform.volumes,
        platform.shared,
        platform.max_body,
        platform.max_seconds,
        platform.idle_seconds,
        platform.stop_signal,
        platform.stop_seconds,
        set(platform.unverified),
    )


MB, MIB = 10**6, 2**20


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("render", (True, True, False, None, None, 15 * 60, "SIGTERM", 30, set())),
        ("koyeb", (True, True, False, None, 100, 5 * 60, "SIGTERM", None, {"max_seconds", "shared"})),
        ("heroku", (True, False, None, None, 30, 30 * 60, "SIGTERM", 30, {"idle_seconds", "stop_seconds"})),
        ("railway", (True, True, False, None, 5 * 60, 10 * 60, "SIGTERM", 0, set())),
        ("fly", (True, True, False, None, 60, None, "SIGINT", 5, {"max_seconds", "releasing"})),
        ("cloud-run", (True, False, True, 32 * MIB, 300, None, "SIGTERM", 10, {"max_seconds", "stop_seconds"})),
        ("azure", (True, False, True, None, 230, None, "SIGTERM", None, set())),
        ("vercel", (True, False, None, 4_500_000, 300, None, "SIGTERM", None, {"instance"})),
        ("lambda", (True, False, True, 6 * MB, 29, None, "SIGTERM", None, {"max_body"})),
        ("app-runner", (True, False, None, None, 120, None, "SIGTERM", None, set())),
        ("digitalocean", (True, False, None, None, 100, None, "SIGTERM", None, set())),
        ("kubernetes", (True, True, None, None, None, None, "SIGTERM", 30, {"stop_seconds"})),
        ("docker", (True, True, None, None, None, None, "SIGTERM", 10, {"stop_seconds"})),
        ("machine", (False, True, None, None, None, None, "SIGTERM", None, set())),
    ],
)
def test_the_table_matches_the_documentation_of_the_vendors(platform: str, expected: tuple[object, ...]) -> None:
    *values, unverified = facts(BY_ID[platform])
    *expected_values, at_least = expected
    assert values == expected_values
    assert isinstance(unverified, set)
    assert isinstance(at_least, set)
    assert at_least <= unverified


def test_the_table_is_consistent() -> None:
    assert len(BY_ID) == len(PLATFORMS)
    assert len(LAST_VERIFIED) == len("2026-11")
    for platform in PLATFORMS:
        assert platform.unverified <= set(Platform.__dataclass_fields__), platform.id
        assert platform.wiped or platform.id == "machine"
        assert (platform.volume is None) or platform.volumes or platform.shared, platform.id
    assert [one.id for one in PLATFORMS if not one.known_by] == ["app-runner", "digitalocean", "docker", "machine"]
    assert BY_ID["railway"].volume_path == "RAILWAY_VOLUME_MOUNT_PATH"
    assert {one.id: one.volume_at for one in PLATFORMS if one.volume_at} == {"azure": "/home"}


def test_detection_writes_no_files(root: Path) -> None:
    before = sorted(root.rglob("*"))
    detect(os.environ, root=root)
    assert sorted(root.rglob("*")) == before
