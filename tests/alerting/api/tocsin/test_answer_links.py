"""`/links/TOKEN`: what the addressee of a message sees and does by it, and what nobody else can."""

import re
from collections.abc import Mapping
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from starlette.routing import Route

from support.alert_events import alert, clears, fires, gives_up, unknown
from support.api_client import api_client
from support.dispatcher_setup import Floor
from support.policies import HOUR, MINUTE, P0, by, config
from tocsin_alerting.api.tocsin import answer_links
from tocsin_alerting.api.tocsin.answer_chart import AnswerChart
from tocsin_alerting.bundled import bundled
from tocsin_alerting.http import httpx
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.drills import Drill
from tocsin_alerting.incidents.incident import Condition
from tocsin_alerting.notify.signed_links import LinkTarget, SignedLinks
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.threads import Threads

FORM = re.compile(r'name="form" value="([^"]+)"')
STATE = re.compile(r'<p class="state">(.*?)</p>')
SAID = re.compile(r'<p class="said[^>]*>(.*?)</p>')
OUTSIDE = "10.0.0.7"


class Phone:
    """A floor with one P0 incident, the links to it, and the page behind them."""

    def __init__(self, at: Floor, folder: Path, **about: Any) -> None:
        self.at = at
        self.links = SignedLinks("http://phone.example/tocsin")
        self.links.begin(folder)
        threads = Threads(1, "charts")
        chart = AnswerChart(QueryEngine(Store()), threads, lambda: 0.0)
        given: dict[str, Any] = {
            "dispatcher": at.dispatcher,
            "links": self.links,
            "groups": lambda: [],
            "chart": chart,
            "now_ms": lambda: at.now,
            "monotonic": lambda: 0.0,
            "zone": ZoneInfo("Asia/Shanghai"),
            "language": "en",
            "contacts": ("li", "wang"),
            "receivers": ("chat", "mail"),
            "external_url": "http://phone.example/tocsin",
            "runbooks": lambda: bundled("docs/runbooks"),
        }
        self.routes: list[Route] = answer_links.routes(answer_links.Answering(**given | about))

    def token(self, contact: str = "li", receiver: str = "", number: int = 1) -> str:
        uid = self.at.dispatcher.working.incidents[number].uid
        return self.links.token(LinkTarget(number, uid, contact, receiver))

    def client(self, address: str = OUTSIDE, host: str = "phone.example") -> httpx.AsyncClient:
        return api_client(self.routes, address, host)

    async def form(self, token: str, who: str = "") -> str:
        async with self.client() as api:
            page = await api.get(f"/links/{token}", params={"who": who})
        return str(FORM.findall(page.text)[0])

    async def post(
        self, token: str, headers: Mapping[str, str] | None = None, **fields: str
    ) -> httpx.Response:
        if "form" not in fields:
            fields["form"] = await self.form(token, fields.get("who", ""))
        async with self.client() as api:
            return await api.post(f"/links/{token}", data=fields, headers=dict(headers or {}))

    async def page(self, token: str, language: str = "en", **params: str) -> str:
        async with self.client() as api:
            headers = {"accept-language": language}
            return (await api.get(f"/links/{token}", params=params, headers=headers)).text

    @property
    def incident(self) -> Any:
        return self.at.dispatcher.working.incidents[1]


async def phone(folder: Path, summary: str = "", policy: Any = P0, **about: Any) -> Phone:
    settings = replace(
        config(policies={"P0": policy}), addressees=frozenset(by("phone:li", "phone:wang"))
    )
    opened = await Floor(settings).open()
    await opened.reconcile()
    one = alert(target="a:1", at_ms=opened.now)
    if summary:
        one = replace(one, annotations=(("summary", summary),))
    await opened.hear(fires(one, opened.now))
    return Phone(opened, folder, **about)


async def test_the_page_says_how_it_stands_and_changes_nothing(tmp_path: Path) -> None:
    one = await phone(tmp_path)
    before = one.incident
    text = await one.page(one.token())
    assert STATE.findall(text) == ["Nobody has it"] and '<header class="p0">' in text
    assert "EngineDown fires" in text and "P0, critical · #1" in text
    assert "2026-01-01 08:00:00 CST (+08:00), for 0s" in text
    follows = re.findall(r"(08:\d\d:00 \(.*?)</dd>", text)
    assert follows == [
        "08:05:00 (5m): its recovery target is missed",
        "08:15:00 (15m): wang notified",
    ]
    assert "opened: EngineDown, P0" in text and "This link belongs to li." in text
    asked = {"done": "ack", "do": "ack"}
    form = {"do": "ack", "form": await one.form(one.token())}
    async with one.client() as api:
        for method in ("GET", "HEAD", "OPTIONS"):
            await api.request(method, f"/links/{one.token()}", params=asked, data=form)
    assert one.incident is before


