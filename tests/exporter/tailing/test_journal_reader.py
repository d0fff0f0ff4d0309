"""journald, by a program that behaves as journalctl does (the entries are its own)."""

import json
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tocsin_exporter.tailing.budget import Limits, LineBudget
from tocsin_exporter.tailing.counts import LogCounts
from tocsin_exporter.tailing.journal_reader import JournalReader, command, parse
from tocsin_exporter.tailing.settings import JournalUnits, LogSource

# As journalctl 252 writes it.
ENTRY = (
    b'{"__CURSOR":"s=c944;i=6;b=0011;m=b5af00f;t=661807405cc0f;x=3569","_BOOT_ID":"0011",'
    b'"__REALTIME_TIMESTAMP":"1796054190509071","__MONOTONIC_TIMESTAMP":"190509071",'
    b'"PRIORITY":"3","MESSAGE":"NVRM: Xid (PCI:0000:00:05): 6, pid=1"}'
)
PROGRAM = """#!{python}
import sys, time, json, os
directory = os.path.dirname(os.path.abspath(__file__))
open(directory + "/arguments", "a").write(json.dumps(sys.argv[1:]) + "\\n")
after = [a.partition("=")[2] for a in sys.argv if a.startswith("--after-cursor=")]
if after and not after[0].isdigit():
    sys.exit("Failed to seek to cursor: Invalid argument")
number, end = int(after[0]) if after else 0, time.monotonic() + 60
while time.monotonic() < end:
    lines = open(directory + "/journal", "rb").read().split(b"\\n")[:-1]
    for line in lines[number:]:
        sys.stdout.buffer.write(line + b"\\n")
    sys.stdout.flush()
    number = len(lines)
    if os.path.exists(directory + "/end"):
        os.unlink(directory + "/end")
        sys.exit("the journal is gone")
    time.sleep(0.01)
"""
SOURCE = LogSource("kernel", journal=JournalUnits(("vllm",), kernel=True))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    program = tmp_path / "journalctl"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "journal").touch()
    return tmp_path


def say(journal: Path, *messages: object, priority: str = "6") -> None:
    with (journal / "journal").open("ab") as file:
        first = (journal / "journal").read_bytes().count(b"\n")
        for number, message in enumerate(messages, first + 1):
            entry = {"__CURSOR": str(number), "MESSAGE": message, "PRIORITY": priority}
            file.write(json.dumps(entry).encode() + b"\n")


Opened = Callable[..., JournalReader]


@pytest.fixture
def opened(journal: Path) -> Iterator[Opened]:
    readers: list[JournalReader] = []

    def reader(saved: object = None) -> JournalReader:
        about = (SOURCE, saved, LogCounts().files, time.monotonic)
        found = JournalReader(*about, lambda _: str(journal / "journalctl"), lambda: [__file__])
        readers.append(found)
        return found

    yield reader
    for one in readers:
        one.close()


def lines(reader: JournalReader, count: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    budget = LineBudget(Limits(), time.monotonic)
    end = time.monotonic() + 20
    while len(found) < count and time.monotonic() < end:
        batch = reader.read(budget)
        found += zip((line.decode() for line in batch.lines), batch.levels, strict=True)
        if not batch.lines:
            time.sleep(0.01)
    return found


def test_messages_and_where_to_go_on(journal: Path, opened: Opened) -> None:
    reader = opened()
    say(journal, "one", list(b"bin\xff"[:3]), None, priority="3")
    say(journal, "two\nlines")
    assert lines(reader, 4) == [
        ("one", "error"),
        ("bin", "error"),
        ("", "error"),
        ("two lines", ""),
    ]
    assert reader.position() == "4" and reader.files == 1
    say(journal, "three")
    reader.close()
    assert lines(opened(reader.position()), 1) == [("three", "")]


def test_a_child_that_ends_is_said_and_begun_again(journal: Path, opened: Opened) -> None:
    reader = opened("0")
    (journal / "end").touch()
    end = time.monotonic() + 20
    while not reader.trouble and time.monotonic() < end:
        reader.read(LineBudget(Limits(), time.monotonic))
        time.sleep(0.01)
    assert reader.trouble == "journalctl ended: the journal is gone"
    reader._again_at = 0.0  # what would be 5 s
    say(journal, "again")
    assert (lines(reader, 1), reader.trouble) == ([("again", "")], "")


def test_a_cursor_of_another_journal_is_given_up(opened: Opened) -> None:
    reader = opened("s=of another")
    end = time.monotonic() + 20
    while not reader.trouble and time.monotonic() < end:
        reader.read(LineBudget(Limits(), time.monotonic))
        time.sleep(0.01)
    assert reader.position() == "" and reader.counts.losses.lines == {"truncated": 1}


@pytest.mark.parametrize(
    ("program", "journals", "said"),
    [(None, ["x"], "no journalctl"), ("/bin/true", [], "no journal on"),
     ("/bin/true", ["/nowhere"], "systemd-journal")],
)  # fmt: skip
def test_where_there_is_nothing_to_read(program: str, journals: list[str], said: str) -> None:
    about = (SOURCE, None, LogCounts().files, time.monotonic)
    reader = JournalReader(*about, lambda _: program, lambda: journals)
    assert reader.read(LineBudget(Limits(), time.monotonic)).lines == ()
    assert said in reader.trouble and reader.files == 0


def test_what_is_asked_for() -> None:
    asked = command(JournalUnits(("vllm", "a.timer"), kernel=True), "")
    assert asked[-4:] == [
        *("_SYSTEMD_UNIT=vllm.service", "_SYSTEMD_UNIT=a.timer", "+", "_TRANSPORT=kernel")
    ]
    assert "--lines=0" in asked
    assert command(JournalUnits((), kernel=True), "s=1")[-2:] == [
        *("--after-cursor=s=1", "_TRANSPORT=kernel")
    ]


def test_entries() -> None:
    assert parse(ENTRY) == (
        b"NVRM: Xid (PCI:0000:00:05): 6, pid=1",
        "error",
        "s=c944;i=6;b=0011;m=b5af00f;t=661807405cc0f;x=3569",
    )
    odd = [b"", b"{", b"[]", b"null", b'{"MESSAGE": 1, "__CURSOR": "1"}', b'{"MESSAGE": "x"}',
           b'{"__CURSOR": "1", "MESSAGE": ["x"]}']  # fmt: skip
    assert [parse(entry) for entry in odd[:4]] == [None] * 4
    assert parse(b'{"__CURSOR": "1", "MESSAGE": "x", "PRIORITY": "x"}') == (b"x", "", "1")
    assert [parse(entry) for entry in odd[5:]] == [None, None]
