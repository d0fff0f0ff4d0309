import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from tocsin_alerting.annotations import OWN_RUNBOOKS
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Evidence, Notification
from tocsin_alerting.notify.message_templates import MessageTemplates, link
from tocsin_alerting.notify.signed_links import SignedLinks

EN, ZH = (
    MessageTemplates("en", hostname="gpu-1"),
    MessageTemplates("zh", ZoneInfo("Asia/Shanghai"), "gpu-1"),
)


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


SUMMARY = "The engine at 127.0.0.1:8000 does not answer"


def test_subjects_say_where_and_what_and_how_it_stands() -> None:
    assert EN.subject(notification()) == f"[P0] gpu-1: {SUMMARY} (#42)"
    assert EN.subject(resolved()) == f"[P0 resolved] gpu-1: {SUMMARY} (#42) after 5m"
    assert ZH.subject(resolved()) == f"[P0 已恢复] gpu-1：{SUMMARY} (#42) 历时 5m"
    escalated = notification(reason=Reason.ESCALATED, not_recorded=True)
    assert EN.subject(escalated) == f"[P0] [NOT RECORDED] gpu-1: {SUMMARY} (#42) escalated"
    acked = notification(reason=Reason.ACKED, actor="li", state="ACKED")
    assert EN.subject(acked) == f"[P0 acknowledged] gpu-1: {SUMMARY} (#42)"
    unknown = notification(reason=Reason.UNKNOWN)
    assert EN.subject(unknown) == f"[P0 state unknown] gpu-1: {SUMMARY} (#42)"


GPU = replace(
    ENGINE_DOWN,
    labels={
        "alertname": "GPUMemoryHigh",
        "gpu": "3",
        "modelName": "NVIDIA H100",
        "UUID": "GPU-1a2b3c4d-0000-1111-2222-333344445555",
        "instance": "box:4911",
    },
    annotations={},
    value=0.998,
)


def test_a_subject_has_no_uuid_and_no_value_has_an_exponent() -> None:
    said = {"summary": "GPU-1a2b3c4d-0000-1111-2222-333344445555 is full."}
    page = notification(title=f"GPUMemoryHigh UUID={GPU.labels['UUID']}", alerts=(GPU,))
    assert EN.subject(page) == "[P0] box: GPUMemoryHigh (#42)"
    page = replace(page, alerts=(replace(GPU, annotations=said),))
    assert EN.subject(page) == "[P0] box: GPU-1a2b3c4d… is full (#42)"
    text = EN.text(page)
    assert "Value: 0.998" in text and "GPU: 3 (NVIDIA H100)" in text and "Machine: box" in text


def test_a_rule_without_a_summary_is_told_by_its_description_or_message() -> None:
    both = {"description": "It is hot.\nVery.", "message": "Older text."}
    page = notification(alerts=(replace(GPU, annotations=both),))
    assert EN.subject(page) == "[P0] box: It is hot (#42)"
    assert "Very." in EN.text(page) and "Older text." in EN.text(page)
    page = notification(alerts=(replace(GPU, annotations={"message": "Older text."}),))
    assert EN.subject(page) == "[P0] box: Older text (#42)"
    assert EN.text(page).startswith("P0: Older text.")


FAILED = "<error expanding template: error executing template __alert_X: nil>"


def test_a_summary_that_cannot_be_expanded_is_no_headline() -> None:
    said = {"summary": FAILED, "description": "It is hot.\nVery."}
    page = notification(alerts=(replace(GPU, annotations=said),))
    assert EN.subject(page) == "[P0] box: It is hot (#42)"
    assert EN.line(page).count("It is hot") == 1 and FAILED not in EN.line(page)
    assert EN.text(page).startswith("P0: It is hot.") and FAILED in EN.text(page)
    assert "Very." in EN.text(page)
    page = notification(alerts=(replace(GPU, annotations={"summary": FAILED}),))
    why = "GPUMemoryHigh: the template of its summary failed"
    assert EN.subject(page) == f"[P0] box: {why} (#42)"
    assert EN.text(page).startswith(f"P0: {why}\n") and FAILED in EN.text(page)
    assert ZH.subject(page) == "[P0] box：GPUMemoryHigh：摘要模板展开失败 (#42)"


