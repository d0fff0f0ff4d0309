"""Texts for chats: cut to a limit on a boundary, with what must stay."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.notifications import notification, resolved
from tocsin_alerting.notify.chat_text import (
    HTML,
    PLAIN,
    Markup,
    chat_text,
    cut,
    utf8_size,
    utf16_size,
)
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.signed_links import SignedLinks

SIZES: list[Callable[[str], int]] = [len, utf8_size, utf16_size]
PARTS = replace(
    MessageTemplates("en", hostname="gpu-1").parts(notification()),
    answer_url="https://t.example/links/abc",
    answer_label="Look",
)


def test_the_parts_say_what_the_mail_says() -> None:
    parts = MessageTemplates("en", hostname="gpu-1", links=SignedLinks()).parts(notification())
    assert parts.subject.startswith("[P0] gpu-1: The engine at 127.0.0.1:8000 does not answer")
    lines = dict(parts.lines)
    assert lines["Machine"] == "gpu-1" and lines["Also notified"] == "hook"
    assert any("li by email" in value for value in lines.values())
    assert ("Runbook", "https://runbooks.example/InferenceEngineDown") in parts.links
    assert parts.command == "alertctl ack 42" and parts.colour == "#b00020"


def test_what_is_over_is_green_and_says_how_long_it_was() -> None:
    parts = MessageTemplates("zh").parts(resolved())
    assert parts.colour == "#2b7a3b" and parts.command == ""
    assert "历时" in dict(parts.lines)


def test_what_somebody_has_is_not_red() -> None:
    owned = notification(state="ACKED")
    assert MessageTemplates("en").parts(owned).colour == "#3d5a80"


def test_a_small_limit_keeps_the_first_line_and_the_answer() -> None:
    text = chat_text(PARTS, PLAIN, 200)
    assert len(text) <= 200
    assert text.startswith("[P0] gpu-1: ") and text.endswith("Look: https://t.example/links/abc")


def test_an_escape_is_never_cut() -> None:
    parts = replace(PARTS, subject="<&>" * 200, lines=(), paragraphs=(), links=())
    text = chat_text(parts, HTML, 300)
    assert len(text) <= 300
    assert re.fullmatch(r"<b>(&lt;|&amp;|&gt;)+…</b>\n<a href=\S+>Look</a>", text)


@given(st.text(), st.integers(1, 60), st.sampled_from(SIZES))
def test_a_cut_text_fits_and_is_a_beginning(
    text: str, limit: int, size: Callable[[str], int]
) -> None:
    short = cut(text, limit, size)
    assert size(short) <= limit
    assert short == text or short == "" or text.startswith(short[:-1])


@given(
    st.lists(st.tuples(st.text(), st.text()), max_size=5),
    st.lists(st.text(), max_size=3),
    st.sampled_from([PLAIN, HTML]),
    st.sampled_from(SIZES),
    st.integers(150, 600),
)
def test_any_parts_fit_and_keep_the_answer(
    lines: list[tuple[str, str]],
    paragraphs: list[str],
    markup: Markup,
    size: Callable[[str], int],
    limit: int,
) -> None:
    parts: MessageParts = replace(PARTS, lines=tuple(lines), paragraphs=tuple(paragraphs))
    text = chat_text(parts, markup, limit, size)
    assert size(text) <= limit
    assert PARTS.answer_url in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_without_a_link_nothing_is_offered(language: str) -> None:
    parts = MessageTemplates(language).parts(notification())
    assert "links/" not in chat_text(parts, PLAIN, 4000)
