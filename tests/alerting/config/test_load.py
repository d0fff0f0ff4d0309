import os
import socket
from glob import glob
from pathlib import Path

import pytest

from support.notifications import notification
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import build_channels, incident_config, load
from tocsin_alerting.config.reading import rule_patterns
from tocsin_alerting.incidents.escalation_policy import Addressee, EscalationStep
from tocsin_alerting.incidents.roster import resolve
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.yaml_document import InvalidDocument
from tocsin_exporter.engine_targets import EngineTargets

ROOT = Path(__file__).parents[3]

WHOLE = """
version: 1
time_zone: Asia/Shanghai
language: zh
evaluation_interval: 1s
rule_files: [bundled, mine.yml, "more/*.yml"]
engines: [{url: "http://127.0.0.1:8000"}]
processes: [{name: vllm, exe: vllm}]
contacts:
  li: {email: li@example.com}
  wang: {email: wang@example.com}
receivers:
  hook: {type: webhook, url: "http://127.0.0.1:9/h", secret_file: signing, timeout: 1m30s}
  mail: {type: email, smarthost: "localhost:25", from: a@example.com, username: a, password_env: PW}
policies:
  P0:
    group: {wait: 0s}
    steps:
    - {notify: [{receiver: hook}, {contact: li, via: [email]}], escalate_after: 1m}
    - {notify: [{everyone: true, via: [email]}], escalate_after: 1m}
    repeat: 1
    final: {notify: [{receiver: hook}], every: 5m, for: 1d}
routes:
- {match: ['team="ml"'], policy: P0, receivers_add: [hook], continue: true, group_by: [alertname]}
- {}
severities: {page: P0}
web: {listen_address: "[::1]:0", token_file: token}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.yml").write_text("groups: []")
    (tmp_path / "mine.yml").write_text("groups: []")
    (tmp_path / "signing").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    (tmp_path / "token").write_text("t0ken\n")
    (tmp_path / "tocsin.yml").write_text(WHOLE)
    return tmp_path


def _load(directory: Path, text: str, **env: str) -> Config:
    path = directory / "tocsin.yml"
    path.write_text(text)
    return load(path, env)


def test_the_documented_file_is_the_default() -> None:
    path = ROOT / "docs" / "config.yml"
    documented = load(path, {})
    assert documented == load(None)
    keys = {line.split(":")[0] for line in path.read_text().splitlines() if line[:1].isalpha()}
    assert keys == set(Config.model_fields)


def rule_paths(config: Config) -> list[Path]:
    return [Path(path) for pattern in rule_patterns(config) for path in sorted(glob(pattern))]


def test_without_a_file_everything_is_there() -> None:
    config = load(None)
    channels = build_channels(config, {})
    incidents = incident_config(config)
    assert list(channels) == ["log"]
    assert {name for name in incidents.policies} == {one.value for one in Severity}
    escalations = {n: p.steps[0].escalate_after_ms for n, p in incidents.policies.items()}
    minutes = {name: ms and ms // 60_000 for name, ms in escalations.items()}
    assert minutes == {"P0": 15, "P1": 60, "P2": 240, "P3": None, "P4": None}
    recover = {n: (p.recover_within_ms or 0) // 60_000 for n, p in incidents.policies.items()}
    assert recover == {"P0": 5, "P1": 15, "P2": 60, "P3": 240, "P4": 1440}
    assert rule_paths(config) == sorted((ROOT / "rules").glob("*.yml"))


def _told(incidents: IncidentConfig, step: EscalationStep) -> tuple[Addressee, ...]:
    return resolve(step.notify, incidents.roster, 0, Severity.P0)


def test_a_whole_file(directory: Path) -> None:
    config = load(directory / "tocsin.yml", {"PW": "hunter2"})
    incidents = incident_config(config)
    first, second = incidents.policies["P0"].steps
    assert _told(incidents, first) == (Addressee("hook"), Addressee("mail", "li"))
    assert _told(incidents, second) == (Addressee("mail", "li"), Addressee("mail", "wang"))
    assert incidents.policies["P0"].final is not None
    assert incidents.policies["P0"].final.for_ms == 86_400_000
    assert incidents.routes[0].continue_ and incidents.routes[0].group_by == ("alertname",)
    assert incidents.routes[1].matchers == ()
    assert incidents.severity_words == {"page": Severity.P0}
    assert config.evaluation_interval == 1_000
    assert [path.name for path in rule_paths(config)][-2:] == ["mine.yml", "b.yml"]
    assert config.web.token_file == directory / "token"
    channels = build_channels(config, {"PW": "hunter2"})
    assert set(channels) == {"hook", "mail"} and "hunter2" not in repr(channels)


def test_policies_that_are_left_out_tell_everybody_who_can_be_told(tmp_path: Path) -> None:
    text = """