# Machine -> what a summary says of others, and of this one.
NAMES = {
    "gpu-1": (
        "gpu-12 gpu-1-a gpu-1.lab my-gpu-1 x.gpu-1 GPU-1 gpu-1_b gpu-11".split(),
        ["gpu-1", "gpu-1: hot", "on gpu-1.", "gpu-1:9100", "(gpu-1)", "gpu-1上的引擎", "引擎gpu-1"],
    ),
    "10.0.0.1": (["10.0.0.12", "110.0.0.1", "10.0.0.1.2"], ["10.0.0.1:9100", "10.0.0.1"]),
    "2001:db8::7": (
        ["2001:db8::71", "2001:db8::7:1", "12001:db8::7"],
        ["[2001:db8::7]:9100", "2001:db8::7 is hot"],
    ),
}


@pytest.mark.parametrize("machine", NAMES)
def test_a_subject_names_the_machine_unless_the_summary_has_its_whole_name(machine: str) -> None:
    others, own = NAMES[machine]

    def subject(templates: MessageTemplates, summary: str) -> str:
        labels = {**GPU.labels, "instance": machine}
        one = replace(GPU, labels=labels, annotations={"summary": summary})
        return templates.subject(notification(alerts=(one,)))

    for name in others:
        assert subject(EN, name) == f"[P0] {machine}: {name} (#42)"
        assert subject(ZH, f"引擎{name}慢") == f"[P0] {machine}：引擎{name}慢 (#42)"
    for name in own:
        assert subject(EN, name) == f"[P0] {name.rstrip('.')} (#42)"
    cut = "x" * (108 - len(machine)) + f" {machine}23 is slow"
    assert subject(EN, cut).startswith(f"[P0] {machine}: xxx")


INSTANCES = {
    "0.0.0.0:4911": "gpu-1",
    "127.0.0.1:4911": "gpu-1",
    "": "gpu-1",
    "[::1]:4911": "gpu-1",
    "127.1:4911": "gpu-1",
    "localhost": "gpu-1",
    "gpu-7": "gpu-7",
    "gpu-7.example.com:9100": "gpu-7.example.com",
    "[2001:db8::7]:9100": "2001:db8::7",
    "2001:db8::7": "2001:db8::7",
}


@pytest.mark.parametrize("instance", INSTANCES)
def test_the_machine_has_its_own_name(instance: str) -> None:
    one = replace(ENGINE_DOWN, labels={**ENGINE_DOWN.labels, "instance": instance})
    assert f"Machine: {INSTANCES[instance]}\n" in EN.text(notification(alerts=(one,)))


def test_the_text_says_all_that_a_woken_person_needs() -> None:
    labels = {**ENGINE_DOWN.labels, "model_name": "Qwen2.5-7B"}
    text = EN.text(notification(alerts=(replace(ENGINE_DOWN, labels=labels),)))
    for part in (
        f"P0: {SUMMARY}\n",
        "Machine: gpu-1\n",
        "Model: Qwen2.5-7B\n",
        "Engine: 127.0.0.1:8000\n",
        "Severity: P0, critical\n",
        "Since: 2026-01-01 00:00:00 UTC, for 2s\n",
        "Look at the worker's log.",
        "Incident: #42 InferenceEngineDown 127.0.0.1:8000\n",
        "Runbook: https://runbooks.example/InferenceEngineDown",
        "Also notified: hook",
        "If nobody acknowledges: li by email, at 2026-01-01 00:15:02 UTC",
        "Acknowledge on gpu-1: alertctl ack 42",
        "http://127.0.0.1:4911",
    ):
        assert part in text, part
    assert "NOT RECORDED" not in text and "severity=" not in text


@pytest.mark.parametrize(("templates", "label", "colon"), [(EN, "Model", ": "), (ZH, "模型", "：")])
def test_the_model_of_an_engine_that_is_down_comes_from_the_annotation(
    templates: MessageTemplates, label: str, colon: str
) -> None:
    def page(annotation: str, **labels: str) -> Notification:
        notes = {**ENGINE_DOWN.annotations, "model_name": annotation}
        alert = replace(ENGINE_DOWN, annotations=notes, labels={**ENGINE_DOWN.labels, **labels})
        return notification(alerts=(alert,))

    assert f"\n{label}{colon}Qwen2.5-7B\n" in templates.text(page("Qwen2.5-7B"))
    assert re.search(rf">{label}</td><td[^>]*>Qwen2.5-7B</td>", templates.html(page("Qwen2.5-7B")))
    assert f"\n{label}{colon}served\n" in templates.text(page("Qwen2.5-7B", model_name="served"))
    for message in (templates.text(page("")), templates.html(page(""))):
        assert label not in message


