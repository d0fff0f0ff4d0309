"""The configuration that holds, as YAML: it reads back as itself, and no secret is in it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.effective import effective, without_user
from tocsin_alerting.config.load import load
from tocsin_alerting.settings import SECRET, Section

WHOLE = r"""
time_zone: Asia/Shanghai
external_url: https://bell.example/
collect: {gpu: 500ms, host: 0s}
engines: [{url: "http://127.0.0.1:8000"}]
processes: [{name: vllm, exe: vllm}]
logs:
- {name: vllm, paths: [/var/log/vllm/*.log], patterns: [engine], own_patterns: {slow: "slow step"},
   level: '(?P<level>\w+)', limits: {lines: 1000, bytes: 1MiB}, evidence: send}
- {name: pods, containers: {pods: [llm/*/*]}}
- {name: kernel, journald: {kernel: true}}
probes: {interval: 1m, targets: [{module: icmp, targets: [10.0.0.1], job: ping, interval: 90s}]}
storage: {path: there, retention: 15d, size: 512MiB}
web: {token_file: token, roles: {grafana: read}}
storm: {incidents: 0, window: 90s}
links: {enabled: false}
contacts: {li: {email: li@example.com}}
receivers:
  hook: {type: webhook, url_file: hook.url, secret_file: signing, timeout: 1m30s}
  mail: {type: email, smarthost: "localhost:25", from: a@example.com}
policies:
  P0:
    group: {wait: 0s}
    resolve_hold: 1m
    page_on_new_instance: false
    steps: [{notify: [{receiver: hook}, {contact: li, via: [email]}], escalate_after: 1m}]
    final: {notify: [{everyone: true, via: [email]}], every: 5m, for: 1d}
routes:
- {match: ['team="ml"'], receivers_add: [hook], continue: true, group_by: [alertname]}
- {}
severities: {page: P0}
datasource: {url: "http://prometheus:9090", offset: 0s, tls: {server_name: p}}
group_datasources:
- {url: "http://mimir/prometheus", files: [gpu.yml], bearer_token_file: token, timeout: 1m}
- {url: embedded, groups: [own]}
alertmanagers: [{url: "http://am:9093", resend_delay: 30s}]
remote_write: [{url: "http://mimir/api/v1/push", send: all, protocol: 2}]
heartbeats:
  out: [{url_file: hook.url, every: 30s, method: GET, bearer_token_file: token}]
  expected: {backup: {every: 1d, grace: 1h, severity: P1, labels: {team: ml}, token_env: PHONE}}
resolve_timeout: 90s
meta_alerts: {RuleBroken: {severity: P1, failures: 5}, MetricMissing: {enabled: false, after: 1h}}
silences: {warn_before: 5m}
group: {interval: 10m}
flap: {count: 4, window: 1h, hold: 10m, multiplier: 1.5, max: 2h}
reopen_keeps_ack: true
incidents: {retention: 30d}
maintenance:
- name: weekly-drivers
  match: ['instance=~"gpu.*"']
  every: {days: Sun, from: "02:00", to: "04:00", time_zone: Asia/Shanghai}
  except: ['severity="P0"']
- {name: rack-3, match: ['rack="3"'], from: "2026-02-16T22:00", to: "2026-02-17T06:00+08:00"}
"""
SECRETS = """
engines: [{url: "http://li:hunter2@127.0.0.1:8000"}, {url: "http://127.0.0.1:8001/a?k=hunter2",
  headers: {X-Key: hunter2}, params: {key: hunter2}}]
datasource: {url: "http://li:hunter2@mimir/p?k=hunter2", headers: {X-Scope-OrgID: hunter2}}
receivers:
  hook: {type: webhook, url: "https://hooks.example/hunter2", headers: {X-Key: hunter2}}
  phone: {type: webhook, url_env: PHONE, bearer_token_file: token}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hook.url").write_text("https://hooks.example/hunter2")
    (tmp_path / "signing").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    (tmp_path / "token").write_text("hunter2")
    return tmp_path


def loaded(folder: Path, text: str) -> Config:
    path = folder / "tocsin.yml"
    path.write_text(text)
    return load(path, {"PHONE": "https://phone.example/hunter2"})


@pytest.mark.parametrize("text", [WHOLE, "version: 1"], ids=["much", "nothing"])
def test_it_reads_back_as_itself(folder: Path, text: str) -> None:
    config = loaded(folder, text)
    assert loaded(folder, effective(config)) == config


