"""`alertctl check` on right and broken files: places, exit codes, no traceback."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from support.agent_process import AgentProcess
from support.alert_events import alert, fires
from support.command_line import Ended, alertctl
from support.dispatcher_setup import Floor
from support.policies import config
from tocsin_alerting.cli.alertctl import main
from tocsin_alerting.incidents.escalation_policy import EscalationPolicy, EscalationStep, Recipient
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal

ROOT = Path(__file__).parents[3]
BROKEN = ROOT / "tests" / "alerting" / "rules" / "broken"
WANTED: dict[str, list[str]] = json.loads((BROKEN / "wanted.json").read_text())
PLACE = re.compile(r"  (.*?):[1-9]\d*:[1-9]\d*: .+")
CLEAN = "groups: [{name: g, rules: [{record: 'a:b', expr: up}]}]"
LINTED = (
    "groups: [{name: g, rules: [{alert: A, expr: up == 2, labels: {severity: page}, "
    "annotations: {summary: It is down.}}]}]"
)
TWENTY = "groups:\n- name: g\n  rules:\n" + "\n".join(
    f"  - alert: A{n}\n    expr: {('sum(up) + on(', 'nosuch(up)')[n % 2]}" for n in range(20)
)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    return tmp_path / "rules.yml"


def test_rules_are_those_of_the_prometheus_that_is_named(rules: Path) -> None:
    rules.write_text(CLEAN.replace("expr: up", "expr: 'limitk(1, up)'"))
    assert alertctl("check", str(rules)).code == 0
    ended = alertctl("check", "--promql.semantics", "2", str(rules))
    assert ended.code == 1
    assert 'unknown function with name "limitk"' in ended.err
    ended = alertctl("check", "--promql.semantics", "1", str(rules))
    assert ended.code == 2
    assert "'1' is not one of '2', '3'" in ended.err


@pytest.mark.parametrize("name", sorted(WANTED))
def test_a_broken_rule_file_fails_with_places(name: str) -> None:
    ended = alertctl("check", "--promql.semantics", "2", str(BROKEN / name))
    head, *problems = ended.err.splitlines()
    assert ended.code == 1
    assert head.startswith(f"  FAILED: {len(WANTED[name])} problem")
    for line, wanted in zip(problems, WANTED[name], strict=True):
        found = PLACE.fullmatch(line)
        assert found and found[1] == str(BROKEN / name)
        assert wanted in line


def test_twenty_errors_in_one_file_are_told_at_once(rules: Path) -> None:
    rules.write_text(TWENTY)
    ended = alertctl("check", str(rules))
    head, *problems = ended.err.splitlines()
    assert (ended.code, head) == (1, "  FAILED: 20 problems")
    lines = [int(line.split(":")[1]) for line in problems]
    assert lines == list(range(5, 45, 2))


def test_what_is_right_and_what_is_lint(rules: Path) -> None:
    rules.write_text(CLEAN)
    assert alertctl("check", str(rules)).code == 0
    rules.write_text(LINTED)
    ended = alertctl("check", str(rules))
    assert ended.code == 3
    assert "  SUCCESS: 1 rule found, 1 lint\n" in ended.out
    assert ended.err.endswith(" (lint)\n")
    assert PLACE.match(ended.err)


def test_lints_are_chosen_by_name_and_left_out_by_name(rules: Path) -> None:
    rules.write_text(LINTED)

    def said(*options: str) -> tuple[int, list[str]]:
        ended = alertctl("check", *options, str(rules))
        return ended.code, re.findall(r"\(([a-z-]+)\) \(lint\)", ended.err)

    assert said() == (3, ["never-fires"])
    assert said("--lint=all") == (3, ["no-runbook", "never-fires", "foreign-severity"])
    assert said("--lint=no-summary,no-runbook") == (3, ["no-runbook"])
    assert said("--lint=default", "--lint=no-runbook") == (3, ["no-runbook", "never-fires"])
    assert said("--lint=none") == said("--ignore", "never-fires") == (0, [])
    assert said("--no-lint-fatal") == (0, ["never-fires"])
    assert said("--lint-fatal") == said()
    refused = alertctl("check", "--lint=never-fire", str(rules))
    assert refused.code == 2
    assert "there is no lint never-fire; did you mean never-fires?" in refused.err


def test_of_very_many_lints_the_first_of_each_name_are_said(rules: Path) -> None:
    many = "".join(f"{{alert: A{n}, expr: up == 2}}, " for n in range(130))
    other = "{alert: B, expr: up == 0, labels: {a: '{{ $value }}'}}"
    rules.write_text(f"groups: [{{name: g, rules: [{many}{other}]}}]")
    ended = alertctl("check", str(rules))
    assert ended.code == 3
    assert "131 rules found, 131 lints" in ended.out
    assert ended.err.count("(never-fires) (lint)") == 100
    assert ended.err.count("(value-in-label) (lint)") == 1
    assert ended.err.endswith("  30 more of never-fires are not shown\n")


def test_the_types_of_our_own_metrics_are_known(rules: Path) -> None:
    rules.write_text("groups: [{name: g, rules: [{record: 'a:b', expr: 'rate(node_load1[5m])'}]}]")
    ended = alertctl("check", str(rules))
    assert f"{rules}:1:51: " in ended.err and "(rate-of-gauge)" in ended.err


def test_the_standard_input_is_a_file_of_that_name() -> None:
    def piped(content: bytes) -> Ended:
        result = CliRunner().invoke(main, ["check", "-"], input=content)
        return Ended(result.exit_code, result.stdout, result.stderr)

    assert piped(CLEAN.encode()).out == "Checking standard input\n  SUCCESS: 1 rule found\n"
    assert "  stdin:1:50: " in piped(LINTED.replace("up == 2", "up ==").encode()).err
    assert "stdin:1:1: not text in UTF-8" in piped(b"\xff\xfe\x00").err
    assert "stdin:1:1: a configuration names files beside it" in piped(b"receivers: {}").err


def test_a_manifest_and_json_are_rule_files(rules: Path) -> None:
    groups = {"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "up == 2"}]}]}
    for data in (groups, {"kind": "PrometheusRule", "spec": groups}):
        rules.write_text(json.dumps(data, indent=1))
        ended = alertctl("check", str(rules))
        assert "1 rule found, 1 lint" in ended.out and "(never-fires)" in ended.err


def test_a_running_agent_is_asked_what_it_has(rules: Path, agent: AgentProcess) -> None:
    rules.write_text(
        "groups:\n- name: g\n  rules:\n"
        "  - {record: 'job:cpu', expr: 'sum by (job) (rate(node_cpu_seconds_total[1m]))'}\n"
        "  - {alert: A, expr: 'job:cpu > 1 and node_laod1 > 1'}\n"
        "  - {alert: B, expr: 'rate(tocsin_build_info[5m]) > 0'}\n"
    )
    url = f"http://127.0.0.1:{agent.port}"
    ended = alertctl("--url", url, "check", "--live", str(rules))
    lines = ended.err.splitlines()
    assert ended.code == 3 and len(lines) == 2
    assert f"{rules}:5:39: " in lines[0] and "; the nearest is `node_load1` (mat" in lines[0]
    assert "(rate-of-gauge)" in lines[1]
    assert alertctl("--url", url, "check", str(rules)).err.count("(lint)") == 1
    nobody = alertctl("--url", "http://127.0.0.1:9", "check", "--live", str(rules))
    assert nobody.code == 4
    rules.write_text(rules.read_text().replace("- name: g", "- name: g\n  owner: us"))
    others = alertctl("--url", url, "check", "--live", "--ignore-unknown-fields", str(rules))
    assert [re.sub(r"yml:[67]:", "yml:", line) for line in others.err.splitlines()] == [
        re.sub(r"yml:[56]:", "yml:", line) for line in lines
    ]


def test_the_worst_file_decides(tmp_path: Path) -> None:
    files = {"clean": CLEAN, "linted": LINTED, "broken": "groups: 5"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    paths = {name: str(tmp_path / name) for name in files}
    assert alertctl("check", paths["clean"], paths["linted"]).code == 3
    ended = alertctl("check", paths["broken"], paths["linted"], paths["clean"])
    assert ended.code == 1
    assert ended.out.count("Checking ") == 3


def test_without_files_the_bundled_rules_are_checked() -> None:
    ended = alertctl("check")
    assert (ended.code, ended.err) == (0, "")
    names = re.findall(r"Checking .*/(\w+)\.yml", ended.out)
    assert names[:-3] == sorted(path.stem for path in (ROOT / "rules").glob("*.yml"))
    assert names[-3:] == ["llamacpp", "sglang", "vllm"]


def test_a_configuration_is_known_by_its_keys(rules: Path) -> None:
    ended = alertctl("check", str(ROOT / "docs" / "config.yml"))
    assert "SUCCESS: 1 receiver, 5 policies, 7 rule files, 1 warning" in ended.out
    rules.write_text("langauge: en\nreceivers: 5\n")
    ended = alertctl("check", str(rules))
    assert ended.code == 1
    assert ended.err.splitlines()[1:] == [
        f'  {rules}:1:1: unknown key "langauge"; did you mean "language"?',
        f"  {rules}:2:12: receivers: must be a mapping",
    ]


def test_a_note_changes_no_exit_code(rules: Path) -> None:
    rules.write_text("receivers: {hook: {type: webhook, url: 'https://example.com/'}}\n")
    ended = alertctl("check", str(rules))
    assert ended.code == 0 and "warning" not in ended.out
    assert "links in messages point to http://" in ended.err
    assert "which only this machine can reach; set external_url (note)\n" in ended.err


def test_a_warning_that_is_meant_so_is_left_out_by_its_name(rules: Path) -> None:
    rules.write_text(
        "receivers:\n"
        "  one: {type: webhook, url: 'https://example.com/a'}\n"
        "  two: {type: webhook, url: 'https://example.com/b'}\n"
    )
    warned = alertctl("check", str(rules))
    assert warned.code == 3 and "single-channel" in warned.out + warned.err
    ignored = alertctl("check", "--ignore", "single-channel", str(rules))
    assert ignored.code == 0 and "single-channel" not in ignored.out + ignored.err


def test_the_rules_of_a_configuration_are_checked_with_it(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text("groups: [{name: g, rules: [{alert: A, expr: 'up ='}]}]")
    (tmp_path / "tocsin.yml").write_text("rule_files: [rules.yml]")
    ended = alertctl("check", str(tmp_path / "tocsin.yml"))
    assert ended.code == 1
    assert f"{tmp_path}/rules.yml:1:" in ended.err


def test_unit_tests_are_known_by_their_keys(rules: Path) -> None:
    path = ROOT / "rules" / "tests" / "gpu.test.yml"
    assert "unit tests found" in alertctl("check", str(path)).out
    rules.write_text("rule_files: []\ntests: [{interval: 1x}]\n")
    ended = alertctl("check", str(rules))
    assert ended.code == 1
    assert f"{rules}:2:" in ended.err


@pytest.mark.parametrize("content", [b"\x7fELF\x02\x01\xff\xfe", b"\x00" * 100, b"\xff" * 100])
def test_bytes_are_no_rules(rules: Path, content: bytes) -> None:
    rules.write_bytes(content)
    ended = alertctl("check", str(rules))
    assert ended.code == 1
    assert PLACE.fullmatch(ended.err.splitlines()[1])


@pytest.mark.parametrize("name", ["none.yml", "none[1].yml", "."])
def test_what_cannot_be_read_fails(tmp_path: Path, name: str) -> None:
    ended = alertctl("check", str(tmp_path / name))
    assert ended.code == 1
    assert f"{tmp_path / name}:1:1: cannot read this file: " in ended.err


def test_a_name_with_magic_characters_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "rules[1]*.yml"
    path.write_text(CLEAN)
    assert "1 rule found" in alertctl("check", str(path)).out


def test_a_configuration_and_all_its_rule_files_at_once(tmp_path: Path) -> None:
    for name in ("r01.yml", "r02.yml"):
        (tmp_path / name).write_text("groups: [{name: g, rules: [{alert: A, expr: 'up ='}]}]")
    path = tmp_path / "tocsin.yml"
    path.write_text(
        "language: fr\nrule_files: [bundled, nope.yml, r01.yml, 'r0*.yml']\n"
        "group: {by: [alertname, 'a b']}\n"
    )
    for command in (("check", str(path)), ("test", "--config.file", str(path))):
        ended = alertctl(*command)
        assert ended.code == 1
        told = [line.strip() for line in ended.err.splitlines()[1:]]
        assert [line.partition(": ")[0] for line in told] == [
            f"{tmp_path}/r01.yml:1:49",
            f"{tmp_path}/r02.yml:1:49",
            f"{path}:1:11",
            f"{path}:2:23",
            f"{path}:3:25",
        ]
        assert 'group.by.1: "a b" is no label name; use letters' in told[-1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("receiver: {}", 'unknown key "receiver"; did you mean "receivers"?'),
        ("gruops: []", 'unknown key "gruops" in a rule file; did you mean "groups"?'),
        (
            "[]",
            "a rule file must be a mapping, not a list; so must unit tests (`tests`) and a conf",
        ),
        ("5", "a rule file must be a mapping, not "),
        ("zzz: 1", "no key of a rule file (`groups`), unit tests (`tests`) and a configuration ("),
    ],
)
def test_what_a_file_is_meant_to_be(rules: Path, text: str, said: str) -> None:
    rules.write_text(text)
    ended = alertctl("check", str(rules))
    assert ended.code == 1
    assert said in ended.err and ended.err.splitlines()[1].startswith(f"  {rules}:1:1: ")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}"])
def test_an_empty_file_is_right_as_any_kind(rules: Path, text: str) -> None:
    rules.write_text(text)
    ended = alertctl("check", str(rules))
    assert (ended.code, ended.err) == (0, "")
    assert "right for a rule file (`groups`), unit tests (`tests`) and a configuration" in ended.out


async def test_an_incident_that_runs_and_would_lose_its_receiver_is_named(tmp_path: Path) -> None:
    down = alert("EngineDown", "P0", target="a")
    ops = EscalationPolicy("P0", (EscalationStep((Recipient("ops"),)),))
    journal = SqliteJournal(tmp_path / "data" / "incidents.db")
    (tmp_path / "data").mkdir()
    one = await Floor(config(policies={"P0": ops}), journal).open()
    await one.hear(fires(down))
    await one.dispatcher.close(one.now)
    file = tmp_path / "tocsin.yml"
    text = f"storage: {{path: {tmp_path}/data}}\nrule_files: []\n"
    text += "receivers: {NAME: {type: log}}\n"
    file.write_text(text.replace("NAME", "ops"))
    assert "incident" not in (ended := alertctl("check", str(file))).err, ended.err
    file.write_text(text.replace("NAME", "oncall"))
    ended = alertctl("check", str(file))
    assert "incident #1 [P0] is running and tells ops, not in this file" in ended.err
    assert "its first step tells oncall" in ended.err
    assert ended.code == 3


def test_a_robot_behind_a_webhook_is_named_at_its_url(tmp_path: Path) -> None:
    path = tmp_path / "tocsin.yml"
    url = "https://oapi.dingtalk.com/robot/send?access_token=abcdef0123456789"
    path.write_text(f"rule_files: [bundled]\nreceivers:\n  r:\n    type: webhook\n    url: {url}\n")
    ended = alertctl("check", str(path))
    assert ended.code == 3 and "abcdef0123456789" not in ended.err
    assert f'{path}:5:10: receiver "r": DingTalk does not accept webhook bodies' in ended.err


def test_a_file_without_rules_is_a_note_and_a_lint_where_it_is_asked_for(rules: Path) -> None:
    rules.write_text("groups: []\n")
    told = alertctl("check", str(rules))
    note = "1:1: no rules in this file; nothing will ever fire (note)"
    assert (told.code, note in told.err) == (0, True)
    asked = alertctl("check", "--lint=all", str(rules))
    assert (asked.code, "nothing will ever fire (no-rules) (lint)" in asked.err) == (3, True)
    for quiet in (("--lint=none",), ("--ignore", "no-rules")):
        assert alertctl("check", *quiet, str(rules)).err == ""
