"""Who is on call, and who would be notified, by the command line on a real agent."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent_process import AgentProcess
from support.command_line import alertctl
from tocsin_alerting.cli import times

CONFIG = """
rule_files: []
collect: {host: 1s, gpu: 0s, processes: 0s}
contacts:
  li: {ways: {chat: li-chat}}
  wang: {ways: {chat: wang-chat}}
receivers:
  li-chat: {type: webhook, url: "http://127.0.0.1:9/"}
  wang-chat: {type: webhook, url: "http://127.0.0.1:9/"}
schedules:
  primary: {rotation: {type: daily, at: "00:00", start: 2026-01-05, members: [li]}}
  office:
    rotation: {type: weekly, at: "Mon 09:00", start: 2026-01-05, members: [wang, li],
               hours: {days: Mon-Fri, from: "09:00", to: "18:00"}}
"""


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    folder = tmp_path_factory.mktemp("oncall")
    (folder / "tocsin.yml").write_text(CONFIG)
    process = AgentProcess(
        folder, "--config.file=tocsin.yml", "--no-worker", "--engine.url=http://127.0.0.1:9"
    )
    with process:
        yield process


def test_who_is_on_call_at_a_time(scheduled: AgentProcess) -> None:
    at = "--at=2026-01-06T12:00:00Z"
    ended = alertctl("--url", scheduled.url, "oncall", "show", at)
    header, primary, office = (line.split() for line in ended.out.splitlines())
    zone = times.zone_name(1_767_700_800_000)
    assert header == ["SCHEDULE", "ON", "CALL", "UNTIL", f"({zone})", "NEXT"]
    assert primary == ["primary", "li", "-", "-"], "one member alone is always on call"
    assert office[:2] == ["office", "wang"] and office[-1] == "(nobody)"
    saturday = alertctl("--url", scheduled.url, "oncall", "show", "--at=2026-01-10T12:00:00Z")
    assert saturday.out.splitlines()[2].split()[:2] == ["office", "(nobody)"]


def test_the_shifts_of_one_schedule(scheduled: AgentProcess) -> None:
    at = "--at=2026-01-05T00:00:00Z"
    ended = alertctl("--url", scheduled.url, "oncall", "show", "office", at, "-o", "json")
    shifts = json.loads(ended.out)["shifts"]
    assert [shift["contact"] for shift in shifts[:4]] == ["", "wang", "", "wang"]
    table = alertctl("--url", scheduled.url, "oncall", "show", "office", at)
    assert len(table.out.splitlines()) == 1 + len(shifts)
    assert max(map(len, table.out.splitlines())) <= 80
    wrong = alertctl("--url", scheduled.url, "oncall", "show", "ofice")
    assert wrong.code == 1 and 'did you mean "office"' in wrong.err


def test_taking_a_shift_and_giving_it_back(scheduled: AgentProcess) -> None:
    words = ("oncall", "override", "primary", "wang", "--for=8h", "--by=li", "--comment=dentist")
    made = alertctl("--url", scheduled.url, *words)
    assert made.out.startswith("primary: wang is on call from ")
    override = made.out.split()[-1]
    shown = alertctl("--url", scheduled.url, "oncall", "show")
    assert shown.out.splitlines()[1].split()[:2] == ["primary", "wang"]
    one = alertctl("--url", scheduled.url, "oncall", "show", "primary")
    assert f"override {override}: wang until " in one.out and "by li: dentist" in one.out
    gone = alertctl("--url", scheduled.url, "oncall", "remove", override)
    assert gone.out == f"override {override} removed\n"
    shown = alertctl("--url", scheduled.url, "oncall", "show")
    assert shown.out.splitlines()[1].split()[:2] == ["primary", "li"]
    again = alertctl("--url", scheduled.url, "oncall", "remove", override)
    assert again.code == 1 and "no override" in again.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("override", "primary", "wang"), 2, "either --until or --for"),
        (("override", "primary", "wang", "--for=1h", "--until=now"), 2, "either --until or --for"),
        (("override", "primary", "wong", "--for=1h"), 1, 'did you mean "wang"'),
        (("override", "primary", "wang", "--until=2020-01-01T00:00:00Z"), 1, "in the future"),
        (("show", "--at=tomorrowish"), 1, "is not a time"),
    ],
)
def test_what_is_wrong_is_said(
    scheduled: AgentProcess, words: tuple[str, ...], code: int, said: str
) -> None:
    ended = alertctl("--url", scheduled.url, "oncall", *words)
    assert ended.code == code and said in ended.err


def test_the_route_of_labels(scheduled: AgentProcess) -> None:
    """The default policy: the schedule first, then everyone, and on."""
    labels = ("alertname=Down", "severity=P0", "target=a:1")
    ended = alertctl("--url", scheduled.url, "route", *labels, "--at=2026-01-06T12:00:00Z")
    first, incident, header, *rows = ended.out.splitlines()
    assert first == "P0, policy P0" and incident == 'incident {alertname="Down", target="a:1"}'
    assert header.split()[-4:] == ["AFTER", "REASON", "STEP", "TO"]
    opened, breach, escalated = (row.split() for row in rows[:3])
    assert opened[-6:] == ["0s", "opened", "0", "li", "by", "li-chat"]
    assert breach[-5:] == ["slo_breach", "0", "li", "by", "li-chat"]
    assert escalated[-9:-6] == ["15m", "escalated", "1"]
    assert rows[2].endswith("li by li-chat, wang by wang-chat") and rows[-1] == "and so on"
    none = alertctl("--url", scheduled.url, "route", "severity=none")
    assert none.out == "nobody is paged: severity none\n"
    wrong = alertctl("--url", scheduled.url, "route", "severity")
    assert wrong.code == 1 and "write it like severity=P0" in wrong.err


def test_a_schedule_as_a_calendar(scheduled: AgentProcess) -> None:
    pytest.importorskip("icalendar")
    ended = alertctl("--url", scheduled.url, "oncall", "export", "office")
    assert ended.out.startswith("BEGIN:VCALENDAR\n") and "SUMMARY:wang" in ended.out
    gone = alertctl("--url", scheduled.url, "oncall", "export", "ofice")
    assert gone.code == 1 and 'did you mean "office"' in gone.err


def test_the_route_by_a_file_is_that_of_an_agent_with_it(
    scheduled: AgentProcess, tmp_path: Path
) -> None:
    file = str(scheduled.folder / "tocsin.yml")
    words = ("route", "severity=P0", "alertname=Down", "--at=2026-01-06T12:00:00Z")
    asked = alertctl("--url", scheduled.url, *words, "-o", "json")
    read = alertctl(*words, "-o", "json", f"--config.file={file}")
    assert (read.code, read.err) == (0, "")
    assert json.loads(read.out) == json.loads(asked.out)
    assert alertctl(*words, f"--config.file={file}").out.startswith("P0, policy ")
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("polices: {}\n")
    ended = alertctl("route", "severity=P0", f"--config.file={wrong}")
    assert ended.code == 1 and 'did you mean "policies"' in ended.err
    assert alertctl("route", "severity", f"--config.file={file}").code == 1
