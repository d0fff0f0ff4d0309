"""Real Prometheus, vmalert and amtool, with the agent as their Alertmanager."""

import asyncio
import gzip
import json
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stories.alertmanager_hour import MINUTES, hour
from support.agent_process import AgentProcess, alertctl, free_port
from support.alertmanager import amtool, posted, running_alertmanager
from support.webhook_sink import WebhookSink

SPEEDS = "--rules.alert.resend-delay=1s"  # an alert is renewed at each evaluation, for 4 s
CONFIG = """
engines: []
rule_files: []
receivers:
  hook: {{type: webhook, url: "{hook}"}}
"""
PROMETHEUS = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
- job_name: switch
  file_sd_configs: [{{files: [switch.json], refresh_interval: 1s}}]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]}}
"""
RULES = """
groups:
- name: g
  rules:
  - alert: Always
    expr: vector(1)
    labels: {severity: critical}
    annotations: {summary: "always"}
  - alert: Switched
    expr: up{job="switch"} == 0
    labels: {severity: critical}
    annotations: {summary: "the switch is on"}
"""


def incidents(agent: AgentProcess, state: str = "all") -> dict[str, dict[str, Any]]:
    found = agent.get(f"/api/v1/incidents?state={state}")["incidents"]
    return {one["labels"]["alertname"]: one for one in found}


def source(agent: AgentProcess, name: str) -> str | None:
    one = incidents(agent).get(name)
    return str(one["source"]) if one else None


def recorded(agent: AgentProcess, name: str) -> bool:
    """Whether a kill leaves the incident as it is shown. Shown it is before, as it is told before:
    until then nobody was answered with 200, and after a kill its number stands for no other."""
    one = incidents(agent).get(name)
    return one is not None and bool(agent.get(f"/api/v1/incidents/{one['number']}")["recorded"])


def conditions(agent: AgentProcess) -> dict[str, str]:
    return {name: str(one["source"]) for name, one in incidents(agent).items()}


class Server:
    """A process in `folder`, that can be killed and started again."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self._folder, self._command = folder, command
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / f"{Path(self._command[0]).name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self._folder, stdout=log, stderr=subprocess.STDOUT
            )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def switch(folder: Path, *, on: bool) -> None:
    """`up` is 0 of a target that nobody serves; without a target there is none."""
    targets = [{"targets": ["127.0.0.1:9"]}] if on else []
    written = folder / "switch.json.new"
    written.write_text(json.dumps(targets))
    written.rename(folder / "switch.json")


@contextmanager
def prometheus(folder: Path, agent: AgentProcess) -> Iterator[Server]:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus is not installed")
    (folder / "prometheus.yml").write_text(PROMETHEUS.format(port=agent.port))
    (folder / "rules.yml").write_text(RULES)
    switch(folder, on=False)
    port = free_port()
    command = [binary, "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", SPEEDS]
    one = Server(folder, [*command, f"--web.listen-address=127.0.0.1:{port}"])
    one.start()
    try:
        yield one
    finally:
        one.kill()


@contextmanager
def started(folder: Path, hook: str) -> Iterator[AgentProcess]:
    (folder / "tocsin.yml").write_text(CONFIG.format(hook=hook))
    with AgentProcess(folder, "--config.file=tocsin.yml", "--no-worker") as agent:
        yield agent


def reasons(sink: WebhookSink, name: str) -> list[str]:
    """What the receiver was told of `name`, each message once."""
    told: dict[object, str] = {}
    for one in sink.requests:
        body = one.json()
        if body["groupLabels"].get("alertname") == name:
            told[one.headers.get("webhook-id", len(told))] = body["status"]
    return list(told.values())


