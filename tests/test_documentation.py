"""The commands that the documentation shows are run as they stand, on a real agent."""

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.agent_process import BIN, AgentProcess, free_port
from support.engine_process import EngineProcess
from support.mailbox import Mailbox
from tocsin_alerting.local.worker_process import command as worker_command
from tocsin_exporter.targets import SCRAPE_CONFIGS

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
)
FENCED = re.compile(r"(?ms)^```\w*\n(.*?)^```")
SHELL = re.compile(r"(?ms)^```sh\n(.*?)^```")
INDENTED = re.compile(r"(?m)^    (\S.*)$")
PROGRAM = re.compile(
    r"(?:alertctl|curl|docker|git|pkill|promtool|pytest|python3?|sudo|tocsin|vmagent) "
    r"|scripts/|/opt/|[A-Z_]+=\S+ tocsin"
)
ELSEWHERE = {  # what is not run here: the test that tries it, or why none does
    "backtest my-rules.yml": (
        "alerting/cli/test_backtest.py::test_a_prometheus_with_the_same_samples_says_the_same"
    ),
    "oncall override primary": (
        "alerting/api/tocsin/test_oncall.py::test_an_override_holds_at_once_and_can_be_removed"
    ),
    "v1/heartbeat/backup": (
        "alerting/cli/test_heartbeats.py::test_what_is_added_is_sent_by_curl_and_listed"
    ),
    "git clone": "it is how one gets here",
    "scripts/up": "it installs, and runs until it is ended; `tocsin up` is all that it then does",
    "scripts/test": "it is what runs this",
    "v1/chat/completions": "inference/test_documentation.py::test_the_curl_streams_an_answer",
    "pkill": "test_a_worker_is_found_by_its_port_alone says whom it hits",
    "tocsin exporter": "test_documentation.py::test_the_exporter_runs_alone",
    "receivers test mail": "test_documentation.py::test_the_smallest_file_pages",
    "alertctl test --config.file": "test_wheel.py::test_the_bundled_unit_tests_and_the_drill_run",
    "receivers test NAME": "alerting/cli/test_receivers.py::test_through_the_agent",
    "receivers preview NAME": "alerting/cli/test_receivers.py::test_a_preview_by_the_agent",
    "alertctl token": "stories/test_roles.py::test_the_socket_says_who_and_the_token_what",
    "engines forget": "stories/test_forgotten_engine.py"
    "::test_a_kill_right_after_it_was_forgotten_brings_no_engine_back",
    "docker compose": "test_compose.py"
    "::test_agent_and_worker_start_by_default_and_monitoring_by_its_profile",
    "slo generate slo.yml": "alerting/cli/test_slo.py::test_the_page_s_example_passes_its_tests",
    "alertctl test slo.test.yml": (
        "alerting/cli/test_slo.py::test_the_page_s_example_passes_its_tests"
    ),
    "scripts/promqltest": "alerting/promql/test_scripts.py::test_our_scripts_pass",
    "tocsin service install": "alerting/cli/test_service.py"
    "::test_an_image_gets_the_unit_its_user_and_its_link",
    "tocsin service status": "alerting/cli/test_service.py::test_the_report_is_systemds",
    "tocsin service remove": "alerting/cli/test_service.py"
    "::test_removed_it_leaves_configuration_and_data",
    "test rules/tests/*.yml": "test_wheel.py::test_the_bundled_unit_tests_and_the_drill_run",
    "promtool test rules rules/tests/*.yml": "rules/test_promtool_parity.py"
    "::test_promtool_agrees_that_the_rules_are_right",
    "test rules/tests/policy/p0.test.yml": "rules/test_policies.py::test_they_pass",
    "tocsin proxy": "alerting/test_proxy_startup.py::test_the_process_measures_logs_and_drains",
    "tocsin worker": "inference/test_documentation.py::test_every_command_is_known_here",
    "vmagent": "alerting/remote_write/test_prometheus.py sends by one",
    "/opt/tocsin": "test_wheel.py installs the wheel",
    "sudo ": "it changes the machine: its user, its files, its service",
}
FAILS = {  # shown because of that, or because a lint or a grep finds nothing here
    "sum by (job) up": 1,
    "alertctl check tocsin.yml": 3,
    "alertctl status  ": 1,
}
SILENT = ("http://TARGET/health; curl",)  # the engine of this test has nothing but metrics
AGENT_NAMES = ("AGENT:4911", "INSTANCE", "PROMETHEUS")  # who is asked, in a runbook


