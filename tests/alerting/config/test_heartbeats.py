"""Expected heartbeats in the configuration, and what is wrong with them in words."""

from pathlib import Path

import pytest

from tocsin_alerting.config.load import heartbeat_tokens, incident_config, load
from tocsin_alerting.incidents.heartbeats import ExpectedHeartbeat
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.yaml_document import InvalidDocument

ENV = {"A": "a" * 16, "SHORT": "a" * 15, "ODD": "日" * 16}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "b.token").write_text("b" * 16 + "\n")
    return tmp_path / "tocsin.yml"


def test_they_are_told_to_incidents_and_their_tokens_apart(file: Path) -> None:
    file.write_text(
        "heartbeats:\n"
        "  expected:\n"
        "    backup: {every: 24h, grace: 0s, severity: P0, labels: {team: ml, a: b},\n"
        "      annotations: {summary: no backup}, token_file: b.token}\n"
        "    cron: {every: 1m, token_env: A}\n"
    )
    config = load(file, ENV)
    assert incident_config(config).heartbeats == (
        ExpectedHeartbeat(
            "backup",
            86_400_000,
            0,
            Severity.P0,
            (("a", "b"), ("team", "ml")),
            (("summary", "no backup"),),
        ),
        ExpectedHeartbeat("cron", 60_000, 120_000, Severity.P2),
    )
    assert heartbeat_tokens(config, ENV) == {"b" * 16: "backup", "a" * 16: "cron"}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{a: {every: 1m}}", "give one of token_file and token_env"),
        ("{a: {every: 1m, token_file: b.token, token_env: A}}", "give one of token_file and"),
        ("{a: {every: 1m, token: abc}}", "a secret has no place in this file"),
        ("{a: {token_env: A}}", "every"),
        ("{a: {every: 0s, token_env: A}}", "must be longer than 0s"),
        ("{a: {every: 1m, evry: 1m, token_env: A}}", 'did you mean "every"?'),
        ("{a: {every: 1m, severity: P7, token_env: A}}", "must be one of P0, P1"),
        ("{a: {every: 1m, labels: {severity: P0}, token_env: A}}", "set severity beside labels"),
        ("{a: {every: 1m, labels: {heartbeat: b}, token_env: A}}", "leave it out"),
        ("{a: {every: 1m, labels: {a-b: c}, token_env: A}}", "is no name of a label"),
        ("{a/b: {every: 1m, token_env: A}}", "is no name of a heartbeat"),
        ("{a: {every: 1m, token_file: gone}}", "cannot read"),
        ("{a: {every: 1m, token_env: NOT_SET}}", "NOT_SET is not set"),
        ("{a: {every: 1m, token_env: SHORT}}", "at least 16 characters"),
        ("{a: {every: 1m, token_env: ODD}}", "printable ASCII"),
        (
            "{a: {every: 1m, token_env: A}, b: {every: 1m, token_env: A}}",
            '"a" has the same token: nobody could tell which one came',
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(file: Path, entry: str, said: str) -> None:
    file.write_text(f"heartbeats:\n  expected: {entry}\n")
    with pytest.raises(InvalidDocument) as refused:
        load(file, ENV)
    text = str(refused.value)
    assert said in text and text.startswith(f"{file}:2:") and "a" * 15 not in text