def test_it_began_when_the_condition_did_and_not_when_the_rule_had_waited() -> None:
    waited = replace(ENGINE_DOWN, active_at_ms=NEW_YEAR_MS - 60_000)
    page = notification(alerts=(waited,), began_at_ms=NEW_YEAR_MS - 60_000)
    assert "Since: 2025-12-31 23:59:00 UTC, for 1m2s" in EN.text(page)
    over = resolved(alerts=(waited,), began_at_ms=NEW_YEAR_MS - 60_000)
    lasted = "Duration: 6m, from 2025-12-31 23:59:00 UTC to 2026-01-01 00:05:00 UTC"
    assert lasted in EN.text(over) and "Resolved after 6m." in EN.text(over)


def test_how_it_stands_is_said_once_and_the_commands_say_where_they_run() -> None:
    unknown, owned = (
        notification(reason=reason, state=state)
        for reason, state in ((Reason.UNKNOWN, "TRIGGERED"), (Reason.ACK_REMIND, "ACKED"))
    )
    heads = {EN: ("P0: Resolved after 5m.", "P0: State unknown")}
    heads[ZH] = ("P0：告警已恢复，历时 5m。", "P0：状态未知")
    for templates, (over, lost) in heads.items():
        assert templates.text(resolved()).splitlines()[0] == over
        assert templates.text(unknown).splitlines()[0] == lost
    assert ">P0 · gpu-1 · #42</div>" in EN.html(resolved())
    assert "Fixed? Close it on gpu-1: alertctl resolve 42" in EN.text(owned)
    assert "在 gpu-1 上确认：alertctl ack 42" in ZH.text(unknown)
    assert "Acknowledge on gpu-1</td>" in EN.html(unknown)
    assert "Acknowledge: alertctl ack 42" in MessageTemplates().text(unknown)


def test_local_time_comes_with_utc() -> None:
    assert "2026-01-01 08:00:00 +0800 (00:00:00 UTC)" in ZH.text(notification())


def test_resolved_asks_for_nothing_and_says_what_it_was() -> None:
    text = EN.text(resolved(note="clear"))
    assert f"It was: {SUMMARY}" in text and "clear" not in text
    assert "alertctl" not in text and "If nobody" not in text and "value" not in text


def test_what_ends_without_being_over_does_not_say_that_it_is() -> None:
    why = "unknown for 1d, given up: node gpu-1 is dead"
    lost = notification(reason=Reason.GIVEN_UP, state="RESOLVED", note=why)
    assert "given up, state unknown" in EN.subject(lost) and "resolved" not in EN.subject(lost)
    assert "Resolved after" not in EN.text(lost) and "node gpu-1 is dead" in EN.text(lost)


@pytest.mark.parametrize(
    ("templates", "tag", "head"),
    [
        (
            EN,
            "[P0 no longer watched]",
            "Its rule or its source was removed or changed after 5m.",
        ),
        (ZH, "[P0 不再监控]", "5m 后规则或数据来源已被移除或修改。"),
    ],
)
def test_without_a_rule_it_is_not_over(templates: MessageTemplates, tag: str, head: str) -> None:
    lost = resolved(reason=Reason.UNWATCHED, note="rule g/Down/0 is no longer in r.yml")
    assert templates.subject(lost).startswith(tag) and SUMMARY in templates.subject(lost)
    for said in (templates.text(lost), templates.html(lost), templates.line(lost)):
        assert not {word for word in ("resolved", "Resolved", "已恢复，") if word in said}
    for said in (templates.text(lost), templates.html(lost)):
        assert head in said and "#2b7a3b" not in said and "no longer in r.yml" in said


