"""Silences by Alertmanager's API: what is set, changed, listed and ended, as a real one does it."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from support.alert_events import alert, fires
from support.alertmanager import Asked, ask, decoded, posted, running_alertmanager
from support.api_client import api_client
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, config
from support.silences import silence
from tocsin_alerting.api.alertmanager.intake import AlertIntake
from tocsin_alerting.api.alertmanager.routes import routes
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.http import httpx
from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.errors import JournalDown
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.time_format import rfc3339

SILENCES, ONE = "/api/v2/silences", "/api/v2/silence"
NOBODY = "4f4d7c2e-0000-4000-8000-000000000000"
JSON = {"Content-Type": "application/json"}
MATCHER = {"name": "alertname", "value": "Slow", "isRegex": False}
WHOLE: dict[str, Any] = {
    "matchers": [MATCHER],
    "startsAt": "2040-01-01T00:00:00Z",
    "endsAt": "2040-01-02T00:00:00Z",
    "createdBy": "li",
    "comment": "planned",
}
LATER = WHOLE["endsAt"]


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in WHOLE.items() if key != name}


def matching(**changes: Any) -> dict[str, Any]:
    kept = {key: value for key, value in (MATCHER | changes).items() if value != "left out"}
    return WHOLE | {"matchers": [kept]}


SAME: Sequence[Any] = [
    {},
    None,
    *(without(name) for name in WHOLE),
    *(WHOLE | {name: None} for name in WHOLE),
    without("comment") | {"matchers": []},
    WHOLE | {"matchers": []},
    WHOLE | {"matchers": {}},
    WHOLE | {"matchers": ["a=b"]},
    WHOLE | {"matchers": [{}, {}]},
    matching(isRegex="left out"),
    matching(name="left out"),
    matching(value="left out"),
    matching(value=None),
    matching(isRegex="no"),
    matching(isEqual=1),
    matching(value=1),
    matching(value=""),
    matching(value=".*", isRegex=True),
    matching(value="x", isEqual=False),
    matching(value=".+", isRegex=True),
    matching(value="x", isEqual=None),
    matching(name=""),
    WHOLE | {"comment": ""},
    WHOLE | {"createdBy": ""},
    WHOLE | {"comment": 1},
    WHOLE | {"startsAt": 1},
    WHOLE | {"startsAt": ""},
    WHOLE | {"startsAt": "0001-01-01T00:00:00.000Z"},
    WHOLE | {"endsAt": "0001-01-01T00:00:00.000Z"},
    WHOLE | {"startsAt": LATER, "endsAt": WHOLE["startsAt"]},
    WHOLE | {"startsAt": LATER},
    WHOLE | {"startsAt": "2020-01-01T00:00:00Z", "endsAt": "2020-01-02T00:00:00Z"},
    WHOLE | {"startsAt": "2020-01-01T00:00:00+08:00"},
    WHOLE | {"id": None},
    WHOLE | {"id": ""},
    WHOLE | {"id": NOBODY},
    WHOLE | {"id": "x"},
    WHOLE | {"unknown": 1},
]
SAME_STATUS: Sequence[Any] = [
    [],
    WHOLE | {"startsAt": "yesterday"},
    WHOLE | {"id": 1},
    matching(value="(", isRegex=True),
]


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_alertmanager(tmp_path_factory.mktemp("alertmanager")) as url:
        yield url


async def floor(journal: MemoryJournal | None = None) -> Floor:
    """A dispatcher with one P0 and one P1 incident open."""
    opened = await Floor(config(), journal).open()
    await opened.hear(fires(alert("Down", "P0")), fires(alert("Slow", "P1", zone="a")))
    return opened


def client(at: Floor, now_ms: Callable[[], int] | None = None, **roles: str) -> httpx.AsyncClient:
    intake = AlertIntake(at.dispatcher, now_ms or (lambda: at.now))
    return api_client(routes(intake, tuple, new_guard(), START_MS), **roles)


def body(at: Floor, **changes: Any) -> dict[str, Any]:
    """An hour from now on."""
    return WHOLE | {"startsAt": rfc3339(at.now), "endsAt": rfc3339(at.now + HOUR)} | changes


async def put(api: httpx.AsyncClient, sent: Mapping[str, Any]) -> str:
    answer = await api.post(SILENCES, json=sent)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["silenceID"])


def told(answer: httpx.Response) -> tuple[int, Any]:
    """Without the identity that only one of the two gives."""
    said: Any = answer.json()
    return answer.status_code, said if answer.status_code != 200 else sorted(said)


@pytest.mark.parametrize("sent", SAME)
async def test_a_post_is_answered_as_by_alertmanager(alertmanager: str, sent: Any) -> None:
    status, text = posted(alertmanager + SILENCES, json.dumps(sent).encode())
    said = json.loads(text)
    async with client(await floor()) as api:
        ours = told(await api.post(SILENCES, content=json.dumps(sent), headers=JSON))
    assert ours == (status, said if status != 200 else sorted(said))


@pytest.mark.parametrize("sent", SAME_STATUS)
async def test_what_cannot_be_read_has_alertmanager_s_status(alertmanager: str, sent: Any) -> None:
    status, _ = posted(alertmanager + SILENCES, json.dumps(sent).encode())
    async with client(await floor()) as api:
        answer = await api.post(SILENCES, json=sent)
    assert answer.status_code == status


@pytest.mark.parametrize(("text", "kind"), [("", "application/json"), ("{}", "text/plain")])
async def test_what_is_no_json_too(alertmanager: str, text: str, kind: str) -> None:
    status, said = posted(alertmanager + SILENCES, text.encode(), kind)
    async with client(await floor()) as api:
        answer = await api.post(SILENCES, content=text, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()) == (status, json.loads(said))


class Pair:
    """A real one and ours: asked the same they must say the same, but for times and ids."""

    def __init__(self, url: str, api: httpx.AsyncClient) -> None:
        self._url, self._api = url, api
        self._ids: list[tuple[str, str]] = []  # of the real one, and ours

    async def ask(self, method: str, path: str, sent: Any = None) -> Asked:
        real = ask(method, self._url + self._for(path, 0), self._for(sent, 0))
        ours = self._for(sent, 1)
        answer = await self._api.request(method, self._for(path, 1), json=ours)
        said = answer.status_code, decoded(answer.content)
        if said[0] == real[0] == 200 and isinstance(said[1], dict) and "silenceID" in said[1]:
            self._ids.append((real[1]["silenceID"], said[1]["silenceID"]))
        assert self._named(said, 1) == self._named(real, 0), (method, path, sent)
        return self._named(said, 1)

    def _for(self, value: Any, side: int) -> Any:
        text = json.dumps(value)
        for number, pair in enumerate(self._ids):
            text = text.replace(f"ID-{number}", pair[side])
        return json.loads(text)

    def _named(self, asked: Asked, side: int) -> Asked:
        """Ids by their number, and of the times only those that were given."""
        text = json.dumps(asked[1])
        for number, pair in enumerate(self._ids):
            text = text.replace(pair[side], f"ID-{number}")
        said = json.loads(text)
        return asked[0], [_timeless(s) for s in said] if isinstance(said, list) else _timeless(said)


def _timeless(said: Any) -> Any:
    if isinstance(said, dict) and "updatedAt" in said:
        now = said["startsAt"] if not said["startsAt"].startswith("20") else ""
        return said | {
            "updatedAt": now,
            "startsAt": said["startsAt"][:13],
            "endsAt": said["endsAt"][:13],
        }
    return said


@pytest.fixture
async def pair(alertmanager: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """With an Alertmanager of their own: lists show all that is set."""
    at = await floor()
    with running_alertmanager(tmp_path_factory.mktemp("pair")) as url:
        async with client(at, real_ms) as api:
            yield Pair(url, api)


def ahead(hours: int) -> str:
    return rfc3339(real_ms() + hours * HOUR)


def real_ms() -> int:
    return time.time_ns() // 1_000_000


async def test_its_life_is_that_of_one_of_alertmanager(pair: Pair) -> None:
    active = WHOLE | {"startsAt": ahead(0), "endsAt": ahead(1)}
    assert await pair.ask("POST", SILENCES, active) == (200, {"silenceID": "ID-0"})
    status, shown = await pair.ask("GET", f"{ONE}/ID-0")
    assert (status, shown["status"]) == (200, {"state": "active"})
    longer = active | {"id": "ID-0", "startsAt": shown["startsAt"] + ":00:00Z", "endsAt": ahead(2)}
    await pair.ask("POST", SILENCES, WHOLE | {"id": "ID-0"})  # another start: a new one
    assert (await pair.ask("GET", f"{ONE}/ID-0"))[1]["status"] == {"state": "expired"}
    await pair.ask("POST", SILENCES, longer)  # what has expired stays so
    await pair.ask("POST", SILENCES, matching(value="Other") | {"id": "ID-1"})
    await pair.ask("POST", SILENCES, WHOLE | {"comment": "kept", "id": "ID-3"})
    await pair.ask("GET", SILENCES)
    assert await pair.ask("DELETE", f"{ONE}/ID-3") == (200, None)
    assert await pair.ask("DELETE", f"{ONE}/ID-3") == (200, None)
    assert await pair.ask("GET", f"{ONE}/{NOBODY}") == (404, None)
    for method in ("GET", "DELETE"):
        assert (await pair.ask(method, f"{ONE}/x"))[0] == 422
    status, listed = await pair.ask("GET", SILENCES)
    assert {one["status"]["state"] for one in listed} == {"active", "expired", "pending"}


async def test_an_update_keeps_its_id_where_alertmanager_s_does(pair: Pair) -> None:
    await pair.ask("POST", SILENCES, WHOLE)
    update = WHOLE | {"id": "ID-0", "endsAt": ahead(1), "startsAt": ahead(0)}
    for change in ({"comment": "other"}, {"endsAt": "2041-01-01T00:00:00Z"}, {"createdBy": "wu"}):
        await pair.ask("POST", SILENCES, WHOLE | {"id": "ID-0"} | change)
    await pair.ask("POST", SILENCES, update | {"startsAt": "2039-01-01T00:00:00Z", "endsAt": LATER})
    status, shown = await pair.ask("GET", SILENCES)
    assert (status, len(shown)) == (200, 1)
    assert shown[0]["startsAt"] == "2039-01-01T00"


async def test_lists_are_filtered_and_sorted_as_alertmanager_s(pair: Pair) -> None:
    other = {"name": "zone", "value": "a|b", "isRegex": True, "isEqual": False}
    both = {"matchers": [MATCHER, other]}
    for hours in (5, 3, 4):
        await pair.ask("POST", SILENCES, WHOLE | {"startsAt": ahead(0), "endsAt": ahead(hours)})
        await pair.ask("POST", SILENCES, WHOLE | both | {"startsAt": ahead(hours)})
    for number in (2, 4):
        await pair.ask("DELETE", f"{ONE}/ID-{number}")
    for query in (
        "",
        '?filter=zone!~"a|b"',
        "?filter=alertname=Slow",
        '?filter=alertname="Slow"&filter=zone!~"a|b"',
        '?filter=alertname=~"Slow"',
        "?filter=alertname=Other",
        "?filter=alertname!=Slow",
    ):
        status, _ = await pair.ask("GET", SILENCES + query)
        assert status == 200
    assert len((await pair.ask("GET", SILENCES + '?filter=zone!~"a|b"'))[1]) == 3


async def test_what_a_silence_shows() -> None:
    at = await floor()
    async with client(at) as api:
        name = await put(api, body(at))
        shown = (await api.get(f"{ONE}/{name}")).json()
        assert shown == {
            "id": name,
            "status": {"state": "active"},
            "updatedAt": "2026-01-01T00:00:00.000Z",
            "comment": "planned",
            "createdBy": "li",
            "endsAt": "2026-01-01T01:00:00.000Z",
            "matchers": [MATCHER | {"isEqual": True}],
            "startsAt": "2026-01-01T00:00:00.000Z",
        }
        assert (await api.get(SILENCES)).json() == [shown]


async def test_states_can_be_left_out() -> None:
    at = await floor()
    async with client(at) as api:
        names = {
            "active": await put(api, body(at)),
            "pending": await put(api, body(at, startsAt=rfc3339(at.now + MINUTE))),
            "expired": await put(api, body(at)),
        }
        await api.delete(f"{ONE}/{names['expired']}")
        for state, name in names.items():
            listed = (await api.get(SILENCES, params={state: "false"})).json()
            assert {one["id"] for one in listed} == set(names.values()) - {name}


async def test_it_mutes_and_is_our_silence_with_our_warning() -> None:
    at = await floor()
    async with client(at) as api:
        name = await put(api, body(at))
        ours = at.dispatcher.silencing.get(name)
        assert (ours.warn_before_ms, ours.until_resolved) == (15 * MINUTE, False)
        slow = await at.dispatcher.incident(2)
        assert slow.muted_by == {f"silence:{name}"}
        assert (await api.delete(f"{ONE}/{name}")).status_code == 200
        assert (await at.dispatcher.incident(2)).muted_by == frozenset()


async def test_what_alertmanager_has_no_word_for_stays() -> None:
    at = await floor()
    waits = silence(at.now, 'alertname="Slow"', until_resolved=True, warn_before_ms=MINUTE)
    ours = await at.dispatcher.silencing.put(waits, NOBODY, at.now)
    async with client(at) as api:
        assert await put(api, body(at, id=ours.id, comment="other")) == ours.id
    after = at.dispatcher.silencing.get(ours.id)
    assert (after.until_resolved, after.warn_before_ms) == (True, MINUTE)
    assert (after.comment, after.created_by) == ("other", "li")


async def test_a_maintenance_window_is_no_silence_here() -> None:
    at = await floor()
    window = silence(at.now, 'alertname="Slow"', window="drivers")
    await at.dispatcher.silencing.put(window, NOBODY, at.now)
    async with client(at) as api:
        assert (await api.get(SILENCES)).json() == []
        assert (await api.get(f"{ONE}/{NOBODY}")).status_code == 404
        assert (await api.delete(f"{ONE}/{NOBODY}")).status_code == 404
        assert (await api.post(SILENCES, json=body(at, id=NOBODY))).status_code == 404
    assert at.dispatcher.silencing.get(NOBODY).active_at(at.now)


class Failing(MemoryJournal):
    """A disk that can fail."""

    broken = False

    async def commit(self, changeset: Changeset) -> None:
        if self.broken:
            raise JournalDown("no space left on device")
        await super().commit(changeset)


async def test_what_is_not_on_the_disk_is_in_force_and_not_answered_with_200() -> None:
    journal = Failing()
    at = await floor(journal)
    async with client(at) as api:
        name = await put(api, body(at))
        journal.broken = True
        ended = await api.delete(f"{ONE}/{name}")
        assert (ended.status_code, "no space left" in ended.json()) == (503, True)
        refused = await api.post(SILENCES, json=body(at))
        assert (refused.status_code, "not on disk yet" in refused.json()) == (503, True)
        again = await api.delete(f"{ONE}/{name}")
        assert again.status_code == 503
        listed = (await api.get(SILENCES)).json()
    assert [one["status"]["state"] for one in listed] == ["active", "expired"]


@pytest.mark.parametrize(
    ("role", "get", "change"), [("read", 200, 403), ("respond", 200, 200), ("admin", 200, 200)]
)
async def test_roles(role: str, get: int, change: int) -> None:
    at = await floor()
    async with client(at, None, bearer=role, other="admin") as api:
        api.headers["authorization"] = "Bearer bearer"
        assert (await api.get(SILENCES)).status_code == get
        made = await api.post(SILENCES, json=body(at))
        assert made.status_code == change
        if change != 200:
            assert made.json()["code"] == 403
        name = made.json().get("silenceID", NOBODY)
        ended = await api.delete(f"{ONE}/{name}")
        assert ended.status_code == change
        if change == 200:  # a credential names its bearer; admin may name others
            author = "li" if role == "admin" else "bearer"
            assert at.dispatcher.silencing.get(name).created_by == author
    lines = await at.journal.history(0)
    assert [line.actor for line in lines if line.event == "silence_ended"] == (
        ["bearer"] if change == 200 else []
    )


async def test_a_page_of_another_origin_changes_nothing() -> None:
    at = await floor()
    async with client(at) as api:
        name = await put(api, body(at))
        api.headers["origin"] = "http://evil.example"
        assert (await api.delete(f"{ONE}/{name}")).status_code == 403
        assert (await api.post(SILENCES, json=body(at))).status_code == 403
        api.headers["origin"] = "http://127.0.0.1:4911"
        assert (await api.delete(f"{ONE}/{name}")).status_code == 200


async def test_a_long_body_and_many_matchers_are_refused() -> None:
    at = await floor()
    async with client(at) as api:
        many = await api.post(SILENCES, json=body(at, matchers=[MATCHER] * 101))
        long = await api.post(SILENCES, json=body(at, comment="x" * 70_000))
    assert many.json() == {"code": 611, "message": "matchers in body should have at most 100 items"}
    assert long.status_code == 413
