"""The limits of the Bot API, counted as it counts: UTF-16 units of what is left after parsing."""

from dataclasses import replace

import pytest

from support.notifications import notification
from support.vendors.telegram import GROUP, ShownHtml
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.telegram.message import as_plain, edit_body, message_body, message_of

LINK = "https://tocsin.example.com/links/abc"
MANY = {
    "letters": "x" * 37,
    "specials": '<&>"' * 9,
    "astral": "\U0001f525" * 17,
    "Chinese": "熱" * 37,
    "names": "@li " * 9,
}


def parts(text: str) -> MessageParts:
    return MessageParts(
        subject="[P0] gpu-1: down (#42)",
        head="",
        kind="firing",
        severity="P0",
        numbers="#42",
        lines=tuple((f"L{number}", text) for number in range(400)),
        answer_url=LINK,
        answer_label="Look",
    )


@pytest.mark.parametrize("name", MANY)
def test_a_text_is_filled_up_to_the_limit_and_no_further(name: str) -> None:
    for body in (
        message_body(GROUP, notification(), parts(MANY[name])),
        edit_body(GROUP, 1, parts(MANY[name]), None),
    ):
        shown = ShownHtml(body["text"])
        units = len(shown.text.encode("utf-16-le")) // 2
        assert 4000 < units <= 4096
        assert shown.text.startswith("[P0] gpu-1: down (#42)") and shown.links == [LINK]


def test_without_markup_it_says_the_same() -> None:
    body = message_body(GROUP, notification(), parts(MANY["specials"]))
    plain = as_plain(body)
    assert "parse_mode" not in plain and plain["text"] == ShownHtml(body["text"]).text
    assert len(plain["text"].encode("utf-16-le")) // 2 <= 4096


@pytest.mark.parametrize(
    ("reference", "chat_id", "number"),
    [
        ("-4001/7", GROUP, 7),
        ("-4002/7", GROUP, None),
        ("-4002/7", "@ops_channel", 7),
        ("", GROUP, None),
        ("-4001/x", GROUP, None),
        ("7", GROUP, None),
    ],
)
def test_a_message_is_known_in_its_own_chat(
    reference: str, chat_id: int | str, number: int | None
) -> None:
    assert message_of(reference, chat_id) == number


def test_a_link_that_telegram_would_drop_is_written_out() -> None:
    local = message_body(
        GROUP,
        notification(),
        replace(parts(""), lines=(), answer_url="http://gpu-1:4911/links/x"),
    )
    assert "http://gpu-1:4911/links/x" in ShownHtml(local["text"]).text
