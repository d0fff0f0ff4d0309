"""A real agent answers as its OpenAPI document says, and a client that is generated of it works."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from jsonschema import Draft202012Validator

from support.agent_process import AgentProcess
from support.story import until

CONFIG = """
evaluation_interval: 1s
collect: {host: 1s, gpu: 0s, processes: 0s}
rule_files: [rules.yml]
engines: [{url: "http://127.0.0.1:9"}]
contacts: {li: {email: li@example.com}, wang: {email: wang@example.com}}
receivers:
  hook: {type: webhook, url: "http://127.0.0.1:9/x"}
  mail: {type: email, smarthost: "127.0.0.1:9", from: a@example.com, tls: none}
schedules:
  primary:
    rotation: {type: daily, at: "10:00", start: 2026-01-05, members: [li, wang]}
    overrides: [{from: 2026-01-05, to: 2126-01-05, contact: li}]
maintenance:
- {name: weekly, match: ['x="y"'], every: {days: Sun, from: "02:00", to: "04:00"}}
"""
RULES = """
groups:
- name: test
  rules:
  - {record: "a:b", expr: vector(1)}
  - alert: AlwaysFiring
    expr: vector(42) > 1
    labels: {severity: P1, place: here}
    annotations: {summary: "It fires at {{ $value }}."}
"""
CHANGES: list[tuple[str, Any]] = [
    ("/api/v1/silences", {"matchers": ['a="b"'], "for": "1h", "by": "li", "request_id": "s"}),
    ("/api/v1/silences/{silence}/extend", {"for": "1h"}),
    ("/api/v1/silences/preview", {"matchers": ['place="here"']}),
    ("/api/v1/maintenance", {"name": "disks", "matchers": ['a="b"'], "for": "1h", "by": "li"}),
    ("/api/v1/oncall/overrides", {"schedule": "primary", "contact": "wang", "for": "1h"}),
    ("/api/v2/alerts", [{"labels": {"alertname": "Foreign", "severity": "P2"}}]),
    ("/api/v1/alertmanager/webhook", {"version": "4", "alerts": []}),
    ("/api/v1/incidents/1/ack", {"by": "li"}),
    ("/api/v1/incidents/bulk", {"action": "comment", "note": "x", "incidents": [1, 77]}),
    ("/api/v1/channels/hook/test", {}),
    ("/api/v1/receivers/hook/test", {}),
    ("/api/v1/receivers/hook/preview", {}),
    ("/api/v1/channels/hook/preview", {}),
    ("/api/v1/drill", {"severity": "P4", "for": "10s"}),
    ("/api/v1/otlp/v1/metrics", {"resourceMetrics": []}),
    ("/api/v1/heartbeats/cron", {"every": "1h", "by": "li"}),
    ("/api/v1/heartbeat/cron", {}),
    ("/api/v1/incidents/2/resolve", {"false_positive": True}),
]
AFTERWARDS: list[tuple[str, Any]] = [
    ("/api/v1/silences/{silence}/expire", {}),
    ("/api/v1/maintenance/disks/end", {}),
    ("/api/v1/oncall/overrides/{override}/remove", {}),
    ("/api/v1/engines/none/forget", {}),
    ("/api/v1/heartbeats/cron/forget", {}),
    ("/api/v1/tokens/x", {"role": "read"}),
    ("/api/v1/tokens/x/revoke", {}),
]
ASKED = {  # what stands in a path, and what has to be asked
    "{number}": "1",
    "/api/v1/incidents?": "state=all",
    "/api/v1/label/{name}": "/api/v1/label/job",
    "/oncall/{name}": "/oncall/primary",
    "/runbooks/{name}": "/runbooks/HostMemoryHigh",
    "/api/v1/query?": "query=up&stats=all",
    "/api/v1/query_range?": "query=up&start=0&end=2&step=1&stats=all",
    "/api/v1/query_exemplars?": "query=up&start=0&end=1",
    "/api/v1/format_query?": "query=up",
    "/api/v1/parse_query?": "query=up",
    "/api/v1/series?": "match[]=up",
    "/federate?": "match[]=up",
    "/probe?": "target=127.0.0.1:9&module=tcp_connect",
    "/api/v1/route?": "label=severity=P0",
    "/api/v1/silences?": "state=all",
    "/api/v1/silences/preview?": "matcher=place=here",
}
FAILING = {
    "/links/{token}",  # no link of anything
    "/links/{token}/runbook",
    "/api/v1/heartbeat/cron",  # without its token
    "/api/v1/engines/none/forget",
    "/api/v1/tokens",
    "/api/v1/tokens/x",
}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    folder = tmp_path_factory.mktemp("agent")
    (folder / "tocsin.yml").write_text(CONFIG)
    (folder / "rules.yml").write_text(RULES)
    with AgentProcess(folder, "--config.file=tocsin.yml", "--no-worker") as process:
        yield process


def _answer(
    agent: AgentProcess, path: str, sent: Any = None, method: str | None = None
) -> tuple[int, str, str]:
    """Status, media type and body."""
    body = None if sent is None else json.dumps(sent).encode()
    request = Request(agent.url + path, body, {"content-type": "application/json"}, method=method)
    try:
        with urlopen(request, timeout=30) as answer:
            told = answer.status, answer.headers.get_content_type(), answer.read().decode()
    except HTTPError as error:
        told = error.code, error.headers.get_content_type(), error.read().decode()
    return told


def _strict(schema: Any) -> Any:
    """As `schema`, but a field that it does not name is an error: nothing is served unsaid."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: _strict(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        inner.setdefault("additionalProperties", False)
    return inner


