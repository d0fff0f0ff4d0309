"""The compose file, the images and what is provisioned: they fit together and the checkout."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from support.promtool import needs_promtool
from tocsin_alerting.cli.commands import up
from tocsin_inference import settings

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
PROVISIONED = ROOT / "docker" / "grafana" / "provisioning"
MONITORING = {"prometheus", "grafana"}


V1 = Path("/usr/bin/docker-compose")  # Debian 12's


def overrides() -> list[str]:
    """Those that the documentation shows."""
    return re.findall(r"(?s)```yaml\n(.*?)```", (ROOT / "docs" / "compose.md").read_text())


def test_docker_compose_1_29_takes_it_and_every_override(tmp_path: Path) -> None:
    said = (
        subprocess.run([V1, "version", "--short"], capture_output=True, text=True)
        if V1.exists()
        else None
    )
    if said is None or not said.stdout.startswith("1."):
        pytest.skip("docker-compose 1.29 is not installed")
    for text in ["", *overrides()]:
        override = tmp_path / "override.yml"
        override.write_text(text or "services: {agent: {mem_limit: 1g}}")
        command = [str(V1), "-f", "docker-compose.yml", "-f", str(override)]
        command += ["--profile", "monitoring", "config", "-q"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), text


def test_the_schema_of_the_compose_specification_takes_it() -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"
    if not checker.exists():
        pytest.skip("check-jsonschema is not installed")
    command = [str(checker), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The configuration as docker-compose resolves it, with every profile."""
    binary = Path(sys.executable).parent / "docker-compose"
    if not binary.exists():
        pytest.skip("docker-compose is not installed")
    command = [str(binary), "--profile", "*", "config", "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "it warns"
    return dict(json.loads(done.stdout))


def bind_mounts(service: dict[str, Any]) -> dict[PurePosixPath, Path]:
    return {
        PurePosixPath(mount["target"]): Path(mount["source"])
        for mount in service["volumes"]
        if mount["type"] == "bind"
    }


def test_agent_and_worker_start_by_default_and_monitoring_by_its_profile(
    compose: dict[str, Any],
) -> None:
    profiles = {name: one.get("profiles") for name, one in compose["services"].items()}
    assert profiles == {"agent": None, "worker": None} | dict.fromkeys(MONITORING, ["monitoring"])


def test_every_service_is_on_loopback_and_hardened(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert {port["host_ip"] for port in service["ports"]} == {"127.0.0.1"}, name
        assert not re.search("(?i)password|secret|token", json.dumps(service.get("environment")))


def test_every_mounted_file_is_in_the_checkout(compose: dict[str, Any]) -> None:
    sources = [s for one in compose["services"].values() for s in bind_mounts(one).values()]
    assert len(sources) >= 5
    for source in sources:
        assert source.exists(), source
        assert source.is_relative_to(ROOT)


def test_the_commands_are_ones_that_our_programs_take(compose: dict[str, Any]) -> None:
    command = compose["services"]["agent"]["command"]
    assert command[0] == "up"
    chosen = up.make_context("up", command[1:]).params
    assert chosen["engine_urls"] == ("http://worker:8000",) and chosen["no_worker"]
    assert chosen["storage_path"] == "/data"
    command = compose["services"]["worker"]["command"]
    assert command[0] == "worker"
    _, served = settings.read(command[1:], {}, "tocsin worker")
    assert (served.host, served.port) == ("0.0.0.0", 8000)


def test_the_agent_knows_the_name_by_which_grafana_asks_it(compose: dict[str, Any]) -> None:
    sources = yaml.safe_load((PROVISIONED / "datasources" / "tocsin.yml").read_text())
    asked = {urlsplit(source["url"]).hostname for source in sources["datasources"]}
    command = compose["services"]["agent"]["command"]
    mounted = {
        str(inside): one for inside, one in bind_mounts(compose["services"]["agent"]).items()
    }
    config = yaml.safe_load(Path(mounted[command[command.index("--config.file") + 1]]).read_text())
    assert set(config["web"]["allow_hosts"]) == asked & set(compose["services"]) - {"prometheus"}


def test_every_file_that_the_image_copies_is_there_and_not_ignored() -> None:
    copied = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", DOCKERFILE)
    sources = [name for line in copied for name in line.split()]
    let_through = re.findall(r"(?m)^!(.+)$", (ROOT / ".dockerignore").read_text())
    assert sorted(sources) == sorted(let_through)
    for name in sources:
        assert (ROOT / name).exists(), name


def test_the_image_has_all_that_the_wheel_is_built_from() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    wheel = project.partition("[tool.hatch.build.targets.wheel]")[2].partition("[tool.pytest")[0]
    parts = re.findall(r'^\s*"([\w/]+)"(?:,| =)', wheel, re.MULTILINE)
    assert {"rules", "dashboards"} <= set(parts)
    for part in parts:
        assert f"COPY {part.split('/')[0]} " in DOCKERFILE


def test_stages_that_are_named_exist(compose: dict[str, Any]) -> None:
    stages = set(re.findall(r"(?m)^FROM \S+ AS (\S+)$", DOCKERFILE))
    assert set(re.findall(r"--from=(\S+)", DOCKERFILE)) <= stages
    for name in ("agent", "worker"):
        build = compose["services"][name]["build"]
        assert build["target"] in stages
        assert (ROOT / build["dockerfile"]).exists()


@needs_promtool
def test_prometheus_finds_its_rules_where_they_are_mounted(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    for inside, source in bind_mounts(compose["services"]["prometheus"]).items():
        place = tmp_path / inside.relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)
    config = tmp_path / "etc" / "prometheus" / "prometheus.yml"
    command = ["promtool", "check", "config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("rules found") == len(list((ROOT / "rules").glob("*.yml")))


def test_prometheus_scrapes_and_grafana_asks_services_that_are_there(
    compose: dict[str, Any],
) -> None:
    places = {
        f"{name}:{port['target']}"
        for name, service in compose["services"].items()
        for port in service["ports"]
    }
    config = yaml.safe_load((ROOT / "docker" / "prometheus" / "prometheus.yml").read_text())
    scraped = [t for job in config["scrape_configs"] for t in job["static_configs"][0]["targets"]]
    assert set(scraped) - {"localhost:9090"} <= places
    sources = yaml.safe_load((PROVISIONED / "datasources" / "tocsin.yml").read_text())
    asked = [source for source in sources["datasources"]]
    assert {urlsplit(source["url"]).netloc for source in asked} == {"prometheus:9090", "agent:4911"}
    assert asked[0]["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_grafana_finds_the_dashboards_where_they_are_mounted(compose: dict[str, Any]) -> None:
    grafana = compose["services"]["grafana"]
    provider = yaml.safe_load((PROVISIONED / "dashboards" / "tocsin.yml").read_text())
    folder = PurePosixPath(provider["providers"][0]["options"]["path"])
    mounted = [inside for inside in bind_mounts(grafana) if inside.parent == folder]
    assert {inside.name for inside in mounted} == {p.name for p in ROOT.glob("dashboards/*.json")}
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert PurePosixPath(home) in mounted


def test_the_overrides_that_the_documentation_shows_are_right(tmp_path: Path) -> None:
    binary = Path(sys.executable).parent / "docker-compose"
    if not binary.exists():
        pytest.skip("docker-compose is not installed")
    shown = overrides()
    assert len(shown) == 4
    for text in shown:
        override = tmp_path / "override.yml"
        override.write_text(text)
        files = ["-f", "docker-compose.yml", "-f", str(override)]
        command = [str(binary), *files, "--profile", "*", "config", "-q"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and not done.stderr, done.stderr
        agent = yaml.safe_load(text)["services"]["agent"].get("command")
        if agent:
            up.make_context("up", agent[1:])
