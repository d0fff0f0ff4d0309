"""Our test scripts, in the language of Prometheus's own tests."""

import subprocess
from pathlib import Path

import pytest

from support.promqltest.run import Bench
from support.promqltest.script import Eval, parse_script
from tocsin_alerting.promql.functions.table import FUNCTIONS
from tocsin_alerting.promql.parser.ast import (
    AggregateExpr,
    AggregateOp,
    BinaryExpr,
    BinaryOp,
    Call,
    walk,
)
from tocsin_alerting.promql.parser.parser import parse

ROOT = Path(__file__).parents[3]
OWN = sorted((ROOT / "tests" / "promql").glob("*.test"))
NOT_OF_THIS_SEMANTICS = {"holt_winters"}  # its name until Prometheus 3


def nodes() -> list[object]:
    commands = [command for file in OWN for command in parse_script(file.read_text())]
    return [node for one in commands if isinstance(one, Eval) for node in walk(parse(one.query))]


@pytest.mark.parametrize("file", OWN, ids=lambda file: file.stem)
def test_our_scripts_pass(file: Path) -> None:
    outcomes = list(Bench().run(parse_script(file.read_text())))
    assert outcomes
    assert [
        (outcome.command.line, outcome.faults)
        for outcome in outcomes
        if outcome.faults or outcome.skipped
    ] == []


def test_every_function_has_a_case_in_our_scripts() -> None:
    called = {node.function for node in nodes() if isinstance(node, Call)}
    assert FUNCTIONS.keys() - NOT_OF_THIS_SEMANTICS <= called


def test_every_aggregation_and_operator_has_a_case_in_our_scripts() -> None:
    all_nodes = nodes()
    assert {node.op for node in all_nodes if isinstance(node, AggregateExpr)} == set(AggregateOp)
    operators = {node.op for node in all_nodes if isinstance(node, BinaryExpr)}
    assert set(BinaryOp) - operators == set()


SCRIPT = """
load 1m
  m 1 2
  n {{count:1}}

eval instant at 0 m
  m 2

eval instant at 0 n
  n {{count:1}}

eval instant at 0 count(n)
  {} 1
"""


SPOILED = """
load 1m
  m 1 2

eval instant at 1m m
  m 2

eval instant at 1m m
  m 3

eval range from 0 to 1m step 1m m
  m 1 3

eval instant at 1m m +
  m 2

eval instant at 1m rate(m[2m])
  expect no_info
  {} 0.016666666666666666

evil instant at 1m m
  m 2
"""


def test_the_command_prints_each_failure_and_ends_with_the_count(tmp_path: Path) -> None:
    script = tmp_path / "spoiled.test"
    script.write_text(SPOILED)
    command = [str(ROOT / "scripts" / "promqltest"), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    named = [line for line in lines if line.startswith(str(script))]
    assert [line.removeprefix(f"{script}:").split(":")[0] for line in named] == [
        "8",
        "11",
        "14",
        "17",
        "21",
    ]
    assert f"{script}:21: no command: evil instant at 1m m" in lines
    assert lines[-1] == "1 passed, 5 failed, 0 skipped"
    assert done.returncode == 1


def test_a_wrong_expectation_fails_and_native_histograms_are_skipped() -> None:
    wrong, *native = Bench().run(parse_script(SCRIPT))
    assert wrong.faults and not wrong.skipped
    assert [(outcome.faults, outcome.skipped) for outcome in native] == [([], True), ([], True)]