def test_acknowledged_is_calm_and_asks_nobody_to_acknowledge() -> None:
    page = notification(reason=Reason.ACKED, actor="li", note="restarting it", state="ACKED")
    text, html = EN.text(page), EN.html(page)
    assert text.startswith("P0: Acknowledged by li\n") and "restarting it" in text
    for said in (text, html):
        assert "alertctl ack" not in said and "alertctl resolve 42" in said
    red = "#b00020"
    assert red in EN.html(notification()) and red not in html
    assert red not in EN.html(resolved()) and red not in EN.html(
        replace(page, reason=Reason.SLO_BREACH)
    )


@pytest.mark.parametrize("reason", [Reason.SLO_BREACH, Reason.UNKNOWN, Reason.ACK_REMIND])
def test_what_somebody_owns_is_not_to_be_acknowledged_again(reason: Reason) -> None:
    owned = notification(reason=reason, state="ACKED")
    assert "alertctl ack" not in EN.text(owned) and "alertctl resolve 42" in EN.html(owned)
    open_still = notification(reason=reason, state="TRIGGERED")
    assert "alertctl ack 42" in EN.text(open_still) and "alertctl ack 42" in EN.html(open_still)


def test_the_tiers_of_a_symptom_are_told_once() -> None:
    tiers = [replace(ENGINE_DOWN, labels={**ENGINE_DOWN.labels, "severity": s}) for s in "123"]
    page = notification(alerts=tuple(tiers))
    assert EN.text(page).count("Look at the worker's log.") == 1
    assert "more" not in EN.subject(page)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words_in_every_language(language: str, reason: Reason) -> None:
    templates, page = MessageTemplates(language), notification(reason=reason, not_recorded=True)
    for text in (templates.line(page), templates.subject(page), templates.text(page)):
        assert "42" in text and ("NOT RECORDED" in text or "未记录" in text)
    assert Tags(templates.html(page)).open == []


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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://g.example/d?a=1&b=%20#c", "https://g.example/d?a=1&b=%20#c"),
        ("https://li:pw@g.example:3000/d", "https://li:pw@g.example:3000/d"),
        ("http://[::1]:3000/d(1)", "http://[::1]:3000/d(1)"),
        ("https://g.example/@all?a=@room#@here", "https://g.example/%40all?a=%40room#%40here"),
        (
            'https://g.example/"><b>[x]|`\\{y}',
            "https://g.example/%22%3E%3Cb%3E%5Bx%5D%7C%60%5C%7By%7D",
        ),
        ("https://g.example/显卡", "https://g.example/%E6%98%BE%E5%8D%A1"),
        ("https://g.example/" + "a" * 1982, "https://g.example/" + "a" * 1982),
        ("https://g.example/" + "a" * 1983, ""),
        ("https://g.example/" + "显" * 300, ""),
        ("http://", ""),
        ("https:foo", ""),
        ("http://g.example:x/", ""),
        ("http://[::1", ""),
        ("https://g.example<!channel>/", ""),
        ("https://g.example/a b", ""),
        ("ftp://g.example/", ""),
    ],
)
def test_a_link_is_one_for_every_service_or_none(url: str, shown: str) -> None:
    """Slack and others refuse the whole message for the sake of a link."""
    assert link(url) == shown


@pytest.mark.parametrize("language", ["en", "zh"])
def test_control_characters_never_reach_a_line(language: str) -> None:
    odd = "a\r\nBcc: x@y\x1b[31m\u2028b"
    templates = MessageTemplates(language, hostname="h\r\nBcc: z@y")
    labels = {"alertname": odd, "target": odd, "model_name": odd, "gpu": odd, "instance": odd}
    said = replace(ENGINE_DOWN, labels=labels, annotations={"summary": odd})
    for alerts in ((), (said,), (replace(said, annotations={}),)):
        page = notification(title=odd, alerts=alerts)
        for line in (templates.subject(page), templates.line(page)):
            assert line.isprintable() and "a Bcc: x@y" in line


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_label_or_note_begins_a_line_of_the_text(language: str) -> None:
    """A line that begins at the margin is ours: `Acknowledge:`, `Runbook:`."""
    odd = "a\nAcknowledge: curl evil.example\r\nRunbook: x"
    labels = {name: odd for name in ("alertname", "target", "model_name", "gpu", "instance", "z")}
    notes = {"summary": odd, "description": odd, "runbook_url": odd}
    forged = replace(ENGINE_DOWN, labels=labels, annotations=notes)
    plain = replace(ENGINE_DOWN, labels={**labels, "z": "b"}, annotations=notes)
    for alerts in ((forged, plain), (replace(forged, annotations={}),), ()):
        for page in (
            notification(title=odd, alerts=alerts, others=(odd,), next_to=(odd,)),
            notification(title=odd, alerts=alerts, actor=odd, note=odd, reason=Reason.ACKED),
        ):
            lines = MessageTemplates(language).text(page).splitlines()
            assert not [one for one in lines if one.startswith(("Acknowledge: curl", "Runbook: x"))]
            assert any("curl evil.example" in one for one in lines)