async def wait(condition: Callable[[], Any], seconds: float = 60) -> None:
    """In a thread: the sink that the agent calls runs on this loop."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, condition
        await asyncio.sleep(0.1)


async def test_a_prometheus_fires_resolves_and_falls_silent(tmp_path: Path) -> None:
    """With two kills of the agent in between: no alert is lost, none resolved wrongly."""
    async with WebhookSink() as sink:
        with started(tmp_path, sink.url) as agent, prometheus(tmp_path, agent) as server:
            await wait(lambda: source(agent, "Always") == "firing")
            for _ in range(2):
                await wait(lambda: recorded(agent, "Always"))
                await asyncio.to_thread(agent.kill)
                await asyncio.to_thread(agent.start)
                assert incidents(agent)["Always"]["state"] == "TRIGGERED"
                await wait(lambda: source(agent, "Always") == "firing")
            await asyncio.to_thread(switch, tmp_path, on=True)
            await wait(lambda: source(agent, "Switched") == "firing")
            await asyncio.to_thread(switch, tmp_path, on=False)
            await wait(lambda: source(agent, "Switched") == "clear")
            assert source(agent, "Always") == "firing"
            await asyncio.to_thread(server.kill)
            await wait(lambda: source(agent, "Always") == "unknown")
            assert incidents(agent)["Always"]["state"] == "TRIGGERED"
            await asyncio.to_thread(server.start)
            await wait(lambda: source(agent, "Always") == "firing")
            assert incidents(agent)["Always"]["number"] == 1
        assert reasons(sink, "Always") == ["firing"]
        assert reasons(sink, "Switched") == ["firing", "resolved"]


async def test_a_vmalert_fires_resolves_and_falls_silent(tmp_path: Path) -> None:
    """Its metrics come from the agent itself, which is a Prometheus for it."""
    if shutil.which("vmalert") is None:
        pytest.skip("vmalert is not installed")
    rules = RULES.replace('up{job="switch"} == 0', 'up{instance="switch"} == 0')
    (tmp_path / "rules.yml").write_text(rules)
    async with WebhookSink() as sink:
        with started(tmp_path, sink.url) as agent:
            command = [
                str(shutil.which("vmalert")),
                "-rule=rules.yml",
                f"-datasource.url={agent.url}",
                f"-notifier.url={agent.url}",
                "-evaluationInterval=1s",
                "-rule.resendDelay=1s",
                f"-httpListenAddr=127.0.0.1:{free_port()}",
            ]
            server = Server(tmp_path, command)
            server.start()
            try:
                await wait(lambda: source(agent, "Always") == "firing")
                await wait(lambda: recorded(agent, "Always"))
                await asyncio.to_thread(agent.kill)
                await asyncio.to_thread(agent.start)
                assert incidents(agent)["Always"]["state"] == "TRIGGERED"
                await wait(lambda: source(agent, "Always") == "firing")
                await asyncio.to_thread(server.kill)
                await wait(lambda: source(agent, "Always") == "unknown")
                await asyncio.to_thread(server.start)
                await wait(lambda: source(agent, "Always") == "firing")
            finally:
                server.kill()


async def test_amtool_sets_lists_changes_and_ends_silences(tmp_path: Path) -> None:
    async with WebhookSink() as sink:
        with started(tmp_path, sink.url) as agent:
            await asyncio.to_thread(_amtool_silences, agent)
            left = json.loads(agent.text("/api/v2/silences"))
            assert left and all(one["createdBy"] == "li" for one in left)


def _amtool_silences(agent: AgentProcess) -> None:
    def said(*words: str, status: int = 0) -> str:
        done = amtool(agent.url, "silence", *words)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout.strip() + done.stderr.strip()

    def states() -> dict[str, str]:
        listed = json.loads(agent.text("/api/v2/silences"))
        return {one["id"]: one["status"]["state"] for one in listed}

    def known(name: str) -> dict[str, Any]:
        return dict(json.loads(agent.text(f"/api/v2/silence/{name}")))

    amtool(agent.url, "alert", "add", "Noisy", "severity=critical", "zone=a")
    by = ("--author=li", "--comment=planned")
    first = said("add", "Noisy", "zone=~a|b", "team!=db", "--duration=2h", *by)
    second = said("add", "alertname=~Other.*", *by)
    assert {first, second} == states().keys()
    assert first in said("query", "Noisy")
    assert second not in said("query", "Noisy")
    assert said("query", "--within=90m", "-q") == second
    assert set(said("query", "-q", "--created-by=li").split()) == {first, second}
    (quiet,) = json.loads(amtool(agent.url, "alert", "query", "-s", "-o", "json").stdout)
    assert quiet["status"]["silencedBy"] == [first]
    assert quiet["status"]["state"] == "suppressed"
    assert first[:8] in agent.alertctl("silence", "list").stdout
    assert first in said("update", "--comment=longer", "--duration=3h", first)
    assert (known(first)["comment"], known(first)["createdBy"]) == ("longer", "li")
    exported = amtool(agent.url, "silence", "query", "-o", "json").stdout
    said("expire", first)
    assert states() == {first: "expired", second: "active"}
    assert first in said("query", "--expired", "-q")
    (row,) = json.loads(amtool(agent.url, "alert", "query", "-o", "json", "Noisy").stdout)
    assert row["status"]["silencedBy"] == []
    agent.kill()
    agent.start()
    assert states() == {first: "expired", second: "active"}
    (agent.folder / "silences.json").write_text(exported)
    said("import", "--force", str(agent.folder / "silences.json"))
    assert sorted(states().values()) == ["active", "active", "active", "expired"]
    assert "404" in said("expire", "4f4d7c2e-0000-4000-8000-000000000000", status=1)
    assert "400" in said("query", 'a=~("', status=1)
    assert said("add", "x=", *by, status=1)


async def test_amtool_in_every_command_but_silence_and_cluster(tmp_path: Path) -> None:
    async with WebhookSink() as sink:
        with started(tmp_path, sink.url) as agent:
            await asyncio.to_thread(_amtool, agent)
            await wait(lambda: reasons(sink, "TestAlert") == ["firing", "resolved"])
            assert source(agent, "Other") == "firing"


def _amtool(agent: AgentProcess) -> None:
    def said(*words: str) -> str:
        done = amtool(agent.url, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert len(said("alert", "query").splitlines()) == 1
    said("alert", "add", "TestAlert", "severity=critical", "team=db", "--annotation=summary=hi")
    said("alert", "add", "Other", "severity=info")
    assert "TestAlert" in said("alert", "query")
    (row,) = json.loads(said("alert", "query", "-o", "json", "team=db"))
    assert (row["status"]["state"], row["receivers"]) == ("active", [{"name": "P0"}])
    assert "Generator" in said("alert", "query", "-o", "extended", "alertname=~Test.*")
    assert "TestAlert" not in said("alert", "query", "--receiver=P2")
    assert "TestAlert" not in said("alert", "query", "--inhibited")
    config = said("config", "show")
    assert "receiver: P2" in config
    (agent.folder / "shown.yml").write_text(config)
    done = amtool("", "check-config", str(agent.folder / "shown.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'severity=~"P0' in said("config", "routes", "show")
    assert said("config", "routes", "test", "severity=critical").strip() == "P0"
    assert said("config", "routes", "test", "--verify.receivers=none", "severity=none")
    assert "from 127.0.0.1" in agent.alertctl("alerts").stdout
    ended = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    over = (f"--start={ended}", f"--end={ended}")
    said("alert", "add", "TestAlert", "severity=critical", "team=db", *over)
    assert "TestAlert" not in said("alert", "query")


async def test_what_was_answered_with_200_survives_a_kill(tmp_path: Path) -> None:
    """Alerts are posted until the agent is killed; each that was taken is there after the start."""
    async with WebhookSink() as sink:
        with started(tmp_path, sink.url) as agent:
            taken: list[str] = []

            def post() -> None:
                for number in range(400):
                    name = f"A{number}"
                    label = {"labels": {"alertname": name, "severity": "P3"}}
                    try:
                        status, _ = posted(
                            f"{agent.url}/api/v2/alerts", json.dumps([label]).encode()
                        )
                    except OSError:
                        return
                    assert status == 200
                    taken.append(name)

            posting = asyncio.create_task(asyncio.to_thread(post))
            await wait(lambda: len(taken) >= 25)
            assert agent.process is not None
            agent.process.send_signal(signal.SIGKILL)
            await posting
            agent.process.wait()
            await asyncio.to_thread(agent.start)
            found = {
                row["labels"]["alertname"]
                for row in json.loads(await asyncio.to_thread(agent.text, "/api/v2/alerts"))
            }
            assert set(taken) <= found
            firing = await asyncio.to_thread(conditions, agent)
            assert {name: firing.get(name) for name in taken} == dict.fromkeys(taken, "firing")


@pytest.mark.long
async def test_both_for_minutes_over_two_restarts(tmp_path: Path) -> None:
    """The hour of alertmanager_hour.py, quicker: what is paged, resolved and lost is the same."""
    for binary in ("prometheus", "vmalert"):
        if shutil.which(binary) is None:
            pytest.skip(f"{binary} is not installed")
    wrong, found = await hour(tmp_path, 2.5, MINUTES)
    assert wrong == [], found
    assert found["pages"] == found["alerts"] > 15


# As karma 0.132 sends them: its collector each minute, and what its page sends through its proxy
# when somebody sets and deletes a silence; a browser's headers come with it.
COLLECTOR = {"Accept-Encoding": "gzip", "User-Agent": "Go-http-client/1.1"}
PAGE = {
    "Content-Type": "application/json",
    "Origin": "http://karma.example:8080",
    "Referer": "http://karma.example:8080/?q=%40state%3Dactive",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Site": "same-origin",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "X-Forwarded-For": "10.0.0.7",
}


def karma_asks(
    agent: AgentProcess, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    sent = (PAGE if method != "GET" else COLLECTOR) | headers
    request = urllib.request.Request(agent.url + path, data, sent, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
            if answer.headers.get("content-encoding") == "gzip":
                text = gzip.decompress(text)
            return answer.status, text.decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def test_karma_reads_and_silences_as_with_an_alertmanager(tmp_path: Path) -> None:
    async with WebhookSink() as sink:
        with started(tmp_path, sink.url) as agent:
            label = {"labels": {"alertname": "K", "severity": "P1", "zone": "a"}}
            body = json.dumps([label]).encode()
            assert await asyncio.to_thread(posted, f"{agent.url}/api/v2/alerts", body) == (200, "")
            added = await asyncio.to_thread(
                alertctl, "token", "add", "karma", "--role=admin", cwd=tmp_path
            )
            assert added.returncode == 0, added.stderr
            await asyncio.to_thread(_karma, agent, added.stdout.strip())


def _karma(agent: AgentProcess, token: str) -> None:
    """`own` is what `headers` of its configuration puts in the place of its page's."""
    own = {"Authorization": f"Bearer {token}", "Origin": agent.url}

    def pulled(path: str) -> Any:
        status, text = karma_asks(agent, "GET", path, **own)
        assert status == 200, text
        return json.loads(text)

    status, metrics = karma_asks(agent, "GET", "/metrics")
    info = r'(?m)^alertmanager_build_info\{.*version="(\d+)\.(\d+)\.\d+".*\} 1$'
    version = re.search(info, metrics)
    assert version is not None
    assert (int(version[1]), int(version[2])) >= (0, 22)  # what karma takes
    assert pulled("/api/v2/silences") == []
    (group,) = pulled("/api/v2/alerts/groups")
    assert (group["receiver"], group["labels"]["alertname"]) == ({"name": "P1"}, "K")
    (row,) = group["alerts"]
    read = {"startsAt", "annotations", "labels", "fingerprint", "status"}
    assert read <= row.keys()
    assert (row["status"]["state"], row["status"]["silencedBy"]) == ("active", [])

    silence = {
        "matchers": [{"isEqual": True, "name": "alertname", "value": "K|L", "isRegex": True}],
        "startsAt": "2020-01-01T00:00:00.000Z",
        "endsAt": "2040-01-01T00:00:00.000Z",
        "createdBy": "li@example.com",
        "comment": "ACK! This alert was acknowledged using karma",
    }
    page = {"Authorization": own["Authorization"]}
    status, refused = karma_asks(agent, "POST", "/api/v2/silences", silence, **page)
    assert (status, "another origin" in refused) == (403, True)
    status, made = karma_asks(agent, "POST", "/api/v2/silences", silence, **own)
    assert status == 200
    name = json.loads(made)["silenceID"]
    (shown,) = pulled("/api/v2/silences")
    assert (shown["id"], shown["createdBy"]) == (name, "li@example.com")
    ((row,),) = (group["alerts"] for group in pulled("/api/v2/alerts/groups"))
    assert (row["status"]["state"], row["status"]["silencedBy"]) == ("suppressed", [name])
    changed = silence | {"id": name, "startsAt": shown["startsAt"], "comment": "longer"}
    status, kept = karma_asks(agent, "POST", "/api/v2/silences", changed, **own)
    assert (status, json.loads(kept)) == (200, {"silenceID": name})
    assert karma_asks(agent, "DELETE", f"/api/v2/silence/{name}", **page)[0] == 403
    assert karma_asks(agent, "DELETE", f"/api/v2/silence/{name}", **own) == (200, "")
    ((row,),) = (group["alerts"] for group in pulled("/api/v2/alerts/groups"))
    assert row["status"]["state"] == "active"


BEHIND = """
route: {{receiver: tocsin, group_wait: 0s, group_interval: 1s, repeat_interval: 2s}}
receivers:
- name: tocsin
  webhook_configs:
  - url: {agent}/api/v1/alertmanager/webhook?repeat_interval=2s
"""


async def test_an_alertmanager_that_stays_in_front(tmp_path: Path) -> None:
    async with WebhookSink() as sink:
        with started(tmp_path, sink.url) as agent:
            config = BEHIND.format(agent=agent.url)
            with running_alertmanager(tmp_path, config) as url:
                body = [{"labels": {"alertname": "Behind", "severity": "critical"}}]
                await asyncio.to_thread(posted, f"{url}/api/v2/alerts", json.dumps(body).encode())
                await wait(lambda: source(agent, "Behind") == "firing")
                ended = [{**body[0], "endsAt": "2020-01-01T00:00:00Z"}]
                await asyncio.to_thread(posted, f"{url}/api/v2/alerts", json.dumps(ended).encode())
                await wait(lambda: source(agent, "Behind") == "clear")
            await wait(lambda: reasons(sink, "Behind") == ["firing", "resolved"])
            assert source(agent, "Behind") == "clear"
