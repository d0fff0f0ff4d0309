"""Files of incident tests, made of their parts and run in this process."""

import asyncio
import time
from pathlib import Path

from tocsin_alerting.incident_test.file_run import FileOutcome, RunOptions, run_file

RULES = """
groups:
- name: g
  rules:
  - alert: Down
    expr: down > 0
    annotations: {summary: "{{ $labels.target }} is down."}
  - alert: Slow
    expr: slow > 0
    for: 10m
"""
POLICY = """
smtp: {smarthost: "smtp.example.com:587"}
receivers:
  room: {type: webhook, url: "https://chat.example.com/hook"}
  phone: {type: webhook, url: "https://phone.example.com/call"}
contacts:
  li: {email: li@example.com, ways: {phone: phone}}
  wang: {email: wang@example.com, ways: {phone: phone}}
schedules:
  primary:
    time_zone: Europe/Berlin
    rotation: {type: daily, at: "03:30", start: 2026-01-01, members: [li, wang]}
policies:
  P0:
    group: {wait: 0s}
    steps:
    - {notify: [{contact: li, via: email}, {receiver: room}], escalate_after: 15m}
    - {notify: [{contact: wang}]}
    ack: {timeout: 30m, remind: 10m}
"""
FIRING = "{series: 'down{severity=\"P0\", target=\"a\"}', values: '1x2000'}"


def text_of(
    expect: str, actions: str = "[]", *, series: str = FIRING, more: str = "", block: str = ""
) -> str:
    """A file of one test; `expect` and `actions` are YAML lists in one line."""
    return f"""\
rule_files: [rules.yml]
evaluation_interval: 15s
tests:
- name: one
  interval: 15s
  input_series: [{series}]
  policy_file: tocsin.yml
  {more}
  incident_test:
    {block}
    actions: {actions}
    expect: {expect}
"""


def run_text(folder: Path, text: str, policy: str = POLICY) -> FileOutcome:
    """Run `text` as a file of the folder, beside RULES and `policy`."""
    (folder / "rules.yml").write_text(RULES)
    (folder / "tocsin.yml").write_text(policy)
    path = folder / "one.test.yml"
    path.write_text(text)
    return asyncio.run(run_file(text, str(path), RunOptions(3, time.monotonic)))


def failures(folder: Path, expect: str, actions: str = "[]", **parts: str) -> list[str]:
    """What fails, without paths and timelines."""
    policy = parts.pop("policy", POLICY)
    outcome = run_text(folder, text_of(expect, actions, **parts), policy)
    lines = [line for text in outcome.failures for line in text.splitlines()]
    shown = lines[2 : next((n for n, one in enumerate(lines) if "timeline" in one), None)]
    return [line.strip().removeprefix(f"{folder}/one.test.yml:") for line in shown]
