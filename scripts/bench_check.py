"""`alertctl check` of many rules, and `alertctl test` of a small and a long file, beside promtool:
processes by turns, each from its start to its end. A figure is the processor time that it took.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring.processes import binary
from measuring.table import circumstances, table, write_json

ALERTCTL = str(Path(sys.executable).with_name("alertctl"))
RULE = """
  - alert: ErrorRateHigh{n}
    expr: |
      sum by (job) (rate(http_requests_total{{job="api-{n}", code=~"5.."}}[5m]))
        / sum by (job) (rate(http_requests_total{{job="api-{n}"}}[5m])) > 0.05
    for: 5m
    labels: {{severity: critical, team: core-{n}}}
    annotations:
      summary: "Errors of {{{{ $labels.job }}}} are high"
      description: "{{{{ $value | humanizePercentage }}}} of {{{{ $labels.job }}}} fail."
      runbook_url: https://runbooks.example.com/error-rate"""
SMALL_RULES = "groups: [{name: g, rules: [{alert: Down, expr: up == 0, labels: {severity: P1}}]}]"
SMALL_TEST = """
rule_files: [small.yml]
tests:
- input_series: [{series: up, values: '0 0 0'}]
  alert_rule_test: [{eval_time: 1m, alertname: Down, exp_alerts: [{exp_labels: {severity: P1}}]}]
"""


LONG_TEST = """
rule_files: [long.yml]
tests:
- interval: 1m
  input_series:
  - {series: 'http_requests_total{job="api-3", code="500"}', values: '0+10x1000'}
  - {series: 'http_requests_total{job="api-3", code="200"}', values: '0+40x1000'}
  promql_expr_test: [{eval_time: 1000m, expr: vector(1), exp_samples: [{labels: "{}", value: 1}]}]
"""


def cpu_s(command: list[str]) -> float:
    """User and system time of one process. Ends the measurement when it fails."""
    before = os.times()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = os.times()
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )


def write_files(folder: Path, rules: int) -> dict[str, tuple[list[str], list[str]]]:
    """What is measured, by its name: our command and promtool's."""
    groups = range(0, rules, 20)
    text = "groups:" + "".join(
        f"\n- name: group-{first}\n  rules:{''.join(RULE.format(n=first + n) for n in range(20))}"
        for first in groups
    )
    (folder / "many.yml").write_text(text)
    hundred = "".join(RULE.format(n=n) for n in range(100))
    (folder / "long.yml").write_text(f"groups:\n- name: long\n  rules:{hundred}")
    (folder / "long.test.yml").write_text(LONG_TEST)
    (folder / "small.yml").write_text(SMALL_RULES)
    (folder / "small.test.yml").write_text(SMALL_TEST)
    names = ("many.yml", "small.yml", "small.test.yml", "long.test.yml")
    many, small, tests, long = (str(folder / name) for name in names)
    promtool = binary("promtool")
    return {
        f"check {len(groups) * 20:,} rules": (
            [ALERTCTL, "check", many],
            [promtool, "check", "rules", many],
        ),
        "check one rule": ([ALERTCTL, "check", small], [promtool, "check", "rules", small]),
        "test one rule": ([ALERTCTL, "test", tests], [promtool, "test", "rules", tests]),
        "test 100 rules 1,000 times": (
            [ALERTCTL, "test", long],
            [promtool, "test", "rules", long],
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rules", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    rows: list[list[str | float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, commands in write_files(Path(folder), options.rules).items():
            taken = [[cpu_s(command) for command in commands] for _ in range(options.turns)]
            ours, theirs = (statistics.median(one) for one in zip(*taken, strict=True))
            rows.append([name, ours, theirs, ours / theirs])
    head = ["processor time, s", "alertctl", "promtool", "ratio"]
    print(table(head, rows))
    write_json(options.json, {**circumstances(), "rows": rows})


if __name__ == "__main__":
    main()
