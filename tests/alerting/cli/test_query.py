"""PromQL from the command line."""

import asyncio
import csv
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
import pytest_asyncio
from click.shell_completion import BashComplete
from hypothesis import given
from hypothesis import strategies as st

from support.agent_process import BIN, AgentProcess
from support.command_line import Ended, alertctl
from support.served import served
from tocsin_alerting.api.prometheus.query import routes
from tocsin_alerting.cli.alertctl import main
from tocsin_alerting.cli.query import with_caret
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import labels


def _rows(agent: AgentProcess, *words: str) -> list[list[str]]:
    ended = alertctl("--url", agent.url, "query", "instant", *words)
    assert ended.code == 0, ended.err
    return [line.split(None, 1) for line in ended.out.splitlines()[1:]]


def test_each_kind_of_value(agent: AgentProcess) -> None:
    assert _rows(agent, "1 + 1") == [["scalar", "2"]]
    assert _rows(agent, '"text"') == [["string", "text"]]
    assert _rows(agent, 'label_replace(vector(7), "a", "b", "", "")') == [['{a="b"}', "7"]]
    assert _rows(agent, "ALERTS[1h]")[0][0].startswith('ALERTS{alertname="AlwaysFiring",')


def test_the_api_s_object(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "query", "instant", "-o", "json", "--time", "5", "time()")
    assert json.loads(ended.out) == {"resultType": "scalar", "result": [5.0, "5"]}


def test_no_series_is_no_failure(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "query", "instant", "nothing_like_this")
    assert (ended.code, ended.out, ended.err) == (0, "", "no series\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sum(",), "1:5: parse error: unclosed left parenthesis\n  sum(\n      ^\n"),
        (('vector(1) == on() group_left() label_replace(up, "a", "$1", "x", "(")',), "regular"),
    ],
)
def test_a_query_that_cannot_be_answered_fails(
    agent: AgentProcess, words: tuple[str, ...], said: str
) -> None:
    ended = alertctl("--url", agent.url, "query", "instant", *words)
    assert ended.code == 1
    assert said in ended.err


@pytest.mark.parametrize(
    ("before", "after", "is_json"),
    [("json", "", True), ("json", "table", False), ("table", "json", True), ("table", "", False)],
)
def test_the_format_before_or_after_the_subcommand(
    agent: AgentProcess, before: str, after: str, is_json: bool
) -> None:
    nearer = ["-o", after] if after else []
    ended = alertctl("--url", agent.url, "-o", before, "query", "instant", *nearer, "1 + 1")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("{") == is_json
    assert alertctl("--output", "xml", "alerts").code == 2


BEGAN = 1_700_000_000  # 2023-11-14 22:13:20 UTC
WINDOW = ("--start", str(BEGAN), "--end", str(BEGAN + 600))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def url() -> AsyncIterator[str]:
    """Two gauges of ten minutes, one of them with a gap, behind the real API."""
    store = Store()
    for second in range(0, 601, 60):
        for gpu, value in (("0", second / 60), ("1", 20.0)):
            if gpu == "0" or not 180 < second < 480:
                at_ms = (BEGAN + second) * 1000
                store.write([(labels(__name__="heat", job="gpu", gpu=gpu), at_ms, value)])
    executor = ThreadPoolExecutor(2)
    api = routes(store, QueryEngine(store), executor, lambda: (BEGAN + 600) * 1000, time.monotonic)
    async with served(api) as served_at:
        yield served_at
    executor.shutdown()


async def _asked(url: str, *words: str) -> Ended:
    return await asyncio.to_thread(alertctl, "--url", url, "query", *words)


PLOT = """\
last_over_time(heat[1m])
20+**********************                       ************
  |
  |
  |
10+                                             ++++++++++++
  |                            +++++++++++++++++
  |           +++++++++++++++++
 0++++++++++++
  +----+----------+----------+----------+-----------+-------
     22:14      22:16      22:18      22:20       22:22
2023-11-14 22:13:20+00:00 to 22:23:20+00:00, step 15s
all heat{job="gpu"}
  LAST  MIN  MAX    AVG  SERIES
*   20   20   20     20  {gpu="1"}
+   10    0   10  4.634  {gpu="0"}
"""