def test_a_storm_of_alerts_is_cut_and_counted() -> None:
    labels = [{**ENGINE_DOWN.labels, "gpu": str(n)} for n in range(50)]
    many = tuple(replace(ENGINE_DOWN, labels=one) for one in labels)
    text = EN.text(notification(alerts=many, truncated_alerts=7))
    assert text.count("* The engine") == 20 and "... and 37 more" in text
    long = replace(ENGINE_DOWN, annotations={"summary": "x" * 100_000})
    assert len(EN.text(notification(alerts=(long,)))) < 10_000
    for page in (notification(alerts=(long,)), notification(title="y" * 10_000, alerts=())):
        assert len(EN.subject(page)) <= 200 and EN.subject(page).endswith("… (#42)")


def test_a_clock_that_ran_backwards_gives_no_negative_time() -> None:
    for page in (EN.text, EN.html):
        said = page(notification(at_ms=NEW_YEAR_MS - 5_000))
        assert "2026-01-01 00:00:00 UTC" in said and "for " not in said.partition("UTC")[2][:9]
    assert "Resolved after 0s." in EN.text(resolved(at_ms=NEW_YEAR_MS - 5_000))


@pytest.mark.parametrize("templates", [EN, ZH])
def test_a_duration_is_that_of_the_sending_and_none_where_it_just_began(
    templates: MessageTemplates,
) -> None:
    page = notification(at_ms=NEW_YEAR_MS)
    for render in (templates.text, templates.html):
        assert "0s" not in render(page, NEW_YEAR_MS)
        assert " 2m5s" in render(page, NEW_YEAR_MS + 125_000)
    assert "Resolved after 5m." in EN.text(resolved(), NEW_YEAR_MS + 900_000)


def test_a_value_that_says_nothing_and_our_own_jobs_are_left_out() -> None:
    labels = {**ENGINE_DOWN.labels, "job": "llm", "zone": "a"}
    down = replace(ENGINE_DOWN, labels=labels)
    second = replace(down, labels={**labels, "zone": "b"})
    for page in (EN.text, EN.html):
        said = page(notification(alerts=(down, second)))
        assert "value" not in said and "job=" not in said and "zone=a" in said
        assert page(notification(alerts=(replace(down, value=0.5),))).count("0.5") == 1
        theirs = replace(down, labels={**labels, "job": "api"})
        assert "job=api" in page(notification(alerts=(theirs,)))


def test_the_commands_find_an_agent_elsewhere() -> None:
    there = "alertctl --url http://127.0.0.1:21011"
    templates = MessageTemplates(alertctl=there)
    owned = notification(reason=Reason.ACK_REMIND, state="ACKED")
    for page in (templates.text, templates.html, templates.line):
        assert f"{there} ack 42" in page(notification())
    for page in (templates.text, templates.html):
        assert f"{there} resolve 42" in page(owned)


def test_the_next_one_hears_who_did_not_answer() -> None:
    before = (("li", NEW_YEAR_MS - 900_000), ("<wang>", NEW_YEAR_MS - 60_000))
    page = notification(reason=Reason.ESCALATED, unanswered=before)
    assert (
        "Nobody acknowledged at the previous step."
        " li was notified at 2025-12-31 23:45 and did not acknowledge."
        " <wang> was notified at 2025-12-31 23:59 and did not acknowledge.\n"
    ) in EN.text(page)
    assert "li was notified at 2025-12-31 23:45" in EN.html(page)
    assert "&lt;wang&gt; was notified at" in EN.html(page)
    assert "上一步无人确认。 li 于 07:45 收到通知，未确认。" in ZH.text(page)


