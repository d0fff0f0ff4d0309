"""What is taken and what is refused, in the words of a real Alertmanager."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.alertmanager import posted, running_alertmanager
from support.api_client import api_client
from support.dispatcher_setup import START_MS, Floor
from support.policies import config
from support.wired_agent import wired_agent
from tocsin_alerting.api.alertmanager.endpoint import Refused
from tocsin_alerting.api.alertmanager.intake import MAX_BODY_BYTES, AlertIntake
from tocsin_alerting.api.alertmanager.posted_alerts import Arrival, Posted, read_alerts
from tocsin_alerting.api.alertmanager.routes import routes
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.http import httpx
from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import JournalDown
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_exporter.slices import at_once

JSON = {"Content-Type": "application/json"}
X = {"alertname": "x"}
SAME = [
    "[]",
    "null",
    "",
    " ",
    "{}",
    "[{}]",
    '[{"labels":{}}]',
    '[{"labels":null},{}]',
    '[{"labels":{"alertname":"x"}},{}]',
    '[{"labels":{"a":""}}]',
    '[{"labels":{"alertname":"x"}}]',
    '[{"labels":{"alertname":"x","gone":""},"unknown":1}]',
    '[{"labels":{"alertname":"x"},"generatorURL":""}]',
    '[{"labels":{"alertname":"x"},"generatorURL":"not a url"}]',
    '[{"labels":{"alertname":"x"},"generatorURL":"/graph"}]',
    '[{"labels":{"alertname":"x"},"generatorURL":"http://p:9090/graph?g0.expr=up"}]',
    '[{"labels":{"alertname":"x"},"startsAt":"2030-01-01T00:00:00Z","endsAt":"2020-01-01T00:00:00Z"}]',
    '[{"labels":{"alertname":"x"},"startsAt":"0001-01-01T00:00:00.000Z","endsAt":"0001-01-01T00:00:00.000Z"}]',
    '[{"labels":{"alertname":"x"},"startsAt":"2026-01-01T00:00:00.123456789+08:00"}]',
    '[{"labels":{"alertname":"x"},"startsAt":"2099-01-01T00:00:00Z"}]',
    '[{"labels":{"alertname":"x"},"endsAt":"2020-01-01T00:00:00Z"}]',
    '[{"labels":{"alertname":"x"},"startsAt":null,"annotations":null}]',
    '[{"labels":{"alertname":"x"},"annotations":{"a":null}}]',
    '[{"labels":{"alertname":"\\ud800"}}]',
    '[{"labels":{"alertname":"\\ud83d\\ude00 \\\\ud800"}}]',
    '[{"labels":{"alertname":"x"}},{"labels":{}},{"labels":{"b":""}}]',
]
SAME_STATUS = [
    "x",
    '[{"labels":{"a":1}}]',
    '[{"labels":{"alertname":"x"},"startsAt":"yesterday"}]',
    '[{"labels":{"alertname":"x"},"startsAt":"2026-11-29"}]',
    '[{"labels":{"alertname":"x"},"startsAt":5}]',
    '[{"labels":{"alertname":"x"},"annotations":5}]',
    '[{"labels":[]}]',
    "[5]",
    '[{"labels":{"alertname":"x"}}',
]
PREFIX = 'parsing alerts body from "" failed, because '


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_alertmanager(tmp_path_factory.mktemp("alertmanager")) as url:
        yield f"{url}/api/v2/alerts"


async def client(dispatcher: Dispatcher | None = None, now_ms: int = START_MS) -> httpx.AsyncClient:
    taken = dispatcher or (await Floor(config()).open()).dispatcher
    intake = AlertIntake(taken, lambda: now_ms)
    return api_client(routes(intake, tuple, new_guard(), START_MS))


@pytest.mark.parametrize("body", SAME)
async def test_it_answers_as_alertmanager_does(alertmanager: str, body: str) -> None:
    async with await client() as ours:
        answer = await ours.post("/api/v2/alerts", content=body, headers=JSON)
    assert (answer.status_code, answer.text) == posted(alertmanager, body.encode())


@pytest.mark.parametrize("body", SAME_STATUS)
async def test_what_is_no_alert_is_refused_as_alertmanager_does(
    alertmanager: str, body: str
) -> None:
    async with await client() as ours:
        answer = await ours.post("/api/v2/alerts", content=body, headers=JSON)
    status, text = posted(alertmanager, body.encode())
    assert (answer.status_code, answer.json()["code"]) == (status, json.loads(text)["code"])
    for message in (answer.json()["message"], json.loads(text)["message"]):
        assert message.startswith(PREFIX)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
async def test_another_media_type_is_refused_as_alertmanager_does(
    alertmanager: str, kind: str
) -> None:
    async with await client() as ours:
        answer = await ours.post("/api/v2/alerts", content="[]", headers={"Content-Type": kind})
    assert (answer.status_code, answer.text) == posted(alertmanager, b"[]", kind)


def read(*alerts: Any, now_ms: int = START_MS) -> Posted:
    return at_once(read_alerts(json.dumps(alerts).encode(), Arrival("10.0.0.1", now_ms)))


def test_the_defaults_of_times() -> None:
    (alert,) = read({"labels": X}).alerts
    assert (alert.starts_at_ms, alert.ends_at_ms) == (START_MS, START_MS + 300_000)
    assert alert.times_out
    (ended,) = read({"labels": X, "endsAt": "2020-01-01T00:00:00Z"}).alerts
    assert ended.starts_at_ms == ended.ends_at_ms == 1_577_836_800_000
    assert not ended.times_out


def test_labels_are_sorted_and_empty_ones_dropped() -> None:
    (alert,) = read({"labels": {"b": "2", "a": "1", "c": ""}}).alerts
    assert alert.labels == (("a", "1"), ("b", "2"))


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://prom:9090/graph?g0.expr=up", "alertmanager;http://prom:9090"),
        ("http://li:hunter2@prom:9090/graph", "alertmanager;http://prom:9090"),
        ("http://host:8880/vmalert/alert?group_id=1", "alertmanager;http://host:8880"),
        ("/graph", "alertmanager;10.0.0.1"),
        ("", "alertmanager;10.0.0.1"),
        ("http://" + "a" * 300, "alertmanager;10.0.0.1"),
    ],
)
def test_a_sender_is_known_by_its_generator_or_its_address(url: str, origin: str) -> None:
    (alert,) = read({"labels": X, "generatorURL": url}).alerts
    assert alert.origin == origin


def test_what_is_right_is_taken_beside_what_is_wrong() -> None:
    posted_ = read({"labels": X}, {"labels": {}}, {"labels": {"alertname": "y"}})
    assert [dict(a.labels)["alertname"] for a in posted_.alerts] == ["x", "y"]
    assert posted_.errors == ["at least one label pair required"]


def test_an_alert_that_is_too_long_costs_no_other() -> None:
    long = {"labels": {"alertname": "long"}, "annotations": {"a": "x" * 70_000}}
    many = {"labels": {f"l{n}": "x" for n in range(1_001)}}
    wide = {"labels": {"alertname": "x" * 5_000}}
    result = read({"labels": X}, long, many, wide)
    assert len(result.alerts) == 1
    assert "longer than 64 KiB" in result.errors[0]
    assert "1000 labels" in result.errors[1]
    assert "longer than 4 KiB" in result.errors[2]


@pytest.mark.parametrize(("part", "times"), [(b"[]", 300_000), (b"1", 600_000), (b"{}", 10_000)])
def test_a_body_of_too_many_parts_is_refused(part: bytes, times: int) -> None:
    body = b"[" + (part + b",") * times + part + b"]"
    with pytest.raises(Refused, match="in one request") as refused:
        at_once(read_alerts(body, Arrival("10.0.0.1", START_MS)))
    assert refused.value.status == 413


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        name: JSON_VALUES | st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3)
        for name in ("labels", "annotations", "startsAt", "endsAt", "generatorURL")
    },
)


@given(st.lists(FIELDS | JSON_VALUES, max_size=4))
def test_whatever_comes_is_taken_or_refused_in_words(items: list[Any]) -> None:
    try:
        result = at_once(read_alerts(json.dumps(items).encode(), Arrival("::1", START_MS)))
    except Refused as refused:
        assert refused.status in (400, 422)
        assert str(refused)
        return
    assert len(result.alerts) + len(result.errors) == len(items)
    for alert in result.alerts:
        assert alert.labels
        assert alert.starts_at_ms <= alert.ends_at_ms


async def test_a_body_over_the_limit_is_refused() -> None:
    async with await client() as ours:
        body = b" " * (MAX_BODY_BYTES + 1)
        answer = await ours.post("/api/v2/alerts", content=body, headers=JSON)
    assert answer.status_code == 413
    assert "longer than" in answer.json()["message"]


async def test_pages_of_other_origins_and_other_machines_may_not_post() -> None:
    intake = AlertIntake((await Floor(config()).open()).dispatcher, lambda: START_MS)
    every = routes(intake, tuple, new_guard(), START_MS)
    async with api_client(every) as ours:
        headers = {**JSON, "Origin": "http://evil.example"}
        assert (await ours.post("/api/v2/alerts", content="[]", headers=headers)).status_code == 403
    async with api_client(every, address="10.0.0.9") as stranger:
        refused = await stranger.post("/api/v2/alerts", content="[]", headers=JSON)
        assert refused.status_code == 403
        assert "token" in refused.json()["message"]


class Failing(MemoryJournal):
    """A disk that can fail, or hang."""

    broken = hangs = False

    async def commit(self, changeset: Changeset) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.broken:
            raise JournalDown("no space left on device")
        await super().commit(changeset)


@pytest.mark.parametrize("trouble", ["broken", "hangs"])
async def test_what_the_journal_cannot_take_is_in_force_and_to_be_sent_again(trouble: str) -> None:
    journal = Failing()
    floor = await Floor(config(), journal, answer_s=0.05).open()
    setattr(journal, trouble, True)
    async with await client(floor.dispatcher) as ours:
        for _ in range(3):  # the second and third find the journal down, or slow, already
            answer = await ours.post("/api/v2/alerts", json=[{"labels": X}])
            assert answer.status_code == 503
            assert "in force, but not on disk yet" in answer.json()
            assert int(answer.headers["retry-after"]) >= 1
    async with await client(floor.dispatcher, START_MS + 600_000) as ours:  # it is to be tried now
        answer = await ours.post("/api/v2/alerts", json=[{"labels": X}])
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert [one.members for one in floor.dispatcher.working.incidents.values()] != []


async def test_it_is_taken_once_the_journal_is_back() -> None:
    journal = Failing()
    floor = await Floor(config(), journal).open()
    journal.broken = True
    async with await client(floor.dispatcher) as ours:
        assert (await ours.post("/api/v2/alerts", json=[{"labels": X}])).status_code == 503
        journal.broken = False
        await floor.advance(5_000)
        await asyncio.sleep(0.05)
        again = await ours.post("/api/v2/alerts", json=[{"labels": X}])
    assert (again.status_code, again.headers.get("retry-after")) == (200, None)


async def test_an_alert_without_an_end_holds_for_the_resolve_timeout_of_the_configuration(
    tmp_path: Path,
) -> None:
    text = "engines: []\nrule_files: []\nresolve_timeout: 90s\n"
    with wired_agent(tmp_path, text) as app:
        await app.start()
        async with api_client(app.routes()) as ours:
            sent = [{"labels": X}, {"labels": {"alertname": "y"}, "endsAt": "2040-01-01T00:00:00Z"}]
            assert (await ours.post("/api/v2/alerts", json=sent)).status_code == 200
            status = (await ours.get("/api/v2/status")).json()
        ends = {
            a.labels[0][1]: a.ends_at_ms - a.updated_at_ms for a in app.dispatcher.working.external
        }
        await app.close()
    assert ends["x"] == 90_000
    assert ends["y"] > 90_000
    assert "resolve_timeout: 1m30s" in status["config"]["original"]
