"""What is drawn for a terminal, and what for a pipe: `alertctl` in a process with a real one."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping

import pytest

from support.agent_process import BIN, AgentProcess

WORDS = ("query", "range", "vector(1)", "--since", "1m", "--utc")


def on_a_terminal(agent: AgentProcess, columns: int, **environment: str) -> str:
    """What the command writes to a terminal of 24 lines, with this environment and no more."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    plain: Mapping[str, str] = {"LC_ALL": "C.UTF-8", "TERM": "xterm-256color", **environment}
    command = [str(BIN / "alertctl"), "--url", agent.url, *WORDS]
    with subprocess.Popen(command, stdout=theirs, stdin=theirs, env=plain) as process:
        os.close(theirs)
        written = b""
        while piece := _read(ours):
            written += piece
    os.close(ours)
    assert process.returncode == 0
    return written.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says EIO when the other side is closed
        return b""


def test_braille_in_colours_as_wide_as_the_terminal(agent: AgentProcess) -> None:
    written = on_a_terminal(agent, 50)
    assert re.search("\x1b\\[32m[\u2800-\u28ff]", written)
    rows = re.sub("\x1b\\[[0-9;]*m", "", written).splitlines()
    assert max(map(len, rows)) <= 50
    assert any(row.startswith("   \u2514") and len(row) == 50 for row in rows)


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_ascii_where_it_is_asked_for(agent: AgentProcess, environment: dict[str, str]) -> None:
    written = on_a_terminal(agent, 80, **environment)
    assert written.isascii()
    assert "\x1b" not in written
    assert "***" in written


def test_ascii_in_a_pipe(agent: AgentProcess) -> None:
    done = agent.alertctl(*WORDS)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "***" in done.stdout
