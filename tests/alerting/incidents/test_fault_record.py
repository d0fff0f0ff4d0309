"""The fault record: what the agent knows is in it, and what people filled in."""

from zoneinfo import ZoneInfo

import pytest
from markdown_it import MarkdownIt

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import Floor
from support.policies import HOUR, MINUTE, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.fault_record import FIELDS, fault_record, markdown


async def _over() -> Floor:
    one = await Floor(config()).open()
    down = alert("EngineDown", "P0", target="a<b>")
    await one.hear(fires(down, one.now))
    await one.advance(2 * MINUTE)
    await one.act(Verb.ACK, 1, "li", note="on it")
    await one.advance(4 * MINUTE)
    await one.hear(clears(down, one.now))
    await one.advance(HOUR)
    return one


async def test_what_the_agent_knows_and_what_people_filled_in() -> None:
    one = await _over()
    await one.act(Verb.COMMENT, 1, "wang", fields={"root_cause": "dust", "cause": "hardware"})
    await one.act(Verb.COMMENT, 1, "wang", fields={"root_cause": "a fan full of dust"})
    record = fault_record(await one.dispatcher.timeline(1), config(), one.now)
    assert (record["incident"], record["level"], record["state"]) == (1, "P0", "CLOSED")
    assert record["opened"] == "2026-01-01T00:00:00.000Z"
    assert record["acknowledged"] == "2026-01-01T00:02:00.000Z"
    assert record["ended"] == "2026-01-01T00:06:00.000Z"
    assert record["people"] == ["li", "wang"]
    assert record["fields"] == {"cause": "hardware", "root_cause": "a fan full of dust"}
    assert record["alerts"][0]["text"] == "EngineDown fires"
    assert [line["text"] for line in record["handling"]] == ["acknowledged by li after 2m: on it"]
    assert any("resolved" in line["text"] for line in record["timeline"])


@pytest.mark.parametrize(
    ("language", "headings"),
    [
        ("en", ["Impact", "Phenomenon", "Direct cause", "Indirect cause", "Root cause", "Handling",
                "Timeline", "Lessons"]),
        ("zh", ["影响范围", "故障现象", "直接原因", "间接原因", "根本原因", "处理过程", "时间线",
                "经验教训"]),
    ],
)  # fmt: skip
async def test_the_record_in_markdown(language: str, headings: list[str]) -> None:
    one = await _over()
    await one.act(Verb.COMMENT, 1, "li", fields={"impact": "all <b>users</b>"})
    record = fault_record(await one.dispatcher.timeline(1), config(), one.now, language)
    text = markdown(record, ZoneInfo("Asia/Shanghai"), language)
    tokens = MarkdownIt("js-default").parse(text)
    found = [
        tokens[at + 1].content
        for at, token in enumerate(tokens)
        if token.type == "heading_open" and token.tag == "h2"
    ]
    assert found == headings
    assert "2026-01-01 08:00:00 CST" in text
    assert "<b>" not in text and "all &lt;b>users" in text
    empty = FIELDS.keys() - {"impact", "phenomenon", "handling"}
    for name in empty:
        assert f'alertctl comment 1 --field {name}="..."' in text
