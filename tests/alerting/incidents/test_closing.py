"""Closed by hand while it fires, and over before anybody could be told: what people hear."""

from dataclasses import replace
from pathlib import Path

from support.alert_events import alert, clears, fires, gives_up, removed, unknown
from support.dispatcher_setup import Floor
from support.policies import HOUR, MINUTE, SECOND, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.incident import Condition, IncidentState
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.outbox_message import Permanent, RetryAt
from tocsin_alerting.incidents.routing import InhibitRule
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.rules.alert import EventKind

DOWN = alert("EngineDown", "P0", target="a")
SLOW = alert("Slow", "P1", target="a")
INHIBIT = InhibitRule(
    (parse_matcher('alertname="EngineDown"'),),
    (parse_matcher('alertname!="EngineDown"'),),
    ("target",),
)


async def test_closed_by_hand_says_so_and_is_no_green_mail() -> None:
    one = await Floor(config()).open()
    await one.hear(fires(DOWN))
    await one.act(Verb.RESOLVE, note="known, ordered a part")
    sent = [notification for _, notification in one.arrived[2:]]
    assert {(n.reason.value, n.status, n.state) for n in sent} == {
        ("closed_by_hand", "firing", "RESOLVED")
    }
    english, chinese = MessageTemplates("en"), MessageTemplates("zh")
    assert english.subject(sent[0]).endswith("(#1) closed by hand, still firing")
    assert "closed by hand, still firing" in english.line(sent[0])
    assert "acknowledge" not in english.line(sent[0]).lower()
    for text in (english.text(sent[0]), english.html(sent[0])):
        assert "Resolved after" not in text and "#2b7a3b" not in text and "[resolved]" not in text
        assert "Somebody closed it by hand; it still fires." in text
        assert "Notifies again, if it still fires: 2026-01-01 00:15:00 UTC" in text
    assert "已手动关闭，告警仍在" in chinese.subject(sent[0])
    assert "若告警仍在，将再次通知：2026-01-01 00:15:00 UTC" in chinese.text(sent[0])


async def test_a_milder_alert_opens_again_what_still_fires_as_bad_as_it_is() -> None:
    one = await Floor(config()).open()
    await one.hear(fires(DOWN))
    await one.act(Verb.RESOLVE)
    await one.hear(fires(alert("EngineDown", "P2", target="a")))
    again = await one.dispatcher.incident(1)
    assert (again.state, again.severity, again.policy.name) == (IncidentState.TRIGGERED, "P0", "P0")


async def test_closed_by_hand_unmutes_nothing() -> None:
    one = await Floor(config(inhibit=(INHIBIT,))).open()
    await one.hear(fires(DOWN), fires(SLOW))
    assert (await one.dispatcher.incident(2)).muted
    await one.act(Verb.RESOLVE)
    await one.advance(14 * MINUTE)
    assert (await one.dispatcher.incident(2)).muted
    assert {n.title.split()[0] for _, n in one.arrived} == {"EngineDown"}
    await one.advance(2 * MINUTE)
    await one.hear(clears(DOWN))
    assert not (await one.dispatcher.incident(2)).muted


async def test_what_is_raised_again_is_as_quiet_as_what_keeps_it_quiet_by_then() -> None:
    one = await Floor(config(inhibit=(INHIBIT,))).open()
    await one.hear(fires(SLOW))
    await one.advance(MINUTE)
    await one.act(Verb.RESOLVE)
    await one.hear(fires(DOWN))
    await one.advance(HOUR)
    slow = await one.dispatcher.incident(1)
    assert slow.state is IncidentState.TRIGGERED and slow.muted
    assert one.reasons("still_firing") == []


async def test_closed_by_hand_survives_a_restart(tmp_path: Path) -> None:
    one = await Floor(config(), SqliteJournal(tmp_path / "incidents.db")).open()
    await one.hear(fires(DOWN))
    await one.act(Verb.RESOLVE)
    await one.restart(down_ms=MINUTE)
    await one.reconcile(fires(DOWN))
    await one.advance(13 * MINUTE)
    assert (await one.dispatcher.incident(1)).state is IncidentState.RESOLVED
    await one.advance(MINUTE)
    assert one.reasons("still_firing") == [(15 * MINUTE, "li"), (15 * MINUTE, "chat")]


async def test_closed_by_hand_and_over_while_down_is_not_raised_again(tmp_path: Path) -> None:
    one = await Floor(config(), SqliteJournal(tmp_path / "incidents.db")).open()
    await one.hear(fires(DOWN))
    await one.act(Verb.RESOLVE)
    await one.restart(down_ms=HOUR)
    await one.advance(5 * SECOND)
    assert not one.reasons("still_firing"), "the rules have not spoken yet"
    await one.reconcile()
    await one.deliver()
    assert {who for _, who in one.reasons("resolved")} == {"li", "chat"}