async def test_an_acknowledgement_is_in_the_name_of_the_contact_and_stops_the_escalation(
    tmp_path: Path,
) -> None:
    one = await phone(tmp_path)
    done = await one.post(one.token(), do="ack")
    assert (done.status_code, done.headers["location"]) == (303, "?done=ack")
    assert (one.incident.state, one.incident.owner) == ("ACKED", "li")
    text = await one.page(one.token(), done="ack")
    assert STATE.findall(text) == ["You have it"] and '<header class="calm">' in text
    assert SAID.findall(text) == ["Acknowledged. You have it."]
    assert "acknowledged by li (by link) after 0s" in text
    assert "通过链接" in await one.page(one.token(), "zh-CN,zh;q=0.9")
    await one.at.advance(29 * MINUTE)
    assert one.at.reasons("escalated") == []


async def test_what_is_posted_twice_is_done_once(tmp_path: Path) -> None:
    one = await phone(tmp_path)
    token = one.token()
    form = await one.form(token)
    for _ in range(3):
        assert (await one.post(token, form=form, do="comment", note="mine")).status_code == 303
    assert (await one.post(token, form=form, do="comment", note="other")).status_code == 303
    story = await one.at.dispatcher.timeline(1)
    notes = [entry.data["note"] for entry in story.history if entry.event == "commented"]
    assert notes == ["mine", "other"]


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"do": "snooze 15"}, "SNOOZED"),
        ({"do": "resolve", "confirm": "yes", "false_positive": "yes"}, "RESOLVED"),
        ({"do": "assign", "to": "wang"}, "ACKED"),
        ({"do": "escalate"}, "TRIGGERED"),
    ],
)
async def test_the_other_answers(tmp_path: Path, fields: dict[str, str], state: str) -> None:
    one = await phone(tmp_path)
    assert (await one.post(one.token(), None, **fields)).status_code == 303
    assert one.incident.state == state
    story = await one.at.dispatcher.timeline(1)
    entry = next(e for e in story.history if e.actor == "li")
    assert entry.data["via"] == "link"
    if fields["do"] == "snooze 15":
        assert entry.data["until_ms"] == one.at.now + 15 * MINUTE
    if fields["do"] == "resolve":
        assert entry.data["false_positive"] is True
    assert STATE.findall(await one.page(one.token()))


async def test_the_buttons_are_those_that_the_state_allows(tmp_path: Path) -> None:
    one = await phone(tmp_path)
    text = await one.page(one.token())
    buttons = re.findall(r'name="do" value="([^"]+)"', text)
    # its policy allows 30 minutes
    assert buttons == ["ack", "snooze 15", "resolve", "escalate", "assign", "comment"]
    assert "Pages the next step at once: wang" in text
    await one.at.act(Verb.ACK, actor="wang")
    text = await one.page(one.token())
    assert STATE.findall(text) == ["Acknowledged by wang"] and "Take over from wang" in text
    assert 'value="ack"' not in text and 'value="unack"' in text
    await one.at.act(Verb.RESOLVE, actor="wang")
    text = await one.page(one.token())
    assert STATE.findall(text) == ["Closed by hand, still firing"]
    assert 'name="do"' not in text and "notifies again if it still fires" in text
    assert (await one.post(one.token(), form="x", do="ack")).status_code == 409


async def test_a_page_that_is_older_than_an_owner_takes_nothing_from_him(tmp_path: Path) -> None:
    one = await phone(tmp_path)
    form = await one.form(one.token())
    await one.at.act(Verb.ACK, actor="wang")
    late = await one.post(one.token(), form=form, do="ack")
    assert late.status_code == 409 and "wang has it meanwhile" in late.text
    assert one.incident.owner == "wang"
    assert (await one.post(one.token(), form=form, do="take")).status_code == 303
    assert one.incident.owner == "li"