@dataclass(frozen=True)
class Shown:
    page: str
    command: str

    def __str__(self) -> str:
        return f"{self.page}: {self.command[:60]}"


def _text(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def _is_whole(command: str) -> bool:
    """Whether every quote that it opens is closed."""
    try:
        return bool(shlex.split(command, comments=True))
    except ValueError:
        return False


def _shown(page: str) -> Iterator[Shown]:
    text = _text(page)
    blocks = [*FENCED.findall(text), *INDENTED.findall(FENCED.sub("", text))]
    lines = iter("\n".join(blocks).replace("\\\n", " ").splitlines())
    for line in lines:
        command = line.strip().removeprefix("$ ").replace(".venv/bin/", "")
        if PROGRAM.match(command):
            while not _is_whole(command):
                command += f"\n{next(lines)}"
            yield Shown(page, command)


COMMANDS = [one for page in PAGES for one in _shown(page)]
RUN = [one for one in COMMANDS if not any(text in one.command for text in ELSEWHERE)]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    folder = tmp_path_factory.mktemp("documentation")
    (folder / "rules").symlink_to(ROOT / "rules")
    (folder / "tocsin.yml").write_text("evaluation_interval: 1s\nrule_files: [always.yml]\n")
    rules = (
        "{alert: Always, expr: vector(1), labels: {severity: P0}}",
        "{record: broken, expr: up * on () up}",  # RuleBroken asks which one fails
    )
    groups = (f"{{name: g{number}, rules: [{rule}]}}" for number, rule in enumerate(rules))
    (folder / "always.yml").write_text(f"groups: [{', '.join(groups)}]\n")
    with EngineProcess(free_port()) as engine:
        flags = ("--config.file=tocsin.yml", "--no-worker", f"--engine.url={engine.url}")
        with AgentProcess(folder, *flags) as process:
            process.wait_for("/api/v1/incidents/1", 20)
            yield process


def _run(command: str, agent: AgentProcess) -> subprocess.CompletedProcess[str]:
    there = command
    (engine,) = (word.partition("=http://")[2] for word in agent.arguments if "engine.url" in word)
    there = there.replace("http://TARGET/", f"http://{engine}/")
    for name in ("127.0.0.1:4911", "localhost:4911", *AGENT_NAMES):
        there = there.replace(name, f"127.0.0.1:{agent.port}")
    path = f"{BIN}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", *(() if "| head" in there else ("-o", "pipefail")), "-c", there],
        cwd=agent.folder,
        env={**os.environ, "PATH": path, "ALERTCTL_URL": agent.url},
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.mark.parametrize("shown", RUN, ids=str)
def test_a_command_does_what_the_page_says(shown: Shown, agent: AgentProcess) -> None:
    done = _run(shown.command, agent)
    expected = next((code for text, code in FAILS.items() if text in shown.command), 0)
    assert done.returncode == expected, f"{done.stdout}\n{done.stderr}"
    assert done.stdout or done.stderr or any(text in shown.command for text in SILENT)


def test_every_page_has_commands_and_every_exception_is_one() -> None:
    assert len(RUN) >= 15 and {one.page for one in RUN} >= {"README.md", "docs/alertctl.md"}
    unused = [text for text in ELSEWHERE if not any(text in one.command for one in COMMANDS)]
    assert unused == []


def test_what_is_tried_elsewhere_is_tried_there() -> None:
    for path, name in re.findall(r"([a-z_/]+\.py)(?:::(\w+))?", " ".join(ELSEWHERE.values())):
        assert f"def {name}(" in _text(f"tests/{path}") or not name, f"{path}::{name}"


@pytest.mark.parametrize("page", [page for page in PAGES if SHELL.search(_text(page))])
def test_what_a_page_has_for_the_shell_can_be_read_by_it(page: str) -> None:
    for block in SHELL.findall(_text(page)):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), block