STORM = {
    "incidents": 37,
    "firing": 30,
    "lost": 0,
    "severities": [["P0", 3], ["P2", 34]],
    "labels": [
        {"name": "alertname", "values": [["Slow", 34], ["Down", 3]], "others": 0},
        {"name": "target", "values": [["a\nb", 2], ["c", 1]], "others": 5},
    ],
}


def test_a_summary_of_many_says_how_many_of_what() -> None:
    page = notification(counts=STORM, incidents=tuple(range(43, 80)), title="TocsinIncidentStorm")
    assert EN.subject(page).endswith("37 incidents opened at once: P0 3, P2 34 (#42)")
    text = EN.text(page)
    assert "Still firing: 30 of 37" in text
    assert "alertname: Slow (34), Down (3)\n" in text
    assert "target: a b (2), c (1) and 5 more\n" in text
    assert "Incidents: #43, #44," in text and "#62, …" in text
    assert "alertctl ack 42" in text
    assert "InferenceEngineDown" not in text
    html = EN.html(page)
    assert "Slow (34), Down (3)" in html and Tags(html).open == []


def test_a_summary_in_chinese() -> None:
    page = notification(counts=STORM, incidents=(43, 44), reason=Reason.STORM_GREW)
    text = MessageTemplates("zh").text(page)
    assert "同时触发 37 个事件：P0 3、P2 34" in text
    assert "仍在告警：30 / 37" in text and "所含事件：#43、#44" in text


def test_a_message_leads_to_where_it_is_answered(tmp_path: Path) -> None:
    links = SignedLinks("https://phone.example/t")
    links.begin(tmp_path)
    english = MessageTemplates("en", hostname="gpu-1", links=links)
    chinese = MessageTemplates("zh", hostname="gpu-1", links=links)
    page = notification(contact="li")
    url = links.url(page)
    assert f"Look and answer: {url}\n" in english.text(page)
    assert f"查看并处理：{url}\n" in chinese.text(page)
    assert url in Tags(english.html(page)).links
    over = resolved(contact="li")
    assert f"Look: {links.url(over)}\n" in english.text(over)
    assert links.url(over) in Tags(chinese.html(over)).links
    # a log is read by many, and a subject by whoever sees the screen
    assert "/links/" not in english.line(page) + english.subject(page)
    assert "/links/" not in EN.text(page) + EN.html(page)
    assert "/links/" not in english.text(notification(incident=0, contact="li"))


DIGEST = {
    "digest": [
        {
            "incident": 43 + n,
            "severity": "P3",
            "reason": reason,
            "text": "Disk\nfull",
            "since_ms": NEW_YEAR_MS - 120_000,
            "at_ms": NEW_YEAR_MS - 60_000,
        }
        for n, reason in enumerate(("opened", "fired_and_resolved", "unwatched"))
    ],
    "over": 2,
    "items": 5,
}


def test_a_digest_has_a_line_for_each_and_says_what_is_over() -> None:
    page = notification(
        counts=DIGEST, incident=0, incidents=(43, 44, 45), reason=Reason.DIGEST, severity="P3"
    )
    assert EN.subject(page) == "[P3 digest] 3 firing, 2 over (#43, #44, #45)"
    first = EN.text(page) + EN.html(page) + str(dict(EN.parts(page).lines))
    ours = [f"{label}{end}" for label in ("Engine", "Machine", "Since") for end in (":", "<", "'")]
    assert not any(label in first for label in ours)  # of one alone
    text = EN.text(page)
    assert "* [P3] Disk full (#43), since 2025-12-31 23:58\n" in text
    assert "* [P3 resolved] Disk full (#44), from 2025-12-31 23:58 to 2025-12-31 23:59\n" in text
    assert "* [P3 no longer watched] Disk full (#45)" in text
    assert "... and 2 more" in text and "Acknowledge" not in text
    assert "Disk full (#44)" in EN.html(page) and Tags(EN.html(page)).open == []
    chinese = MessageTemplates("zh").text(page)
    assert "3 个仍在告警，2 个已结束" in chinese and "[P3 已恢复] Disk full (#44)" in chinese


