"""`/api/v1/silences` and `/api/v1/maintenance`: as a client sees them."""

from typing import Any

import pytest

from support.alert_events import alert, fires
from support.api_client import api_client
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, config
from tocsin_alerting.api.http.guard import new_guard
from tocsin_alerting.api.tocsin.silences import routes
from tocsin_alerting.http import httpx
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.calendar_times import TimeInterval, time_span
from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.errors import JournalDown
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.maintenance import MaintenanceWindow

SILENCES, WINDOWS = "/api/v1/silences", "/api/v1/maintenance"
NIGHTLY = MaintenanceWindow(
    "drivers",
    (parse_matcher('target="a"'),),
    (parse_matcher('severity="P0"'),),
    TimeInterval(times=(time_span("02:00", "04:00"),)),
)


async def floor(journal: MemoryJournal | None = None) -> Floor:
    """A dispatcher with one P0 and one P1 incident open."""
    opened = await Floor(config(maintenance=(NIGHTLY,)), journal).open()
    await opened.hear(
        fires(alert("Down", "P0", target="a")), fires(alert("Slow", "P1", target="a"))
    )
    return opened


def client(at: Floor, address: str = "127.0.0.1") -> httpx.AsyncClient:
    ids = (f"id-{number}" for number in range(1, 100))
    serving = routes(at.dispatcher, new_guard(), lambda: at.now, lambda: next(ids))
    return api_client(serving, address)


async def data(answer: Any) -> Any:
    response = await answer
    assert response.status_code == 200, response.text
    return response.json()["data"]


async def test_one_is_set_shown_listed_extended_and_expired() -> None:
    at = await floor()
    body = {"matchers": ['alertname="Slow"'], "for": "1h", "by": "li", "comment": "planned"}
    async with client(at) as api:
        made = await data(api.post(SILENCES, json=body))
        shown = {"id": "id-1", "state": "active", "matchers": ['alertname="Slow"'], "mutes": [2]}
        assert made.items() >= shown.items()
        assert made["starts_at"] == "2026-01-01T00:00:00.000Z"
        assert made["ends_at"] == "2026-01-01T01:00:00.000Z"
        assert (made["created_by"], made["comment"]) == ("li", "planned")
        assert (made["warn_before"], made["recorded"]) == ("15m", True)
        assert await data(api.get(f"{SILENCES}/id-1")) == made
        (listed,) = (await data(api.get(SILENCES)))["silences"]
        assert listed.items() <= made.items()
        longer = await data(api.post(f"{SILENCES}/id-1/extend", json={"for": "30m"}))
        assert longer["ends_at"] == "2026-01-01T01:30:00.000Z"
        exact = {"ends_at": "2026-01-01T02:00:00Z"}
        assert (await data(api.post(f"{SILENCES}/id-1/extend", json=exact)))["ends_at"] == (
            "2026-01-01T02:00:00.000Z"
        )
        over = await data(api.post(f"{SILENCES}/id-1/expire", json={"by": "wang"}))
        assert (over["state"], over["mutes"]) == ("expired", [])
        assert (await data(api.get(SILENCES)))["silences"] == []
        assert len((await data(api.get(f"{SILENCES}?state=expired")))["silences"]) == 1
        late = await api.post(f"{SILENCES}/id-1/extend", json={"for": "30m"})
    assert (late.status_code, late.json()["error"]) == (400, "it has expired; add a new one")


async def test_the_same_request_makes_one_silence() -> None:
    at = await floor()
    body = {"matchers": ['alertname="Slow"'], "for": "1h", "request_id": "r1"}
    async with client(at) as api:
        first, again = [(await data(api.post(SILENCES, json=body)))["id"] for _ in range(2)]
        other = (await data(api.post(SILENCES, json=body | {"request_id": "r2"})))["id"]
    assert first == again != other


async def test_p0_is_warned_of() -> None:
    at = await floor()
    body = {"matchers": [{"name": "target", "value": "a", "isRegex": True}], "for": "1h"}
    async with client(at) as api:
        seen = (await api.post(f"{SILENCES}/preview", json=body)).json()
        made = (await api.post(SILENCES, json=body)).json()
    assert seen["warnings"] == made["warnings"] == ["it mutes P0: #1 Down target=a"]
    assert seen["data"]["firing_count"] == 2 and seen["data"]["alerts"] == 2
    assert (seen["data"]["last_7_days"], seen["data"]["last_7_days_p0"]) == (2, 1)
    assert [one["number"] for one in seen["data"]["firing"]] == [1, 2]


async def test_a_preview_changes_nothing() -> None:
    at = await floor()
    async with client(at) as api:
        read = await data(
            api.get(f"{SILENCES}/preview", params={"matcher": ['target="a"', 'team=""']})
        )
    async with client(at) as api:
        sent = await data(api.post(f"{SILENCES}/preview", json={"matchers": ['target="a"']}))
    assert read == sent and read["firing_count"] == 2
    assert not at.dispatcher.silencing.all


