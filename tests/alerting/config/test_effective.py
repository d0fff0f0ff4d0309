"""The configuration that holds, as YAML: it reads back as itself, and no secret is in it."""

from pathlib import Path

import pytest
import yaml

from tocsin_alerting.config import Config, load
from tocsin_alerting.config.effective import effective, without_user

WHOLE = """
time_zone: Asia/Shanghai
external_url: https://bell.example/
collect: {gpu: 500ms, host: 0s}
engines: [{url: "http://127.0.0.1:8000"}]
processes: [{name: vllm, exe: vllm}]
storage: {path: there, retention: 15d, size: 512MiB}
web: {token_file: token}
contacts: {li: {email: li@example.com}}
receivers:
  hook: {type: webhook, url_file: hook.url, secret_file: signing, timeout: 1m30s}
  mail: {type: email, smarthost: "localhost:25", from: a@example.com}
policies:
  P0:
    group: {wait: 0s}
    steps: [{notify: [{receiver: hook}, {contact: li, via: [email]}], escalate_after: 1m}]
    final: {notify: [{everyone: true, via: [email]}], every: 5m, for: 1d}
routes:
- {match: ['team="ml"'], receivers_add: [hook], continue: true, group_by: [alertname]}
- {}
severities: {page: P0}
"""
SECRETS = """
engines: [{url: "http://li:hunter2@127.0.0.1:8000"}, {url: "http://127.0.0.1:8001/a?k=hunter2",
  headers: {X-Key: hunter2}, params: {key: hunter2}}]
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