def test_our_runbook_is_linked_behind_the_link_that_needs_no_token(tmp_path: Path) -> None:
    base = "https://phone.example/t"
    links = SignedLinks(base)
    links.begin(tmp_path)
    signed = MessageTemplates("en", links=links)

    def of(*urls: str) -> Notification:
        alerts = tuple(replace(ENGINE_DOWN, annotations={"runbook_url": url}) for url in urls)
        labelled = tuple(
            replace(alert, labels={**alert.labels, "n": str(n)}) for n, alert in enumerate(alerts)
        )
        return notification(alerts=labelled, external_url=base)

    ours, plain = f"{OWN_RUNBOOKS}HostCpuHigh", f"{base}/runbooks/HostCpuHigh"
    for page in (of(ours), of(ours, ours)):
        behind = f"{links.url(page)}/runbook"
        assert f"Runbook: {behind}\n" in signed.text(page)
        assert behind in Tags(signed.html(page)).links
        assert plain not in signed.text(page) + signed.html(page)
        assert f"Runbook: {plain}\n" in MessageTemplates("en").text(page)  # no link, no signature
    other = f"{OWN_RUNBOOKS}HostMemoryHigh"  # behind the link there is but one
    theirs = "https://wiki.example/runbooks/x"
    for page in (of(ours, other), of(theirs), of("")):
        assert "/runbook\n" not in signed.text(page)
    assert theirs in signed.text(of(theirs)) and plain in signed.text(of(ours, other))


KNOWN = Evidence(
    value="92%",
    limit="> 85%",
    numbers=(("queue", "14"), ("Users <b>", "3")),
    chart=b"a PNG",
    chart_from_ms=NEW_YEAR_MS - 3_600_000,
    chart_until_ms=NEW_YEAR_MS,
    lowest="40%",
    highest="92%",
)


def test_value_and_threshold_and_the_numbers_of_then_are_told_with_their_units() -> None:
    page = notification(evidence=KNOWN)
    text = EN.text(page)
    assert "\nValue: 92% (threshold > 85%)\n" in text
    assert "\nWhen it fired, at 00:00:\n  Queue: 14\n  Users <b>: 3\n" in text
    chinese = ZH.text(page)
    assert "\n数值：92% (阈值 > 85%)\n" in chinese and "\n  排队请求：14\n" in chinese
    html = EN.html(page)
    assert "92% (threshold &gt; 85%)" in html and "Users &lt;b&gt;" in html
    assert "From 2025-12-31 23:00 to 00:00: lowest 40%, highest 92%." in html


def test_what_is_over_shows_its_chart_and_no_value_of_now() -> None:
    over = resolved(evidence=KNOWN)
    assert "92%" not in EN.text(over) and "When it fired" not in EN.text(over)
    html = EN.html(over)
    assert "Queue" not in html and 'src="cid:chart-' in html
    assert "<img" not in EN.html(resolved()) + EN.html(notification())


COLOURS = re.compile(r"(?<![-\w])(background|color):\s*(#[0-9a-f]{6})")
PAPER = {"light": "#ffffff", "dark": "#16181c"}


def _luminance(colour: str) -> float:
    """As WCAG 2.1 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("severity", ["P0", "P1", "P2", "P3", "P4"])
@pytest.mark.parametrize("reason", Reason)
def test_every_text_of_a_page_is_read_on_its_ground(reason: Reason, severity: str) -> None:
    page = notification(reason=reason, severity=severity, not_recorded=True, evidence=KNOWN)
    html = EN.html(page)
    head, body = html.split("</head>")
    dark = dict(re.findall(r"\.(\w+) \{[^}]*?(?<![-\w])color: (#[0-9a-f]{6})", head))
    seen = 0
    for tag in re.findall(r"<[a-z][^>]*style=[^>]*>", body):
        found = dict(COLOURS.findall(tag))
        if "color" not in found:
            continue
        seen += 1
        own = found.get("background")
        assert contrast(found["color"], own or PAPER["light"]) >= 4.5, tag
        names = re.findall(r'class="([^"]*)"', tag)
        inks = [dark[name] for name in " ".join(names).split() if name in dark]
        assert inks or (own and own != PAPER["light"]), f"no colour in dark mode: {tag}"
        for ink in inks:
            assert contrast(ink, PAPER["dark"]) >= 4.5, tag
    assert seen > 5 and f"background: {PAPER['dark']}" in head
