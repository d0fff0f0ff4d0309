"""Our patterns, each on lines as programs write them."""

import re
from pathlib import Path

import pytest

from tocsin_exporter.tailing.library import GROUPS, known_patterns, rows
from tocsin_exporter.tailing.line_patterns import LinePatterns
from tocsin_exporter.tailing.privacy import holds_prompt
from tocsin_exporter.tailing.settings import LogSource

KNOWN = rows()
MATCHER = LinePatterns(LogSource("all", patterns=list(known_patterns().values())))
QUIET = """
INFO 05-12 01:48:42 [loggers.py:116] Engine 000: Avg prompt throughput: 510.1 tokens/s
INFO:     10.0.0.7:51234 - "POST /v1/chat/completions HTTP/1.1" 200 OK
[2026-03-01 10:00:00 TP0] Decode batch, #running-req: 8, #token: 5007, token usage: 0.50
slot update_slots: id  0 | task 500 | n_past = 503, memory_seq_rm [503, end)
INFO 05-12 01:48:42 [core.py:61] Initializing a V1 LLM engine (v0.9.0) with config: seed=500
[GIN] 2026/03/01 - 10:00:00 | 200 |  500.1ms |  127.0.0.1 | POST     "/api/chat"
2026-03-01T10:00:00.0Z  INFO text_generation_router::server: Success
[Mon Nov 30 10:00:00 2026] EXT4-fs (sda1): mounted filesystem with ordered data mode
node7:1234:1300 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB
I0512 01:48:42.123456 7 server.cc:677] successfully loaded 'llm' version 1
""".strip().splitlines()


@pytest.mark.parametrize("name", KNOWN)
def test_its_lines(name: str) -> None:
    known = KNOWN[name]
    assert known["matches"] and known["means"] and known["group"] in GROUPS
    for line in known["matches"]:
        assert name in [match.pattern for match in MATCHER.matches(line.encode())], line
        assert not holds_prompt(line.encode()), line
    for line in known.get("ignores", ()):
        assert name not in [match.pattern for match in MATCHER.matches(line.encode())], line


def test_the_page_has_each_pattern() -> None:
    page = (Path(__file__).parents[3] / "docs" / "logs.md").read_text("utf-8")
    told = re.findall(r"(?m)^\| `(\w+)` \| `(\w+)` \| (.*) \|$", page)
    assert told == [(name, row["group"], row["means"]) for name, row in KNOWN.items()]


@pytest.mark.parametrize("line", QUIET)
def test_a_healthy_engine_matches_nothing(line: str) -> None:
    assert list(MATCHER.matches(line.encode())) == []


def test_values() -> None:
    xid = b"NVRM: Xid (PCI:0000:b3:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off"
    assert [(m.pattern, m.value) for m in MATCHER.matches(xid)] == [("kernel_xid", "79")]
    access = b'10.0.0.7 - - [t] "GET / HTTP/1.1" 502 157 "-" "curl/8"'
    assert [(m.pattern, m.value) for m in MATCHER.matches(access)] == [("http_5xx", "502")]


def test_bytes_that_are_no_text_do_not_hide_a_match() -> None:
    line = b"\xff\x00\xfe CUDA out of memory \xff"
    assert [match.pattern for match in MATCHER.matches(line)] == ["cuda_oom"]
