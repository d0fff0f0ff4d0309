"""The commands that the documentation shows are run as they stand, on a real agent."""

import asyncio
import os
import re
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
    "docs/alertctl.md",
    "docs/exporter.md",
    "docs/grafana.md",
    "docs/incidents.md",
)
FENCED = re.compile(r"(?ms)^```\w*\n(.*?)^```")
INDENTED = re.compile(r"(?m)^    (\S.*)$")
PROGRAM = re.compile(r"(?:alertctl|curl|git|pkill|promtool|python|tocsin) |scripts/")
ELSEWHERE = {  # what is not run here, and why
    "git clone": "it is how one gets here",
    "scripts/": "it installs, and runs until it is ended",
    "v1/chat/completions": "it needs a model",
    "pkill": "test_a_worker_is_found_by_its_port_alone says whom it hits",
    "tocsin exporter": "test_the_exporter_runs_alone runs it",
    "channels test mail": "test_the_smallest_file_pages does it",
}
FAILS = {"sum by (job) up": 1, "alertctl check tocsin.yml": 3}  # shown because of that, or a lint


@dataclass(frozen=True)
class Shown:
    page: str
    command: str

    def __str__(self) -> str:
        return f"{self.page}: {self.command[:60]}"


def _shown(page: str) -> Iterator[Shown]:
    text = (ROOT / page).read_text("utf-8")
    blocks = [*FENCED.findall(text), *INDENTED.findall(FENCED.sub("", text))]
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        command = line.strip().removeprefix("$ ").replace(".venv/bin/", "")
        if PROGRAM.match(command):
            yield Shown(page, command)


COMMANDS = [one for page in PAGES for one in _shown(page)]
RUN = [one for one in COMMANDS if not any(text in one.command for text in ELSEWHERE)]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    folder = tmp_path_factory.mktemp("documentation")
    (folder / "rules").symlink_to(ROOT / "rules")
    (folder / "tocsin.yml").write_text("evaluation_interval: 1s\nrule_files: [always.yml]\n")
    rule = "{alert: Always, expr: vector(1), labels: {severity: P0}}"
    (folder / "always.yml").write_text(f"groups: [{{name: g, rules: [{rule}]}}]\n")
    with EngineProcess(free_port()) as engine:
        flags = ("--config.file=tocsin.yml", "--no-worker", f"--engine.url={engine.url}")
        with AgentProcess(folder, *flags) as process:
            process.wait_for("/api/v1/incidents/1", 20)
            yield process


def _run(command: str, agent: AgentProcess) -> subprocess.CompletedProcess[str]:
    there = command.replace("127.0.0.1:4911", f"127.0.0.1:{agent.port}")
    there = there.replace("localhost:4911", f"127.0.0.1:{agent.port}")
    path = f"{BIN}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", there],
        cwd=agent.folder,
        env={**os.environ, "PATH": path, "ALERTCTL_URL": agent.url},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("shown", RUN, ids=str)
def test_a_command_does_what_the_page_says(shown: Shown, agent: AgentProcess) -> None:
    done = _run(shown.command, agent)
    expected = next((code for text, code in FAILS.items() if text in shown.command), 0)
    assert done.returncode == expected, f"{done.stdout}\n{done.stderr}"
    assert done.stdout or done.stderr


def test_every_page_has_commands_and_every_exception_is_one() -> None:
    assert len(RUN) >= 15 and {one.page for one in RUN} >= {"README.md", "docs/alertctl.md"}
    unused = [text for text in ELSEWHERE if not any(text in one.command for one in COMMANDS)]
    assert unused == []


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
    (command,) = (one.command for one in COMMANDS if "channels test mail" in one.command)
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