async def test_to_resolve_takes_a_confirmation(tmp_path: Path) -> None:
    one = await phone(tmp_path)
    asked = await one.post(one.token(), do="resolve")
    assert asked.status_code == 200 and "<details open>" in asked.text
    assert one.incident.state == "TRIGGERED"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"do": "ack", "form": ""}, 400),
        ({"do": "ack", "form": "AAAAAAAAAAAAAAAA.1767225600000.AAAA"}, 409),
        ({"do": ""}, 400),
        ({"do": "close"}, 400),
        ({"do": "snooze"}, 400),
        ({"do": "snooze 16"}, 400),
        ({"do": "snooze 60"}, 409),  # longer than its policy allows
        ({"do": "comment", "note": "  "}, 400),
        ({"do": "assign"}, 400),
        ({"do": "assign", "to": "nobody"}, 409),
        ({"do": "unack"}, 409),
    ],
)
async def test_what_is_wrong_is_said_and_not_done(
    tmp_path: Path, fields: dict[str, str], status: int
) -> None:
    one = await phone(tmp_path)
    before = one.incident
    answer = await one.post(one.token(), None, **fields)
    assert answer.status_code == status and "Not done" in SAID.findall(answer.text)[0]
    assert one.incident is before


async def test_a_form_of_another_link_does_nothing(tmp_path: Path) -> None:
    one = await phone(tmp_path)
    form = await one.form(one.token("wang"))
    assert (await one.post(one.token("li"), form=form, do="ack")).status_code == 409
    one.at.now += 13 * HOUR
    old = await one.form(one.token())
    one.at.now += 13 * HOUR
    assert (await one.post(one.token(), form=old, do="ack")).status_code == 409
    assert one.incident.state == "TRIGGERED"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://phone.example"}, 303),
        ({"origin": "http://phone.example:80"}, 303),
        ({"origin": "null"}, 303),  # from a page that tells nobody where it is
        ({"origin": "null", "sec-fetch-site": "same-origin"}, 303),
        ({"origin": "null", "sec-fetch-site": "cross-site"}, 403),
        ({"origin": "http://127.0.0.1:4911", "host": "127.0.0.1:4911"}, 303),
        ({"origin": "http://phone.example", "host": "127.0.0.1:4911"}, 303),  # by a proxy
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://evil.example", "host": "127.0.0.1:4911"}, 403),
        ({"origin": "http://phone.example:81"}, 403),
        ({"origin": "http://phone.example.evil.example"}, 403),
        ({"origin": "http://["}, 403),
    ],
)
async def test_a_page_of_another_origin_answers_nothing(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    one = await phone(tmp_path)
    assert (await one.post(one.token(), headers, do="ack")).status_code == status
    assert one.incident.state == ("ACKED" if status == 303 else "TRIGGERED")


async def test_only_a_form_is_taken(tmp_path: Path) -> None:
    one = await phone(tmp_path)
    form = await one.form(one.token())
    async with one.client() as api:
        path = f"/links/{one.token()}"
        for sent in ({"json": {"do": "ack", "form": form}}, {"content": f"do=ack&form={form}"}):
            assert (await api.post(path, **sent)).status_code == 400
        kind = {"content-type": "application/x-www-form-urlencoded"}
        much = "&".join(f"a{n}=1" for n in range(50))
        assert (await api.post(path, content=much, headers=kind)).status_code == 400
        long = await api.post(path, content="a=" + "x" * 20_000, headers=kind)
        assert long.status_code == 413
    assert one.incident.state == "TRIGGERED"


async def test_what_is_no_link_is_answered_alike_and_not_too_often(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = await phone(tmp_path)
    right = one.token()
    uid = one.incident.uid
    wrong = [
        right[:-2] + ("AA" if right[-2:] != "AA" else "BB"),
        "x",
        one.links.token(LinkTarget(1, uid, "gone")),  # no contact of the configuration
        one.links.token(LinkTarget(1, uid, "", "gone")),
        one.links.token(LinkTarget(1, uid, "", "")),
    ]
    async with one.client() as api:
        answers = [await api.get(f"/links/{token}") for token in wrong]
        answers += [await api.post(f"/links/{token}", data={"do": "ack"}) for token in wrong]
        assert {(a.status_code, a.text) for a in answers} == {(404, answers[0].text)}
        assert (await api.get(f"/links/{wrong[0]}/runbook")).text == answers[0].text
        for _ in range(20):
            last = await api.get("/links/x")
        assert (last.status_code, last.headers["retry-after"]) == (429, "1")
        assert (await api.get(f"/links/{right}")).status_code == 200  # shuts out nobody
    async with one.client("10.0.0.8") as api:
        assert (await api.get("/links/x")).status_code == 404
    assert 20 <= caplog.text.count("wrong link refused") <= 22
    assert not any(token in caplog.text for token in (*wrong[2:], right))


async def test_a_link_ends_with_its_incident(tmp_path: Path) -> None:
    one = await phone(tmp_path)
    token, form = one.token(), await one.form(one.token())
    await one.at.hear(clears(alert(target="a:1"), one.at.now))
    text = await one.page(token)
    assert STATE.findall(text) == ["Resolved"] and '<header class="good">' in text
    assert (await one.post(token, form=form, do="ack")).status_code == 409
    await one.at.advance(2 * HOUR)
    assert 1 not in one.at.dispatcher.working.incidents
    text = await one.page(token)
    assert STATE.findall(text) == ["Over"] and "This incident is over" in text
    assert 'name="do"' not in text
    before = (await one.at.dispatcher.timeline(1)).history
    for do in (*Verb, "take", "snooze 15"):
        answer = await one.post(token, form=form, do=do, note="x", to="wang", confirm="yes")
        assert answer.status_code == 403
    assert (await one.at.dispatcher.timeline(1)).history == before


async def test_a_number_that_is_another_incidents_now_is_over(tmp_path: Path) -> None:
    one = await phone(tmp_path)
    for target in (LinkTarget(1, "0" * 16, "li"), LinkTarget(99, "0" * 16, "li")):
        token = one.links.token(target)
        text = await one.page(token)
        assert "This incident is over" in text and "EngineDown" not in text
        async with one.client() as api:
            assert (await api.post(f"/links/{token}", data={"do": "ack"})).status_code == 403
    assert one.incident.state == "TRIGGERED"


async def test_from_a_room_the_page_asks_who_it_is(tmp_path: Path) -> None:
    one = await phone(tmp_path)
    token = one.token("", "chat")
    text = await one.page(token)
    assert "Who are you?" in text and 'href="?who=li"' in text and 'name="do"' not in text
    nameless = await one.post(token, form=one.links.form(token, one.at.now), do="ack")
    assert nameless.status_code == 400
    done = await one.post(token, do="ack", who=" 王 <b>\n ")
    assert done.headers["location"] == "?done=ack&who=%E7%8E%8B%20%3Cb%3E"
    assert one.incident.owner == "王 <b>"
    text = await one.page(token, done="ack", who="王 <b>")
    assert "You answer as 王 &lt;b&gt;." in text
    assert unescape(text).count("acknowledged by 王 <b> (by a link sent to chat)") == 1


async def test_a_link_to_a_contact_is_nobody_elses(tmp_path: Path) -> None:
    one = await phone(tmp_path)
    text = await one.page(one.token(), who="wang")
    assert "wang" not in text.partition("<dl>")[0] and 'name="who"' not in text
    await one.post(one.token(), do="ack", who="wang")
    assert one.incident.owner == "li"


async def test_what_others_wrote_is_shown_and_not_run(tmp_path: Path) -> None:
    bad = '<script>alert("1")</script>\x1b[31m{{ 7 * 7 }}\u202e'
    one = await phone(tmp_path, bad)
    await one.post(one.token(), do="comment", note=bad)
    await one.at.hear(fires(alert("X", target=bad), one.at.now))
    for number in (1, 2):
        text = await one.page(one.token(number=number), who=bad, done=bad)
        assert "<script" not in text and "\x1b" not in text and "\u202e" not in text
        assert "49" not in text.partition("<dl>")[0]
        assert "&lt;script&gt;" in text


async def test_headers_keep_the_link_to_itself(tmp_path: Path) -> None:
    one = await phone(tmp_path)
    async with one.client() as api:
        answers = [
            await api.get(f"/links/{one.token()}"),
            await api.get(f"/links/{one.token()}/runbook"),
            await api.get("/links/x"),
            await api.post(f"/links/{one.token()}", headers={"origin": "http://evil.example"}),
        ]
    for answer in answers:
        headers = answer.headers
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers
        policy = headers["content-security-policy"]
        for part in ("default-src 'none'", "frame-ancestors 'none'", "form-action 'self'"):
            assert part in policy
        assert "unsafe" not in policy
    text = answers[0].text
    assert "<script" not in text and not re.search(r'\sstyle="|\son[a-z]+="', text)
    assert not re.findall(r'(?:href|action|src)="(?:/|http)', text)  # below whatever path it is


async def test_the_language_is_the_readers(tmp_path: Path) -> None:
    one = await phone(tmp_path, language="zh")
    for header, word in {
        "en-GB,en;q=0.9,zh;q=0.5": "Acknowledge",
        "zh-CN": "确认",
        "fr, de;q=0.5": "确认",
        "zh;q=0, en;q=0.1": "Acknowledge",
        "en;q=x, ;;": "确认",
        "": "确认",
    }.items():
        assert f'value="ack">{word}</button>' in await one.page(one.token(), header), header


async def test_states_have_a_word_and_a_colour(tmp_path: Path) -> None:
    one = await phone(tmp_path)
    await one.at.hear(unknown(alert(target="a:1"), one.at.now))
    text = await one.page(one.token())
    assert STATE.findall(text) == ["State unknown: no data"] and '<header class="doubt">' in text
    assert "Its state is unknown. Closing it" in text
    assert one.incident.source is Condition.UNKNOWN
    await one.at.act(Verb.SNOOZE, until_ms=one.at.now + 10 * MINUTE)
    text = await one.page(one.token())
    assert STATE.findall(text) == ["Snoozed until 08:10:00"] and '<header class="quiet">' in text
    assert "08:10:00 (10m): the snooze ends" in text


async def test_the_runbook_is_behind_the_link(tmp_path: Path) -> None:
    one = await phone(tmp_path)
    notes = (("runbook_url", "http://127.0.0.1:4911/runbooks/InferenceEngineDown"),)
    await one.at.hear(fires(replace(alert("B", target="b:1"), annotations=notes), one.at.now))
    bad = (("runbook_url", "http://127.0.0.1:4911/runbooks/../../README"),)
    await one.at.hear(fires(replace(alert("C", target="c:1"), annotations=bad), one.at.now))
    token = one.token(number=2)
    assert f'href="{token}/runbook"' in await one.page(token)
    async with one.client() as api:
        page = await api.get(f"/links/{token}/runbook")
        assert page.status_code == 200 and "# InferenceEngineDown" in page.text
        assert f'href="../{token}"' in page.text
        for number in (1, 3):
            gone = await api.get(f"/links/{one.token(number=number)}/runbook")
            assert gone.status_code == 404


async def test_what_is_clear_for_now_and_how_it_ended_have_words(tmp_path: Path) -> None:
    one = await phone(tmp_path, policy=replace(P0, resolve_hold_ms=10 * MINUTE))
    await one.at.hear(clears(alert(target="a:1"), one.at.now))
    text = await one.page(one.token())
    assert STATE.findall(text) == ["Clear now, resolved if it stays so"]
    assert "08:10:00: resolved, if it stays clear" in text and '<header class="quiet">' in text
    await one.at.hear(fires(alert("Lost", target="b:1"), one.at.now))
    await one.at.hear(unknown(alert("Lost", target="b:1"), one.at.now))
    await one.at.hear(gives_up(alert("Lost", target="b:1"), one.at.now))
    text = await one.page(one.token(number=2))
    assert STATE.findall(text) == ["Given up, state unknown"] and '<header class="doubt">' in text


@pytest.mark.parametrize(
    ("language", "word", "why"),
    [("en", "DRILL", "nothing is wrong"), ("zh", "演练", "没有发生故障")],
)
async def test_the_page_of_a_drill_says_so(
    tmp_path: Path, language: str, word: str, why: str
) -> None:
    one = await phone(tmp_path)
    drill = Drill("7f3a", Severity.P1, {}, one.at.now + HOUR, "li")
    number = await one.at.dispatcher.drills.begin(drill, one.at.now)
    text = await one.page(one.token(number=number), language=language)
    assert f"<title>[{word}] #2" in text and f"<p>{word} · P1" in text and why in text
    assert word not in await one.page(one.token(), language=language)