def test_the_tests_that_contributing_names_are_there() -> None:
    named = re.findall(r"`[^`]*?(tests/[\w/]+\.py)::(\w+)`", _text("CONTRIBUTING.md"))
    assert named
    for path, name in named:
        assert f"def {name}(" in _text(path)


def test_a_worker_is_found_by_its_port_alone() -> None:
    stops = [one.command for one in COMMANDS if one.command.startswith("pkill")]
    assert len(stops) == 2
    for command in stops:
        pattern = command.split("'")[1]
        ours, *others = (
            " ".join(worker_command("serve", "--host", "h", "--port", port, "--device", "cpu"))
            for port in ("4912", "14912", "49120", "8000")
        )
        assert re.search(pattern, ours)
        assert not any(re.search(pattern, other) for other in others)


def test_the_exporter_runs_alone(agent: AgentProcess) -> None:
    (serve, *_), (ask, *_) = (
        [one.command for one in COMMANDS if one.page == "docs/exporter.md" and text in one.command]
        for text in ("tocsin exporter", "curl")
    )
    port = free_port()
    words = serve.replace("4911", str(port)).split()
    process = subprocess.Popen([str(BIN / words[0]), *words[1:]], stderr=subprocess.DEVNULL)
    try:
        retry = f"--retry 40 --retry-delay 1 --retry-connrefused 127.0.0.1:{port}"
        done = _run(ask.replace("127.0.0.1:4911", retry), agent)
        assert done.returncode == 0 and "node_load1 " in done.stdout
    finally:
        process.terminate()
        process.wait(20)


async def test_the_smallest_file_pages(tmp_path: Path) -> None:
    """README's file, with the mail server of this test in place of yours."""
    (text,) = re.findall(r"(?s)```yaml\n(contacts:.*?)```", (ROOT / "README.md").read_text())
    (command,) = (one.command for one in COMMANDS if "receivers test mail" in one.command)
    async with Mailbox() as box:
        server = f'"127.0.0.1:{box.port}", tls: none'
        ours = re.sub(r", username: .*?(?=\})", "", text.replace('"smtp.example.com:587"', server))
        (tmp_path / "tocsin.yml").write_text(ours)
        words = [str(BIN / "alertctl"), *command.split()[1:]]
        done = await asyncio.to_thread(
            subprocess.run, words, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (letter,) = await box.wait_for(1)
    assert letter.to == ("me@example.com",)


def test_the_deadlines_of_the_exporter_are_those_of_the_page() -> None:
    text = (ROOT / "docs" / "exporter.md").read_text()
    row = re.compile(r"(?m)^\| `(\w+)` \| `(\w+)` \| ([\d.]+) s \| ([\d.]+) s \|")
    told = {area: (job, float(every), float(last)) for area, job, every, last in row.findall(text)}
    assert told == {
        area: (one.job, one.interval, one.deadline) for area, one in SCRAPE_CONFIGS.items()
    }


def test_a_module_that_is_no_part_of_python_is_installed_first() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        text = page.read_text("utf-8")
        for use in re.finditer(r"python3? -m (\w+)", text):
            known = use[1] in sys.stdlib_module_names or use[1].startswith("tocsin_")
            assert known or f"pip install {use[1]}" in text[: use.start()], (page, use[0])


SECURITY = (ROOT / "docs" / "security.md").read_text("utf-8")
HELD = re.compile(r"`([a-z_/]+\.py)::(test_\w+)`")


def test_each_line_of_the_security_page_names_a_test_that_exists() -> None:
    rows = [line for line in SECURITY.splitlines() if re.match(r"\| (?!---)", line)]
    lines = [line for line in rows if not line.endswith("| test |")]
    assert len(lines) >= 35
    assert [line for line in lines if not HELD.search(line.rpartition("| ")[2])] == []
    for path, name in HELD.findall(SECURITY):
        text = (ROOT / "tests" / path).read_text("utf-8")
        assert re.search(rf"(?m)^(?:async )?def {name}\(", text), f"{path}::{name}"
