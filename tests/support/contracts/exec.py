"""A command: here it writes what it gets to a file, where it is looked at as JSON."""

import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.agent_process import free_port
from support.authority import Authority
from support.channel_contract import Case, ChannelContract, send_once
from support.contracts.webhook import texts
from tocsin_alerting.incidents.outbox_message import Outcome


@dataclass
class WrittenInput:
    """`port` is only its number: the other side of a command is a file here."""

    port: int
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / str(self.port)


_FOLDER = Path(tempfile.gettempdir()) / "tocsin-exec-contract"


@asynccontextmanager
async def _written() -> AsyncIterator[WrittenInput]:
    _FOLDER.mkdir(exist_ok=True)
    written = WrittenInput(free_port(), _FOLDER)
    try:
        yield written
    finally:
        written.file.unlink(missing_ok=True)


def _section(address: str) -> Mapping[str, Any]:
    port = address.rpartition(":")[2]
    return {
        "command": ["sh", "-c", f"cat > {_FOLDER}/{port}; env"],
        "env": {"TOKEN": "token-of-a-provider"},
        "timeout": "20s",
    }


def ran(*scripts: str, **more: Any) -> Case:
    """`sh -c` each of them; "" is a program that is not there."""

    async def case(contract: ChannelContract, _: Authority) -> list[Outcome]:
        commands = [["sh", "-c", script] if script else ["/no/such"] for script in scripts]
        return [await send_once(contract.build("", command=words, **more)) for words in commands]

    return case


CONTRACT = ChannelContract(
    kind="exec",
    section=_section,
    secrets=frozenset({"token-of-a-provider"}),
    double=_written,
    heard=lambda written: "\n".join(texts(json.loads(written.file.read_text()))),
    http=False,
    answers={
        "exit status 0": ran("exit 0"),
        "exit status 75 (EX_TEMPFAIL)": ran("exit 75"),
        "another exit status": ran("exit 1", "exit 64", "exit 126", "exit 127", "exit 255"),
        "not finished in time, or killed by a signal": ran(
            "kill -9 $$", "sleep 60", timeout="500ms"
        ),
        "no such program, or not one": ran(""),
    },
)
