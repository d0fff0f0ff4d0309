from dataclasses import replace
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import pytest

from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.notify.wording import LANGUAGES, Wording

EN, ZH = Wording("en"), Wording("zh", ZoneInfo("Asia/Shanghai"))


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_subjects() -> None:
    assert EN.subject(notification()) == "[P0] InferenceEngineDown 127.0.0.1:8000 (#42)"
    assert EN.subject(resolved()) == "[P0 resolved] InferenceEngineDown 127.0.0.1:8000 (#42)"
    assert ZH.subject(resolved()) == "[P0 已恢复] InferenceEngineDown 127.0.0.1:8000 (#42)"
    escalated = notification(reason=Reason.ESCALATED, not_recorded=True)
    title = "InferenceEngineDown 127.0.0.1:8000 (#42)"
    assert EN.subject(escalated) == f"[P0] [NOT RECORDED] {title} escalated"


def test_the_text_says_all_that_a_woken_person_needs() -> None:
    text = EN.text(notification())
    for part in (
        "P0: InferenceEngineDown 127.0.0.1:8000",
        "Incident #42, since 2026-01-01 00:00:00 UTC, for 2s",
        "The engine at 127.0.0.1:8000 does not answer",
        "Look at the worker's log.",
        "value 0, since 2026-01-01 00:00:00 UTC",
        "instance=gpu-1",
        "Runbook: https://runbooks.example/InferenceEngineDown",
        "Also told: hook",
        "Next, if nobody answers: li by email at 2026-01-01 00:15:02 UTC",
        "Acknowledge: alertctl ack 42",
        "http://127.0.0.1:4911",
    ):
        assert part in text
    assert "NOT RECORDED" not in text and "severity=" not in text


def test_local_time_comes_with_utc() -> None:
    assert "2026-01-01 08:00:00 +0800 (00:00:00 UTC)" in ZH.text(notification())


def test_resolved_asks_for_nothing() -> None:
    text = EN.text(resolved())
    assert "lasted 5m" in text and "It is over." in text
    assert "alertctl ack" not in text and "Next" not in text


def test_who_acknowledged_and_why() -> None:
    text = EN.text(notification(reason=Reason.ACKED, actor="li", note="restarting it"))
    assert "Somebody has taken it. By: li. Note: restarting it" in text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words_in_every_language(language: str, reason: Reason) -> None:
    wording, page = Wording(language), notification(reason=reason, not_recorded=True)
    for text in (wording.line(page), wording.subject(page), wording.text(page)):
        assert "42" in text and ("NOT RECORDED" in text or "未入库" in text)
    assert Tags(wording.html(page)).open == []


def test_html_escapes_what_labels_hold_and_links_only_to_http() -> None:
    evil = replace(
        ENGINE_DOWN,
        labels={"alertname": "a", "x": "<script>alert(1)</script>"},
        annotations={
            "summary": "<img src=x onerror=alert(1)>",
            "runbook_url": "javascript:alert(1)",
            "dashboard_url": "https://g.example/d?a=1&b=2",
        },
    )
    tags = Tags(EN.html(notification(title='"><b>', alerts=(evil,), external_url="ftp://x")))
    assert not {"script", "img"} & set(tags.tags)
    assert tags.links == ["https://g.example/d?a=1&b=2"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_control_characters_never_reach_a_line(language: str) -> None:
    page = notification(title="a\r\nBcc: x@y\x1b[31m\u2028b")
    for line in (Wording(language).subject(page), Wording(language).line(page)):
        assert line.isprintable() and "a Bcc: x@y" in line


def test_a_storm_of_alerts_is_cut_and_counted() -> None:
    many = tuple(replace(ENGINE_DOWN, fingerprint=str(n)) for n in range(50))
    text = EN.text(notification(alerts=many, truncated_alerts=7))
    assert text.count("* The engine") == 20 and "... and 37 more" in text
    long = replace(ENGINE_DOWN, annotations={"summary": "x" * 100_000})
    assert len(EN.text(notification(alerts=(long,)))) < 10_000
    assert len(EN.subject(notification(title="y" * 10_000))) == 200


def test_a_clock_that_ran_backwards_gives_no_negative_time() -> None:
    assert "for 0s" in EN.text(notification(at_ms=NEW_YEAR_MS - 5_000))