contacts: {li: {email: li@example.com}}
receivers:
  hook: {type: webhook, url: "http://127.0.0.1:9/"}
  mail: {type: email, smarthost: localhost, from: a@example.com}
"""
    incidents = incident_config(_load(tmp_path, text))
    step = incidents.policies["P3"].steps[0]
    assert _told(incidents, step) == (Addressee("hook"), Addressee("mail", "li"))


@pytest.mark.parametrize(
    ("group", "wait_ms"), [("", 0), ("group: {by: [alertname]}", 0), ("group: {wait: 20s}", 20_000)]
)
def test_a_p0_of_ones_own_waits_for_nobody_unless_it_is_said(
    tmp_path: Path, group: str, wait_ms: int
) -> None:
    steps = "steps: [{notify: [{receiver: log}]}]"
    config = _load(tmp_path, f"policies: {{P0: {{{steps}}}, P1: {{{steps}}}}}\n{group}\n")
    policies = incident_config(config).policies
    assert policies["P0"].group_wait_ms == wait_ms
    assert policies["P1"].group_wait_ms == (wait_ms or 15_000)


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert _load(tmp_path, "# nothing yet\n") == load(None)
    assert _load(tmp_path, "receivers: {}\npolicies: {}\n") == load(None)


def test_paths_start_at_the_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    config = load(directory / "tocsin.yml", {"PW": "x"})
    assert all(path.is_absolute() and path.is_file() for path in rule_paths(config))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidDocument, match="none.yml:1:1: cannot read this file: No such file"):
        load(tmp_path / "none.yml", {})
    (tmp_path / "bytes.yml").write_bytes(b"\x80\xfe\x00")
    with pytest.raises(InvalidDocument, match="bytes.yml:1:1: not text in UTF-8"):
        load(tmp_path / "bytes.yml", {})
    with pytest.raises(InvalidDocument, match="cannot read this file: Is a directory"):
        load(tmp_path, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_secret_that_may_not_be_read(directory: Path) -> None:
    (directory / "signing").chmod(0)
    with pytest.raises(InvalidDocument, match="Permission denied"):
        load(directory / "tocsin.yml", {"PW": "x"})


def test_links_lead_to_this_machine_by_its_name_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "t.yml"
    path.write_text("web: {listen_address: ':14921'}")
    assert load(path).external_url == ""
    assert incident_config(load(path)).external_url == f"http://{socket.gethostname()}:14921"
    path.write_text("external_url: https://tocsin.example/gpu")
    assert incident_config(load(path)).external_url == "https://tocsin.example/gpu"


def test_external_labels_are_texts_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tocsin.yml"
    path.write_text("external_labels: {cluster: a, dc: b}\n")
    assert load(path).external_labels == {"cluster": "a", "dc": "b"}
    path.write_text("external_labels: {cluster: [a]}\n")
    with pytest.raises(InvalidDocument, match="1:28: external_labels.cluster: must be text"):
        load(path)


@pytest.mark.parametrize(
    ("address", "command"),
    [
        ("127.0.0.1:21011", "alertctl --url http://127.0.0.1:21011 ack 42"),
        ("0.0.0.0:21011", "alertctl --url http://127.0.0.1:21011 ack 42"),
        ("0.0.0.0:4911", ": alertctl ack 42"),
    ],
)
async def test_messages_say_how_alertctl_finds_the_agent(address: str, command: str) -> None:
    config = Config.model_validate(
        {"web": {"listen_address": address}, "receivers": {"log": {"type": "log"}}}
    )
    said: list[str] = []
    await build_channels(config, {})["log"].send(notification(), 0, said)
    assert command in said[0]


def test_the_log_of_an_engine_is_no_secret_and_need_not_be_there(tmp_path: Path) -> None:
    (tmp_path / "there.log").write_text("one line\nand another\n")
    path = tmp_path / "tocsin.yml"
    path.write_text(
        "engines: [{url: 'http://h:1', log_file: there.log}, {url: 'http://h:2', log_file: gone}]\n"
    )
    config = load(path)
    files = [engine.access.log_file for engine in config.engines]
    assert files == [tmp_path / "there.log", tmp_path / "gone"]


def test_targets_are_seconds_for_engines(tmp_path: Path) -> None:
    path = tmp_path / "tocsin.yml"
    path.write_text(
        "targets: {latency_p50: 2s, per_token: 50ms, tokens_per_second: 1800}\n"
        "engines: [{url: 'http://a:1'}, {url: 'http://b:1', targets: {latency_p95: 8s}}]\n"
    )
    config = load(path)
    common = EngineTargets(latency_p50=2.0, per_token=0.05, tokens_per_second=1800)
    assert config.targets.of_an_engine == common
    own = [engine.access.targets for engine in config.engines]
    assert own == [None, EngineTargets(latency_p95=8.0)]