@pytest.mark.asyncio(loop_scope="module")
async def test_a_range_is_drawn(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "24")
    ended = await _asked(url, "range", "last_over_time(heat[1m])", *WINDOW, "--utc")
    assert (ended.code, ended.out, ended.err) == (0, PLOT, "")


@pytest.mark.asyncio(loop_scope="module")
async def test_the_unit_of_a_range_may_be_given(url: str) -> None:
    ended = await _asked(url, "range", "heat * 1048576", *WINDOW, "--unit", "bytes")
    assert (ended.code, ended.err) == (0, "") and "20MiB" in ended.out
    ended = await _asked(url, "range", "heat * 1048576", *WINDOW)
    assert "MiB" not in ended.out


@pytest.mark.asyncio(loop_scope="module")
async def test_a_range_for_programs(url: str) -> None:
    words = ("range", 'heat{gpu="0"}', "--start", str(BEGAN), "--end", str(BEGAN + 60))
    ended = await _asked(url, *words, "--step", "1m", "--format", "csv")
    assert list(csv.DictReader(ended.out.splitlines())) == [
        {"time": "2023-11-14T22:13:20.000Z", "value": "0", "__name__": "heat", "gpu": "0",
         "job": "gpu"},
        {"time": "2023-11-14T22:14:20.000Z", "value": "1", "__name__": "heat", "gpu": "0",
         "job": "gpu"},
    ]  # fmt: skip
    ended = await _asked(url, *words, "--step", "30", "-o", "json")
    (one,) = json.loads(ended.out)["result"]
    assert one["values"] == [[BEGAN, "0"], [BEGAN + 30, "0"], [BEGAN + 60, "1"]]
    ended = await _asked(url, *words, "--step", "60", "-o", "table")
    assert ended.out.split("\n")[2] == '2023-11-14T22:14:20.000Z  heat{gpu="0", job="gpu"}  1'


@pytest.mark.asyncio(loop_scope="module")
async def test_auto_gives_programs_the_same_points_on_any_terminal(url: str) -> None:
    ended = await _asked(url, "range", "vector(1)", *WINDOW, "-o", "json")
    (one,) = json.loads(ended.out)["result"]
    assert len(one["values"]) == 600 // 5 + 1


@pytest.mark.asyncio(loop_scope="module")
async def test_series(url: str) -> None:
    ended = await _asked(url, "series", 'heat{gpu="1"}', '{gpu="0"}', *WINDOW)
    assert sorted(ended.out.splitlines()) == [
        'heat{gpu="0", job="gpu"}',
        'heat{gpu="1", job="gpu"}',
    ]
    ended = await _asked(url, "series", "heat", *WINDOW, "--limit", "1")
    assert ended.code == 0
    assert len(ended.out.splitlines()) == 1
    assert ended.err.startswith("warning: ")
    ended = await _asked(url, "series", 'heat{gpu="1"}', *WINDOW, "--format", "csv")
    assert ended.out == "__name__,gpu,job\nheat,1,gpu\n"
    ended = await _asked(url, "series", 'heat{gpu="1"}', *WINDOW, "-o", "json")
    assert json.loads(ended.out) == [{"__name__": "heat", "gpu": "1", "job": "gpu"}]
    ended = await _asked(url, "series", "cold", *WINDOW)
    assert (ended.code, ended.out, ended.err) == (0, "", "no series\n")


