"""Completion in a real bash, of a real agent; and what is said where there is none."""

import asyncio
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from support.agent_process import BIN, AgentProcess
from support.broken_server import broken_server, garbage, silence
from support.command_line import alertctl
from tocsin_alerting.cli.alertctl import COMPLETION_VARIABLE
from tocsin_alerting.cli.completion import TitledBash

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
_ASK = """
source <(alertctl completion bash)
COMP_WORDS=({words}); COMP_CWORD={number}; COMP_TYPE={type}
compopt() {{ :; }}
_alertctl_completion alertctl "${{COMP_WORDS[$COMP_CWORD]}}" ""
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
TAB, LIST = 9, 63


def _completed(url: str, *words: str, type: int = TAB) -> list[str]:
    """What bash would offer for the last of the words."""
    quoted = " ".join(map(shlex.quote, ("alertctl", *words)))
    text = _ASK.format(words=quoted, number=len(words), type=type)
    environment = {**os.environ, "ALERTCTL_URL": url, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", text], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return [line for line in done.stdout.splitlines() if line]


@needs_bash
def test_commands_and_options() -> None:
    nowhere = "http://127.0.0.1:9"
    assert {"ack", "alerts", "assign"} <= set(_completed(nowhere, "a"))
    assert _completed(nowhere, "escal") == ["escalate"]
    assert "--note" in _completed(nowhere, "ack", "--")
    assert _completed(nowhere, "oncall", "over") == ["override"]
    assert {"json", "yaml"} <= set(_completed(nowhere, "incidents", "-o", ""))
    listed = _completed(nowhere, "sta", type=LIST)
    assert len(listed) == 2 and listed[0].startswith("stats  -- ")


@needs_bash
def test_ids_and_names_of_the_agent(agent: AgentProcess) -> None:
    for command in ("ack", "show", "why", "incidents", "resolve"):
        assert _completed(agent.url, command, "") == ["1"], command
    assert _completed(agent.url, "ack", "#") == ["1"]
    assert _completed(agent.url, "ack", "2") == []
    assert "AlwaysFiring" in _completed(agent.url, "incidents", "--rule", "")
    assert "instance" in _completed(agent.url, "query", "labels", "inst")
    assert _completed(agent.url, "rules", "--group", "t") == ["test"]
    assert _completed(agent.url, "rules", "--file", "") == ["rules.yml"]
    assert "AlwaysFiring" in _completed(agent.url, "rules", "--rule", "Al")
    assert _completed("http://127.0.0.1:9", "show", "--url", agent.url, "") == ["1"]


@needs_bash
def test_a_list_says_what_each_is(own_agent: AgentProcess) -> None:
    for number in (1, 2):
        matcher = f"x=~h{number}.*"
        assert own_agent.alertctl("silence", "add", matcher, "--for=1h", "--by=li").returncode == 0
    ids = _completed(own_agent.url, "silence", "expire", "")
    assert len(ids) == 2 and all(len(one) == 8 for one in ids)
    listed = _completed(own_agent.url, "silence", "expire", "", type=LIST)
    assert all("  -- li" in line for line in listed)
    one = _completed(own_agent.url, "silence", "extend", ids[0][:4])
    assert ids[0] in one


@needs_bash
async def test_no_agent_is_no_name_and_no_word() -> None:
    assert _completed("http://127.0.0.1:9", "ack", "") == []
    for behaviour in (silence, garbage):
        async with broken_server(behaviour) as port:
            url = f"http://127.0.0.1:{port}"
            assert await asyncio.to_thread(_completed, url, "ack", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    ended = alertctl("completion", shell)
    assert (ended.code, ended.err) == (0, "")
    assert COMPLETION_VARIABLE in ended.out and "alertctl" in ended.out
    assert f"{shell}_complete" in ended.out
    if (program := shutil.which(shell)) is not None:
        checked = subprocess.run([program, "-n"], input=ended.out, text=True, capture_output=True)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_an_unknown_shell_is_a_usage_error(tmp_path: Path) -> None:
    assert alertctl("completion", "tcsh").code == 2


def test_a_title_that_would_steer_a_terminal_is_one_line_without_it() -> None:
    from click.shell_completion import CompletionItem

    bash = TitledBash.__new__(TitledBash)
    text = bash.format_completion(CompletionItem("1", help="a\tb\x1b[31m\nc"))
    assert text == "plain\t1\ta b\N{REPLACEMENT CHARACTER}[31m c"
