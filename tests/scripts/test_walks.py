"""What `scripts/walks` counts is on the way that it names; nothing here holds how much that is."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.walk import Function, Tracer, Walk
from tocsin_alerting.annotations import annotation_texts

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "walks.py"
ALERT, RANGE, ACK = (
    "one alert, GPU to mailbox",
    "query_range, HTTP to answer",
    "ack, HTTP to commit",
)
PARTS = ("NVML to store", "rule to incident in the journal", "timer to mail")
ON_THE_WAY = {  # in this order, wherever the files stand below
    "NVML to store": ("exporter/tocsin_exporter/collectors/", "tsdb/"),
    "rule to incident in the journal": ("loops/", "rules/", "promql/", "incidents/journal/"),
    "timer to mail": ("loops/", "incidents/", "incidents/journal/", "notify/", "notify/email/"),
    RANGE: ("exporter/tocsin_exporter/", "api/", "promql/parser/", "tsdb/"),
    ACK: ("exporter/tocsin_exporter/", "api/", "incidents/", "incidents/journal/"),
}
NOT_ON_THE_WAY = {
    "NVML to store": ("promql/", "incidents/", "notify/", "api/"),
    "rule to incident in the journal": ("notify/", "api/", "collectors/"),
    # the numbers of when it fired are read from the store on the way
    "timer to mail": ("collectors/", "remote_write/"),
    RANGE: ("incidents/", "notify/", "rules/", "collectors/"),
    ACK: ("promql/", "notify/email/", "tsdb/", "collectors/"),
}


@cache
def ran(*arguments: str) -> str:
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("cc is not installed: it makes the library that stands in for NVML")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def walks() -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = json.loads(ran("--json"))
    return result


@pytest.mark.parametrize("name", ON_THE_WAY)
def test_a_walk_meets_what_is_on_its_way_and_nothing_else(name: str) -> None:
    files = list(dict.fromkeys(function["file"] for function in walks()[name]["read"]))
    firsts = [
        next((number for number, file in enumerate(files) if part in file), None)
        for part in ON_THE_WAY[name]
    ]
    assert None not in firsts, (name, firsts, files)
    assert firsts == sorted(firsts, key=lambda number: number or 0), (name, firsts)
    assert [file for file in files for part in NOT_ON_THE_WAY[name] if part in file] == []


@pytest.mark.parametrize("name", [*PARTS, ALERT, RANGE, ACK])
def test_each_function_stands_where_the_walk_says(name: str) -> None:
    walk = walks()[name]
    for function in walk["read"]:
        lines = (ROOT / function["file"]).read_text("utf-8").splitlines()
        first = function["line"] - 1
        body = "\n".join(lines[first : first + function["lines"]])
        assert f"def {function['name'].rpartition('.')[2]}" in body, function
    read = [(function["file"], function["name"], function["line"]) for function in walk["read"]]
    assert len(set(read)) == len(read) == walk["functions"] > walk["files"] > 5
    assert walk["lines"] > walk["functions"]
    assert walk["changes"] == walk["files"] + walk["back"] and walk["back"] > 0


def test_the_way_of_an_alert_is_its_three_parts_each_function_once() -> None:
    result = walks()
    names = [{(f["file"], f["line"]) for f in result[part]["read"]} for part in PARTS]
    assert result[ALERT]["functions"] == len(set.union(*names)) < sum(map(len, names))


def test_files_are_listed_in_order_with_their_functions() -> None:
    text = ran("--files")
    table, *lists = text.split("\n\n")
    assert table.split("\n")[0].split() == ["files", "functions", "lines", "changes", "back"]
    assert [part.splitlines()[0] for part in lists] == [*PARTS, RANGE, ACK]
    assert "Gpu.collect" in lists[0] and "  exporter/tocsin_exporter/collectors/gpu.py" in lists[0]


def test_a_change_is_another_file_than_that_of_the_function_before() -> None:
    walk = Walk(
        [
            Function("a.py", "one", 1, 10),
            Function("a.py", "one.inner", 4, 3),
            Function("b.py", "two", 1, 5),
            Function("a.py", "three", 20, 2),
            Function("c.py", "four", 7, 1),
        ]
    )
    assert walk.files == ["a.py", "b.py", "c.py"]
    assert (walk.lines, walk.changes, walk.back) == (18, 4, 1)
    again = walk + Walk([Function("b.py", "two", 1, 5), Function("d.py", "five", 1, 1)])
    assert [function.name for function in again.functions][-2:] == ["four", "five"]


def test_what_runs_outside_of_the_recording_is_not_counted() -> None:
    with Tracer().installed() as tracer:
        annotation_texts({})
        tracer.begin()
        list(map(str.strip, sorted("not ours")))
        assert tracer.end().functions == []
        tracer.begin()
        annotation_texts({})
        annotation_texts({})
        (function,) = tracer.end().functions
        annotation_texts({})
    assert function.name == "annotation_texts" and function.file.endswith("annotations.py")
    source, first = inspect.getsourcelines(annotation_texts)
    assert (function.line, function.lines) == (first, len(source))
