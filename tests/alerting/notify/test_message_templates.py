import re
from dataclasses import replace
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import pytest

from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from tocsin_alerting.incidents.notification import Notification, Reason
from tocsin_alerting.notify.message_templates import LANGUAGES, MessageTemplates

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
    assert EN.subject(resolved()) == f"[P0 resolved] gpu-1: over after 5m: {SUMMARY} (#42)"
    assert ZH.subject(resolved()) == f"[P0 已恢复] gpu-1：历时 5m 后恢复：{SUMMARY} (#42)"
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
    assert "value 0.998" in text and "GPU: 3 (NVIDIA H100)" in text and "Machine: box" in text


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
        "Also told: hook",
        "If nobody answers: li by email, at 2026-01-01 00:15:02 UTC",
        "Acknowledge: alertctl ack 42",
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
    lasted = "Lasted: 6m, from 2025-12-31 23:59:00 UTC to 2026-01-01 00:05:00 UTC"
    assert lasted in EN.text(over) and "It is over. It lasted 6m." in EN.text(over)


def test_local_time_comes_with_utc() -> None:
    assert "2026-01-01 08:00:00 +0800 (00:00:00 UTC)" in ZH.text(notification())


def test_resolved_asks_for_nothing_and_says_what_it_was() -> None:
    text = EN.text(resolved(note="clear"))
    assert f"It was: {SUMMARY}" in text and "clear" not in text
    assert "alertctl" not in text and "If nobody" not in text and "value" not in text


def test_what_ends_without_being_over_does_not_say_that_it_is() -> None:
    why = "unknown for 24 h, given up: node gpu-1 is dead"
    lost = notification(reason=Reason.GIVEN_UP, state="RESOLVED", note=why)
    assert "given up, state unknown" in EN.subject(lost) and "resolved" not in EN.subject(lost)
    assert "It is over" not in EN.text(lost) and "node gpu-1 is dead" in EN.text(lost)


@pytest.mark.parametrize(
    ("templates", "tag", "head"),
    [
        (EN, "[P0 no longer watched]", "After 5m its rule or its source was removed or changed."),
        (ZH, "[P0 不再监控]", "5m 后其规则或数据来源已被移除或修改。"),
    ],
)
def test_without_a_rule_it_is_not_over(templates: MessageTemplates, tag: str, head: str) -> None:
    lost = resolved(reason=Reason.UNWATCHED, note="rule g/Down/0 is no longer in r.yml")
    assert templates.subject(lost).startswith(tag) and SUMMARY in templates.subject(lost)
    for said in (templates.text(lost), templates.html(lost), templates.line(lost)):
        assert not {
            word for word in ("resolved", "over after", "It is over", "已恢复，") if word in said
        }
    for said in (templates.text(lost), templates.html(lost)):
        assert head in said and "#2b8a3e" not in said and "no longer in r.yml" in said


def test_acknowledged_is_calm_and_asks_nobody_to_acknowledge() -> None:
    page = notification(reason=Reason.ACKED, actor="li", note="restarting it", state="ACKED")
    text, html = EN.text(page), EN.html(page)
    assert text.startswith("P0 acknowledged: Acknowledged by li\n") and "restarting it" in text
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


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words_in_every_language(language: str, reason: Reason) -> None:
    templates, page = MessageTemplates(language), notification(reason=reason, not_recorded=True)
    for text in (templates.line(page), templates.subject(page), templates.text(page)):
        assert "42" in text and ("NOT RECORDED" in text or "未入库" in text)
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


@pytest.mark.parametrize("language", LANGUAGES)
def test_control_characters_never_reach_a_line(language: str) -> None:
    odd = "a\r\nBcc: x@y\x1b[31m\u2028b"
    templates = MessageTemplates(language, hostname="h\r\nBcc: z@y")
    labels = {"alertname": odd, "target": odd, "model_name": odd, "gpu": odd, "instance": odd}
    said = replace(ENGINE_DOWN, labels=labels, annotations={"summary": odd})
    for alerts in ((), (said,), (replace(said, annotations={}),)):
        page = notification(title=odd, alerts=alerts)
        for line in (templates.subject(page), templates.line(page)):
            assert line.isprintable() and "a Bcc: x@y" in line


@pytest.mark.parametrize("language", LANGUAGES)
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
    assert "It lasted 0s." in EN.text(resolved(at_ms=NEW_YEAR_MS - 5_000))


@pytest.mark.parametrize("templates", [EN, ZH])
def test_a_duration_is_that_of_the_sending_and_none_where_it_just_began(
    templates: MessageTemplates,
) -> None:
    page = notification(at_ms=NEW_YEAR_MS)
    for render in (templates.text, templates.html):
        assert "0s" not in render(page, NEW_YEAR_MS)
        assert " 2m5s" in render(page, NEW_YEAR_MS + 125_000)
    assert "It lasted 5m." in EN.text(resolved(), NEW_YEAR_MS + 900_000)


def test_a_value_that_says_nothing_and_our_own_jobs_are_left_out() -> None:
    labels = {**ENGINE_DOWN.labels, "job": "llm", "zone": "a"}
    down = replace(ENGINE_DOWN, labels=labels)
    second = replace(down, labels={**labels, "zone": "b"})
    for page in (EN.text, EN.html):
        said = page(notification(alerts=(down, second)))
        assert "value" not in said and "job=" not in said and "zone=a" in said
        assert page(notification(alerts=(replace(down, value=0.5),))).count("value 0.5") == 1
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
        "Nobody answered the step before. li was told at 2025-12-31 23:45 and did not answer."
        " <wang> was told at 2025-12-31 23:59 and did not answer.\n"
    ) in EN.text(page)
    assert "li was told at 2025-12-31 23:45" in EN.html(page)
    assert "&lt;wang&gt; was told at" in EN.html(page)
    assert "上一步无人响应。 li 于 07:45 收到通知，未响应。" in ZH.text(page)