def test_quantities_are_written_as_people_write_them(folder: Path) -> None:
    shown = yaml.safe_load(effective(loaded(folder, WHOLE)))
    assert shown["collect"] == {"host": "0s", "gpu": "500ms", "engines": "5s", "processes": "15s"}
    assert shown["storage"] == {"path": "there", "retention": "15d", "size": "512MiB"}
    assert shown["policies"]["P0"]["final"]["for"] == "1d"
    assert shown["policies"]["P0"]["repeat"] == 0


def test_no_secret_is_shown(folder: Path) -> None:
    text = effective(loaded(folder, SECRETS))
    assert "hunter2" not in text
    shown = yaml.safe_load(text)
    assert [engine["url"] for engine in shown["engines"]] == [
        "http://<secret>@127.0.0.1:8000",
        "http://127.0.0.1:8001/a?<secret>",
    ]
    assert shown["engines"][1]["headers"] == {"X-Key": "<secret>"}
    assert shown["engines"][1]["params"] == {"key": "<secret>"}
    assert shown["receivers"]["hook"]["url"] == "<secret>"
    assert shown["receivers"]["hook"]["headers"] == {"X-Key": "<secret>"}
    assert shown["receivers"]["phone"]["url_env"] == "PHONE"
    assert shown["receivers"]["phone"]["bearer_token_file"] == str(folder / "token")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://tok@h:1/q#hunter2", "http://<secret>@h:1/q#<secret>"),
        ("http://h:1/q?a=1#hunter2", "http://h:1/q?<secret>"),
        ("http://h:1/q#hunter2?a", "http://h:1/q#<secret>"),
    ],
)
def test_a_url_is_shown_without_what_may_be_a_key(url: str, shown: str) -> None:
    assert without_user(url) == shown


SECRET_NAME = re.compile("address|auth|header|key|param|pass|secret|token|ur[il]")
OPEN = {  # what may be shown: no secret, or one that is taken out of it
    ("EngineSection", "url"),  # without the user and the query
    ("EngineSection", "basic_auth"),  # a section, with the name of a file
    ("WebhookSettings", "header_files"),  # names of files
    *((kind, "api_key_sid") for kind in ("TwilioSmsSettings", "TwilioVoiceSettings")),  # its name
    ("WebhookSettings", "secret_files"),
    ("SyslogSettings", "address"),  # it has no user and no query
    ("WebSection", "listen_address"),
    ("Config", "external_url"),  # it stands in every message
    ("NtfySettings", "url"),  # of the server; the topic is the secret
    ("GotifySettings", "url"),
    ("MatrixSettings", "url"),
    ("AlertmanagerSection", "url"),
    ("AlertmanagerSection", "basic_auth"),
    ("RemoteWriteSection", "url"),
    ("RemoteWriteSection", "basic_auth"),
    ("DatasourceSection", "url"),  # its user and its query are covered
    ("DatasourceSection", "basic_auth"),
    ("GroupDatasourceSection", "url"),
    ("GroupDatasourceSection", "basic_auth"),
    *(("ScrapeConfigSection", name) for name in ("authorization", "basic_auth")),
    ("DingtalkSettings", "keyword"),  # it stands in every message
    ("FeishuSettings", "keyword"),
    ("AliyunSmsSettings", "params"),  # which field is which variable
    ("AliyunVoiceSettings", "params"),
    ("AliyunSmsSettings", "access_key_id"),  # its secret is another key
    ("AliyunVoiceSettings", "access_key_id"),
    *(("TargetsSection", name) for name in ("first_token", "per_token", "tokens_per_second")),
}
OPEN_NAMES = {"api_url"}  # of a vendor's server


def sections(annotation: Any) -> Iterator[type[Section]]:
    """All that a configuration may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
        for field in annotation.model_fields.values():
            yield from sections(field.annotation)
    for argument in get_args(annotation):
        yield from sections(argument)


def test_a_key_that_may_hold_a_secret_is_masked_or_names_where_it_is() -> None:
    every = {section.__name__: section for section in sections(Config)}
    assert {"WebhookSettings", "EmailSettings", "EngineSection"} <= every.keys()
    shown = {
        (section.__name__, name)
        for section in every.values()
        for name, field in section.model_fields.items()
        if name not in OPEN_NAMES
        and SECRET_NAME.search(name)
        and SECRET not in field.metadata
        and not name.endswith(("_file", "_env"))
        and field.annotation is not type(None)  # there to be refused
    }
    assert shown == OPEN