class Described:
    """The document, and what of it an answer to a path has to be."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.paths: dict[str, Any] = document["paths"]
        self.tried: set[tuple[str, str]] = set()

    def operation(self, method: str, path: str) -> Any:
        for pattern, methods in sorted(self.paths.items(), key=lambda item: item[0].count("{")):
            words, wanted = path.split("/"), pattern.split("/")
            same = all(a == b or b.startswith("{") for a, b in zip(words, wanted, strict=False))
            if same and len(words) == len(wanted) and method in methods:
                self.tried.add((method, pattern))
                return methods[method]
        raise AssertionError(f"{method} {path} is not in the document")

    def check(self, method: str, path: str, told: tuple[int, str, str]) -> None:
        status, kind, body = told
        responses = self.operation(method, path.partition("?")[0])["responses"]
        content = (responses.get(str(status)) or responses["default"]).get("content")
        assert (content is None) == (body == ""), (path, told)
        if content is None:
            return
        assert kind in content, (path, told)
        if kind == "application/json":
            schema = {**content[kind]["schema"], "components": self.document["components"]}
            errors = list(Draft202012Validator(_strict(schema)).iter_errors(json.loads(body)))
            assert errors == [], (path, [error.message for error in errors], body[:2000])


async def test_every_answer_is_as_described(agent: AgentProcess) -> None:
    await until(lambda: agent.get("/api/v1/incidents")["open"] == 1, 30)
    described = Described(json.loads(_answer(agent, "/api/v1/openapi.json")[2]))
    names = {"{silence}": "", "{override}": ""}

    def change(path: str, sent: Any) -> None:
        path = path.format(**{name.strip("{}"): value for name, value in names.items()})
        told = _answer(agent, path, sent)
        assert (told[0] < 300) == (path not in FAILING and "/revoke" not in path), (path, told)
        described.check("post", path, told)
        if path in ("/api/v1/silences", "/api/v1/oncall/overrides"):
            name = "{silence}" if "silences" in path else "{override}"
            names[name] = json.loads(told[2])["data"]["id"]

    for path, sent in CHANGES:
        change(path, sent)
    for pattern in [path for path, methods in described.paths.items() if "get" in methods]:
        path = pattern.replace("/silences/{id}", f"/silences/{names['{silence}']}")
        path = path.replace("/silence/{id}", f"/silence/{names['{silence}']}")
        for name, value in ASKED.items():
            path = f"{path}?{value}" if f"{path}?" == name else path.replace(name, value)
        told = _answer(agent, path)
        assert (told[0] == 200) == (pattern not in FAILING), (path, told)
        described.check("get", path, told)
    for path, sent in AFTERWARDS:
        change(path, sent)
    _foreign_silence(agent, described)
    described.check("get", "/api/v1/incidents/99", _answer(agent, "/api/v1/incidents/99"))
    untried = {
        (method, path) for path, methods in described.paths.items() for method in methods
    } - described.tried
    forms = {
        (m, p) for m, p in untried if "www-form" in str(described.paths[p][m].get("requestBody"))
    }
    assert untried - forms == {
        ("post", "/api/v1/write"),
        ("post", "/api/v1/read"),
        ("post", "/-/reload"),  # plain text, empty where all of it holds
        ("put", "/-/reload"),
    }


def _foreign_silence(agent: AgentProcess, described: Described) -> None:
    """Set and ended as amtool does."""
    matcher = {"name": "a", "value": "b", "isRegex": False, "isEqual": True}
    times = {"startsAt": "2026-01-01T00:00:00Z", "endsAt": "2126-01-01T00:00:00Z"}
    sent = {"matchers": [matcher], **times, "createdBy": "li", "comment": "x"}
    told = _answer(agent, "/api/v2/silences", sent)
    described.check("post", "/api/v2/silences", told)
    path = f"/api/v2/silence/{json.loads(told[2])['silenceID']}"
    told = _answer(agent, path, method="DELETE")
    assert told[0] == 200
    described.check("delete", path, told)


SCRIPT = """
import sys
from generated import Client
from generated.api.incidents import act_on_incident, get_incident, list_incidents
from generated.api.samples import query, query_form
from generated.models import IncidentAction, IncidentState, Verb

client = Client(base_url=sys.argv[1])
page = list_incidents.sync(client=client, state="all").data
assert page.open_ >= 1, page
one = get_incident.sync(1, client=client).data
assert one.title == "AlwaysFiring" and one.opened_at.tzinfo is not None, one
body = IncidentAction(by="wang", note="generated")
acked = act_on_incident.sync(1, Verb.ACK, client=client, body=body).data
assert acked.state is IncidentState.ACKED and acked.owner == "wang", acked
missing = get_incident.sync(99, client=client)
assert missing.error_type == "not_found", missing
assert query.sync(client=client, query="up").data.result_type == "vector"
print("done")
"""


def test_a_generated_client_works(agent: AgentProcess, tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(_answer(agent, "/api/v1/openapi.json")[2])
    (tmp_path / "client.yml").write_text("post_hooks: []\n")
    program = Path(sys.executable).parent / "openapi-python-client"
    words = ["--path", "openapi.json", "--output-path", "generated", "--meta", "none"]
    made = subprocess.run(
        [program, "generate", *words, "--config", "client.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    (tmp_path / "use.py").write_text(SCRIPT)
    used = subprocess.run(
        [sys.executable, "use.py", agent.url], cwd=tmp_path, capture_output=True, text=True
    )
    assert used.stdout == "done\n", used.stderr
