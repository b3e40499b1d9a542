"""Which host this is, which of its instances, and what is known of such hosts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flask_persistent_uploads import ConfigError
from flask_persistent_uploads.operations.platform import PLATFORMS, READ, Host, Platform, detect

from ..servers import ROOT, clean_environment

BY_ID = {platform.id: platform for platform in PLATFORMS}

# What a running instance of each has in its environment.
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
    """The root of a machine that is no container."""
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
def test_each_platform_is_known_by_its_variable_alone(variable: str, platform: str, root: Path) -> None:
    assert detect({variable: "x"}, root=root).platform.id == platform
    assert detect({variable: ""}, root=root).platform.id == "machine"


def test_every_variable_of_the_table_is_in_the_test_above() -> None:
    (mark,) = (
        mark
        for mark in test_each_platform_is_known_by_its_variable_alone.pytestmark  # type: ignore[attr-defined]
        if mark.name == "parametrize"
    )
    assert set(mark.args[1]) == {(name, platform.id) for platform in PLATFORMS for name in platform.known_by}


@pytest.mark.parametrize("environ", [{}, {"HOME": "/root"}, {"IS_PULL_REQUEST": "false"}, {"PORT": "10000"}])
def test_what_says_nothing_is_a_plain_machine(environ: dict[str, str], root: Path) -> None:
    host = detect(environ, root=root)
    assert (host.platform.id, host.names, host.doubt, host.building) == ("machine", ("5c0bd0a6-boot",), None, False)


@pytest.mark.parametrize("platform", [name for name in RUNNING if name != "kubernetes"])
def test_the_specific_comes_before_what_it_runs_on(platform: str, root: Path) -> None:
    (root / ".dockerenv").touch()
    on_kubernetes = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", **RUNNING[platform]}
    assert detect(on_kubernetes, root=root).platform.id == platform
    assert detect(RUNNING["kubernetes"], root=root).platform.id == "kubernetes"


def test_of_two_the_one_that_comes_first_in_the_table_counts(root: Path) -> None:
    for number, first in enumerate(RUNNING):
        for second in list(RUNNING)[number + 1 :]:
            assert detect({**RUNNING[second], **RUNNING[first]}, root=root).platform.id == first


@pytest.mark.parametrize("file", [".dockerenv", "run/.containerenv"])
def test_a_container_is_known_by_its_file(file: str, root: Path) -> None:
    (root / file).parent.mkdir(exist_ok=True)
    (root / file).touch()
    assert detect({}, root=root).platform.id == "docker"


def test_uploads_platform_wins_over_what_the_environment_says(root: Path) -> None:
    for platform in PLATFORMS:
        assert detect(RUNNING["render"], f" {platform.id.upper()} ", root=root).platform is platform
    assert detect(RUNNING["render"], "", root=root).platform.id == "render"


def test_an_unknown_uploads_platform_is_refused_with_all_that_are_known() -> None:
    with pytest.raises(ConfigError) as caught:
        detect({}, "rendr")
    (problem,) = caught.value.problems
    assert problem.startswith("UPLOADS_PLATFORM is 'rendr'")
    with pytest.raises(ConfigError, match="DOCUMENTS_PLATFORM is 'rendr'"):
        detect({}, "rendr", variables="DOCUMENTS_")
    assert [name for name in BY_ID if name not in problem.partition("one of")[2]] == []


def test_a_variable_that_somebody_set_by_hand_is_doubted(root: Path) -> None:
    assert detect({"RENDER": "true"}, root=root).doubt == "RENDER claims Render, but RENDER_SERVICE_ID is not set"
    azure = detect({"WEBSITE_SITE_NAME": "x"}, root=root)
    assert azure.doubt == "WEBSITE_SITE_NAME claims Azure App Service, but WEBSITE_INSTANCE_ID is not set"


def test_a_release_command_on_fly_is_no_running_app(root: Path) -> None:
    assert detect({**RUNNING["fly"], "RELEASE_COMMAND": "1"}, root=root).building
    assert not detect({**RUNNING["fly"], "RELEASE_COMMAND": ""}, root=root).building
    assert not detect({**RUNNING["heroku"], "RELEASE_COMMAND": "1"}, root=root).building


def test_a_platform_that_somebody_set_is_told_from_one_that_was_seen(root: Path) -> None:
    assert detect({}, "docker", root=root).stated
    assert not detect(RUNNING["render"], root=root).stated


def test_the_log_names_an_instance_by_its_names_and_its_id(root: Path) -> None:
    host = detect(RUNNING["fly"], root=root)
    assert str(host) == f"m1 v1 ({host.id})"


def test_nothing_is_doubted_on_a_platform_or_where_it_was_named(root: Path) -> None:
    for platform, environ in RUNNING.items():
        assert detect(environ, root=root).doubt is None, platform
    for name in BY_ID:
        assert detect({"RENDER": "true"}, name, root=root).doubt is None


def test_without_its_instance_an_app_on_render_is_being_built(root: Path) -> None:
    service = {"RENDER": "true", "RENDER_SERVICE_ID": "srv-1"}
    assert detect(service, root=root).building
    assert detect({**service, "RENDER_INSTANCE_ID": ""}, root=root).building
    assert not detect({**service, "RENDER_INSTANCE_ID": "srv-1-a"}, root=root).building
    assert not detect({"RENDER": "true"}, root=root).building, "a laptop builds nothing"
    assert not any(detect(environ, root=root).building for environ in RUNNING.values())


# -- the id of a host


def test_every_process_of_an_instance_has_the_same_id() -> None:
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
def test_another_instance_or_deploy_has_another_id(platform: str, variable: str, root: Path) -> None:
    here = {**dict.fromkeys(BY_ID[platform].instance, "1"), BY_ID[platform].known_by[0]: "1"}
    other = {**here, variable: "2"}
    assert detect(here, root=root).id != detect(other, root=root).id
    assert detect(here, root=root).id == detect({**here, "PORT": "1"}, root=root).id


def test_names_that_run_together_do_not_make_the_same_id() -> None:
    render, fly = BY_ID["render"], BY_ID["fly"]
    ids = [Host(render, names).id for names in (("ab", "c"), ("a", "bc"), ("abc",))]
    assert len({*ids, Host(fly, ("abc",)).id}) == 4


def test_without_a_name_of_its_own_an_instance_is_its_host_name_and_a_machine_its_boot(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "pod-7f9c")
    assert detect({"DYNO": "web.1"}, root=root).names == ("pod-7f9c",), "web.1 is called so after every restart"
    assert detect(RUNNING["kubernetes"], root=root).names == ("pod-7f9c",)
    assert detect({}, "docker", root=root).names == ("pod-7f9c",)
    assert detect({}, "machine", root=root).names == ("5c0bd0a6-boot",)
    assert detect({}, "machine", root=root / "without-proc").names == ("pod-7f9c",)


def test_a_machine_stays_the_same_over_its_restarts_and_is_no_other(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "etc").mkdir()
    (root / "etc" / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    before = detect({}, root=root)
    (root / "proc/sys/kernel/random/boot_id").write_text("after-a-restart\n")
    after = detect({}, root=root)
    assert (before.kind, before.id != after.id) == (after.kind, True)
    assert before.kind.startswith("machine ")
    assert "0123" not in before.kind, "machine-id(5): it is not to be shown"
    (root / "etc" / "machine-id").write_text("of another\n")
    assert detect({}, root=root).kind not in {before.kind, "machine "}
    (root / "etc" / "machine-id").unlink()
    kinds = set()
    for name in ("db-1", "db-2"):
        monkeypatch.setattr("socket.gethostname", lambda name=name: name)
        kinds.add(detect({}, root=root).kind)
    assert len(kinds) == 2


def test_the_instances_of_a_platform_are_of_one_kind_whatever_their_machine(root: Path) -> None:
    (root / "etc").mkdir()
    for platform, environ in RUNNING.items():
        for identity in ("one", "two"):
            (root / "etc" / "machine-id").write_text(identity)
            assert detect(environ, root=root).kind == platform


def test_an_id_holds_nothing_of_the_environment(root: Path) -> None:
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
def test_the_table_says_what_the_vendors_say(platform: str, expected: tuple[object, ...]) -> None:
    *values, unverified = facts(BY_ID[platform])
    *expected_values, at_least = expected
    assert values == expected_values
    assert isinstance(unverified, set)
    assert isinstance(at_least, set)
    assert at_least <= unverified


def test_the_table_is_sound() -> None:
    assert len(BY_ID) == len(PLATFORMS)
    assert len(READ) == len("2026-11")
    for platform in PLATFORMS:
        assert platform.unverified <= set(Platform.__dataclass_fields__), platform.id
        assert platform.wiped or platform.id == "machine"
        assert (platform.volume is None) or platform.volumes or platform.shared, platform.id
    assert [one.id for one in PLATFORMS if not one.known_by] == ["app-runner", "digitalocean", "docker", "machine"]
    assert BY_ID["railway"].volume_path == "RAILWAY_VOLUME_MOUNT_PATH"
    assert {one.id: one.volume_at for one in PLATFORMS if one.volume_at} == {"azure": "/home"}


def test_our_own_machine_is_detected_without_being_touched(root: Path) -> None:
    before = sorted(root.rglob("*"))
    detect(os.environ, root=root)
    assert sorted(root.rglob("*")) == before