BAD = [
    ({}, 'it needs an end: "for", "ends_at" or "until_resolved"'),
    ({"for": "1h"}, "a silence needs at least one matcher"),
    ({"for": "1h", "matchers": "a"}, '"matchers" is no list of at most 100 matchers'),
    ({"for": "1h", "matchers": [5]}, "a matcher is text, or"),
    ({"for": "1h", "matchers": ['a=~"("']}, "not a regular expression"),
    ({"for": "1h", "matchers": [{"name": "a", "value": "(", "isRegex": True}]}, "not a regular"),
    ({"for": "soon", "matchers": ["a=b"]}, 'invalid parameter "for"'),
    ({"for": "1h", "ends_at": 5, "matchers": ["a=b"]}, "say the same"),
    ({"ends_at": 5, "matchers": ["a=b"]}, "the silence ends before it starts"),
    ({"for": "1h", "matchers": ['a=~".*"']}, "it would silence every alert"),
    ({"for": "1h", "matchers": ["a=b"], "comment": 5}, '"comment" is not text'),
    ({"for": "1h", "matchers": ["a=b"], "everything": "yes"}, '"everything" is neither'),
    ({"for": "1h", "matchers": ["a=b"], "id": "gone"}, 'no silence "gone"'),
]


@pytest.mark.parametrize(("body", "words"), BAD)
async def test_what_is_wrong_says_so_and_sets_nothing(body: dict[str, Any], words: str) -> None:
    at = await floor()
    async with client(at) as api:
        refused = await api.post(SILENCES, json=body)
    assert refused.status_code in (400, 404) and words in refused.json()["error"]
    assert not at.dispatcher.silencing.all


async def test_everything_and_until_it_is_over() -> None:
    at = await floor()
    body = {
        "matchers": ['a=~".*"'],
        "until_resolved": True,
        "everything": True,
        "warn_before": "0s",
    }
    async with client(at) as api:
        made = await data(api.post(SILENCES, json=body))
    assert made["mutes"] == [1, 2] and made["until_resolved"] and made["warn_before"] is None
    assert made["ends_at"] == "2026-01-31T00:00:00.000Z"


async def test_lists_come_in_pages() -> None:
    at = await floor()
    async with client(at) as api:
        for hours in (3, 1, 2, 1):
            await data(api.post(SILENCES, json={"matchers": ["a=b"], "for": f"{hours}h"}))
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await data(api.get(SILENCES, params={"limit": 1, "cursor": cursor}))
            found += [one["id"] for one in page["silences"]]
            cursor = page["next"]
        wrong = [await api.get(SILENCES, params=one) for one in ({"limit": "0"}, {"cursor": "x"})]
    assert found == ["id-2", "id-4", "id-3", "id-1"]
    assert [one.status_code for one in wrong] == [400, 400]


async def test_strangers_change_nothing() -> None:
    at = await floor()
    body = {"matchers": ["a=b"], "for": "1h", "name": "w"}
    async with client(at, "10.0.0.9") as api:
        paths = (SILENCES, f"{SILENCES}/preview", WINDOWS, f"{SILENCES}/x/expire")
        refused = [(await api.post(path, json=body)).status_code for path in paths]
    assert set(refused) == {403}


class Down(MemoryJournal):
    async def commit(self, changeset: Changeset) -> None:
        raise JournalDown("the disk is gone")


async def test_what_is_not_on_the_disk_says_so() -> None:
    at = await floor(Down())
    async with client(at) as api:
        body = {"matchers": ['alertname="Slow"'], "for": "1h"}
        made = (await api.post(SILENCES, json=body)).json()
    assert made["data"]["recorded"] is False
    assert "not on disk yet: the disk is gone" in made["warnings"][0]
    assert len(made["data"]["mutes"]) == 1


async def test_windows_of_the_configuration_and_ad_hoc_ones() -> None:
    at = await floor()
    body = {"name": "rack-3", "matchers": ['alertname="Slow"'], "for": "2h", "by": "li"}
    async with client(at) as api:
        made = await data(api.post(WINDOWS, json=body))
        assert (made["name"], made["mutes"]) == ("rack-3", [2])
        planned, ad_hoc = (await data(api.get(WINDOWS)))["windows"]
        assert planned == {
            "name": "drivers", "origin": "configuration", "state": "pending", "recurring": True,
            "matchers": ['target="a"'], "except": ['severity="P0"'], "mutes": [],
            "next_change_at": "2026-01-01T02:00:00.000Z",
        }  # fmt: skip
        assert (ad_hoc["origin"], ad_hoc["mutes"]) == ("ad hoc", [2])
        assert (await data(api.get(SILENCES)))["silences"] == []
        twice = await api.post(WINDOWS, json=body)
        assert twice.json()["error"].startswith('a maintenance window "rack-3" exists already')
        over = await data(api.post(f"{WINDOWS}/rack-3/end", json={}))
        assert over["state"] == "expired"
        codes = [
            (await api.post(f"{WINDOWS}/{name}/end", json={})).status_code
            for name in ("rack-3", "drivers")
        ]
        nameless = await api.post(WINDOWS, json=body | {"name": ""})
    assert codes == [404, 409]
    assert nameless.json()["error"] == 'it needs a "name"'


async def test_a_window_that_holds_says_what_it_mutes() -> None:
    at = await floor()
    await at.advance(2 * HOUR + MINUTE)
    async with client(at) as api:
        (planned,) = (await data(api.get(WINDOWS)))["windows"]
    assert (planned["state"], planned["mutes"]) == ("active", [2])
    assert planned["next_change_at"] == "2026-01-01T04:00:00.000Z"
    assert at.now > START_MS