@pytest.mark.asyncio(loop_scope="module")
async def test_labels(url: str) -> None:
    assert (await _asked(url, "labels", *WINDOW)).out == "__name__\ngpu\njob\n"
    assert (await _asked(url, "labels", "gpu", *WINDOW)).out == "0\n1\n"
    ended = await _asked(url, "labels", "gpu", "--match", 'heat{gpu!="0"}', *WINDOW)
    assert ended.out == "1\n"
    ended = await _asked(url, "labels", "gpu", *WINDOW, "--limit", "1", "-o", "json")
    assert json.loads(ended.out) == ["0"]
    assert (await _asked(url, "labels", "none", *WINDOW)).err == "no values\n"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_time_may_be_given_in_each_form(url: str) -> None:
    for at in (str(BEGAN + 60), "2023-11-14T22:14:20Z"):
        ended = await _asked(url, "instant", 'heat{gpu="0"}', "--time", at, "--format", "csv")
        assert ended.out.splitlines()[1] == "2023-11-14T22:14:20.000Z,1,heat,0,gpu"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_an_answer_says_besides_is_on_stderr(url: str) -> None:
    ended = await _asked(url, "range", "rate(heat[2m])", *WINDOW, "-o", "csv")
    assert ended.code == 0
    assert ended.err.startswith("info: PromQL info: metric might not be a counter")
    ended = await _asked(url, "instant", "quantile(2, heat)", "--time", str(BEGAN))
    assert ended.err.startswith("warning: PromQL warning: quantile value should be between 0 and 1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("range", "sum("), "  sum(\n      ^\n"),
        (("series", 'heat{gpu="1'), '  heat{gpu="1\n           ^\n'),
        (("labels", "--match", "{gpu=}"), "  {gpu=}\n       ^\n"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_caret_stands_under_what_is_wrong(
    url: str, words: tuple[str, ...], said: str
) -> None:
    ended = await _asked(url, *words)
    assert ended.code == 1
    assert "parse error: " in ended.err
    assert ended.err.endswith(said)


@pytest.mark.parametrize(
    "words",
    [
        ("instant", "up", "--time", "noon"),
        ("range", "up", "--start", "1h", "--since", "1h"),
        ("range", "up", "--start", "1h", "--end", "2h"),
        ("range", "up", "--step", "0"),
        ("range", "up", "--top", "0"),
        ("range", "up", "--format", "xml"),
        ("series", "up", "--limit", "0"),
        ("series",),
        ("labels", "--since", "ever"),
    ],
)
def test_wrong_usage(words: tuple[str, ...]) -> None:
    ended = alertctl("query", *words)
    assert ended.code == 2
    assert ended.err.startswith("Usage: ")


@pytest.mark.parametrize("words", [("range", "up"), ("series", "up"), ("labels",)])
def test_no_agent_ends_with_4(words: tuple[str, ...]) -> None:
    ended = alertctl("--url", "http://127.0.0.1:9", "query", *words)
    assert (ended.code, ended.out) == (4, "")


def test_the_shell_completes_what_can_be_asked() -> None:
    completion = BashComplete(main, {}, "alertctl", "_ALERTCTL_COMPLETE")
    asked = [one.value for one in completion.get_completions(["query"], "")]
    assert asked == ["instant", "labels", "range", "series"]
    assert "--since" in {one.value for one in completion.get_completions(["query", "range"], "--")}


SAID = "{}: parse error: x"


def below(place: str, query: str, width: int = 80) -> list[str]:
    return with_caret(SAID.format(place), query, width).split("\n")[1:]


def test_the_line_and_the_caret_below_the_message() -> None:
    assert with_caret("1:5: parse error: x", "sum(", 80) == "1:5: parse error: x\n  sum(\n      ^"
    assert below("2:3", "up +\n\tdo{") == ["   do{", "    ^"]
    assert below("1:1", "") == ["  ", "  ^"]


def test_wide_characters_move_it_by_their_width() -> None:
    assert below("1:5", '{"日志"') == ['  {"日志"', "        ^"]


def test_of_a_long_line_the_part_around_the_place() -> None:
    query = "a" * 300 + "!" + "b" * 300
    line, caret = below("1:301", query, 40)
    assert len(line) <= 40
    assert line[caret.index("^")] == "!"


@pytest.mark.parametrize("place", ["3:1", "0:1", "1:9", "1:0", "999999:999999"])
def test_a_place_that_is_not_there_is_left_out(place: str) -> None:
    assert below(place, "up\ndown") == []
    assert with_caret("no place", "up", 80) == "no place"


@given(st.text(max_size=60), st.integers(0, 5), st.integers(0, 70), st.integers(0, 100))
def test_any_text_at_any_width(query: str, line: int, column: int, width: int) -> None:
    from rich.cells import cell_len

    shown = below(f"{line}:{column}", query, width)
    assert len(shown) in (0, 2)
    assert all(cell_len(one) <= max(12, width) for one in shown)


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