async def test_over_before_the_channel_came_back_is_one_message() -> None:
    one = await Floor(config()).open()
    one.answers["chat"] = lambda _: RetryAt("connection refused")
    await one.hear(fires(DOWN))
    await one.advance(3 * MINUTE)
    await one.hear(clears(DOWN))
    await one.advance(MINUTE)
    one.answers.clear()
    await one.advance(10 * MINUTE)
    (late,) = [n for _, n in one.arrived if n.receiver == "chat"]
    assert (late.reason.value, late.status) == ("fired_and_resolved", "resolved")
    assert MessageTemplates("en").subject(late).endswith("fired 00:00, resolved 00:03")
    assert MessageTemplates("zh").subject(late).endswith("触发 00:00，恢复 00:03")
    assert "before a notification reached you" in MessageTemplates("en").text(late)
    assert [why for _, why, who in one.told if who == "li"] == ["opened", "resolved"]


async def test_a_page_on_its_way_when_it_was_over_and_then_lost() -> None:
    one = await Floor(config()).open()
    await one.dispatcher.handle([fires(DOWN)], one.now)
    pages = await one.dispatcher.claim(one.now)
    await one.dispatcher.handle([clears(DOWN)], one.now)
    for page in pages:
        await one.dispatcher.delivered(page, RetryAt("timeout"), one.now)
    await one.deliver()
    assert {why for _, why, _ in one.told} == {"fired_and_resolved"}


async def test_who_refused_for_good_and_who_was_never_tried_hear_nothing() -> None:
    one = await Floor(config()).open()
    one.answers["chat"] = lambda _: Permanent("no such channel", final=True)
    await one.hear(fires(DOWN))
    one.answers.clear()
    await one.hear(clears(DOWN))
    await one.hear(fires(SLOW), clears(SLOW))  # over within its group wait
    assert {who for _, _, who in one.told} == {"li"}


async def test_each_try_is_a_line_in_the_history() -> None:
    one = await Floor(config()).open()
    one.answers["chat"] = lambda _: RetryAt("connection refused")
    await one.hear(fires(DOWN))
    await one.advance(4 * SECOND)
    tries = [
        e.data for e in (await one.dispatcher.timeline(1)).history if e.event == "delivery_retry"
    ]
    assert [(e["attempt"], e["receiver"], e["error"]) for e in tries] == [
        (n, "chat", "connection refused") for n in (1, 2, 3)
    ]
    assert tries[0]["next_at_ms"] - one.now == -3 * SECOND


async def test_closed_by_hand_does_not_arrive_after_the_end() -> None:
    one = await Floor(config()).open()
    await one.hear(fires(DOWN))
    one.answers["phone"] = lambda _: RetryAt("busy")
    await one.act(Verb.RESOLVE)
    one.answers.clear()
    await one.hear(clears(DOWN))
    await one.advance(MINUTE)
    assert [why for _, why, who in one.told if who == "li"] == ["opened", "resolved"]


async def test_one_alert_given_up_and_the_other_over_is_given_up() -> None:
    tier = alert("EngineDown", "P1", target="a")
    one = await Floor(config()).open()
    await one.hear(fires(DOWN), fires(tier))
    await one.hear(unknown(DOWN))
    await one.hear(gives_up(DOWN))
    assert (await one.dispatcher.incident(1)).source is Condition.FIRING
    await one.hear(clears(tier))
    assert {who for _, who in one.reasons("given_up")} == {"li", "chat"}
    assert one.reasons("resolved") == []
    await one.hear(fires(DOWN))
    assert {who for _, who in one.reasons("reopened")} == {"li", "chat"}


async def test_closed_by_hand_and_then_without_its_rule_is_not_over() -> None:
    one = await Floor(config()).open()
    await one.hear(fires(DOWN))
    await one.act(Verb.RESOLVE)
    await one.hear(removed(DOWN))
    await one.advance(HOUR)
    assert {who for _, who in one.reasons("unwatched")} == {"li", "chat"}
    assert one.reasons("resolved") == one.reasons("still_firing") == []


async def test_without_its_rule_it_inhibits_nothing_and_may_come_back(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "incidents.db")
    one = await Floor(config(inhibit=(INHIBIT,)), journal).open()
    await one.hear(fires(DOWN), fires(SLOW))
    await one.hear(removed(DOWN))
    assert not (await one.dispatcher.incident(2)).muted
    await one.restart()
    assert (await one.dispatcher.incident(1)).members[
        DOWN.fingerprint
    ].source is Condition.UNWATCHED
    await one.hear(fires(DOWN))
    assert {who for _, who in one.reasons("reopened")} == {"li", "chat"}


async def test_what_another_rule_still_doubts_is_not_given_up() -> None:
    one = await Floor(config()).open()
    elsewhere = replace(fires(DOWN), origin="rules;other.yml;o/EngineDown/0")
    await one.hear(fires(DOWN), elsewhere)
    await one.hear(unknown(DOWN), replace(elsewhere, kind=EventKind.UNKNOWN))
    await one.hear(gives_up(DOWN))
    assert (await one.dispatcher.incident(1)).source is Condition.UNKNOWN
    await one.hear(gives_up(DOWN))
    assert (await one.dispatcher.incident(1)).is_open
    await one.hear(replace(elsewhere, kind=EventKind.CLEAR))
    assert one.reasons("given_up") == [] and len(one.reasons("resolved")) == 2
