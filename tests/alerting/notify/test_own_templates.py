"""Templates of the operator's own: what they may, that nothing of theirs holds a page up, and that
every variable is on the page about them."""

import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from support.notifications import NEW_YEAR_MS, notification
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.notify.chat_text import PLAIN, chat_text
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.own_templates import NAMES, OwnTemplates
from tocsin_alerting.notify.template_check import VARIABLES, template_problems
from tocsin_alerting.notify.template_samples import sample, samples
from tocsin_alerting.notify.webhook.body import webhook_body

DOCS = Path(__file__).parents[3] / "docs"
PAGE = notification()
SUBJECT = MessageTemplates("en", hostname="gpu-1").subject(PAGE)


def made(
    folder: Path, files: dict[str, str], language: str = "en", clock: Callable[[], float] = float
) -> tuple[OwnTemplates, MessageTemplates]:
    for name, text in files.items():
        (folder / name).write_text(text)
    own = OwnTemplates(folder, clock)
    return own, MessageTemplates(language, hostname="gpu-1", own=own)


def test_a_file_stands_in_the_place_of_ours_and_the_language_goes_before(tmp_path: Path) -> None:
    files = {"subject.txt": "{{ severity }} {{ what }}\n", "subject.zh.txt": "告警 {{ numbers }}"}
    own, english = made(tmp_path, files)
    assert english.subject(PAGE) == "P0 The engine at 127.0.0.1:8000 does not answer"
    chinese = MessageTemplates("zh", hostname="gpu-1", own=own)
    assert chinese.subject(PAGE) == "告警 #42"
    assert english.text(PAGE) == MessageTemplates("en", hostname="gpu-1").text(PAGE)
    assert not own.failures and not own.problems


def test_one_of_ours_can_be_included_and_helpers_begin_with_an_underscore(tmp_path: Path) -> None:
    files = {
        "text.txt": '{% include "bundled/text.txt" %}\n{% include "_end.txt" %}',
        "_end.txt": "Call {{ w.label.machine }} 110",
        "page.html": "<p>{{ what }}</p>{{ '<b>' ~ what }}{{ [what, what] | join('<br>') }}",
    }
    own, english = made(tmp_path, files)
    bundled = MessageTemplates("en", hostname="gpu-1").text(PAGE)
    assert english.text(PAGE).startswith(bundled.rstrip()) and "Call Machine 110" in english.text(
        PAGE
    )
    odd = replace(PAGE.alerts[0], annotations={"summary": "<script>"})
    html = english.html(replace(PAGE, alerts=(odd,)))
    assert "<script>" not in html and "<b>" not in html and html.count("&lt;script&gt;") == 4
    assert not own.failures


BOMBS = {
    "a long loop": "{% for i in range(10**9) %}{% endfor %}x",
    "loops in loops": "{% for i in range(999) %}{% for j in range(999) %}{% endfor %}{% endfor %}x",
    "a power": "{{ 10 ** 10 ** 10 }}",
    "a product": "{{ 'x' * 10000000000 }}",
    "a list": "{{ [1] * 10000000000 }}",
    "squares": "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}"
    "{% endfor %}{{ n.x }}",
    "doubling": "{% set n = namespace(x='x') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}"
    "{% endfor %}{{ n.x }}",
    "doubling by +": "{% set n = namespace(x='x') %}{% for i in range(99) %}"
    "{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "doubling by a block": "{% set n = namespace(x='x') %}{% for i in range(99) %}"
    "{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}{% endfor %}{{ n.x }}",
    "doubling by replace": "{% set n = namespace(x='xx') %}{% for i in range(99) %}"
    "{% set n.x = n.x | replace('x', n.x) %}{% endfor %}{{ n.x }}",
    "doubling by join": "{% set n = namespace(x='xx') %}{% for i in range(99) %}"
    "{% set n.x = n.x | join(n.x) %}{% endfor %}{{ n.x }}",
    "a wide format": "{{ '%999999999d' % 1 }}",
    "a wide format by a star": "{{ '%*d' % (999999999, 1) }}",
    "a wide method": "{{ 'x'.ljust(999999999) }}",
    "a format method": "{{ '{:>999999999}'.format(1) }}",
    "a wide filter": "{{ 'x' | center(999999999) }}",
    "an indent": "{{ 'x' | indent(999999999, true) }}",
    "a precision": "{{ 5 | round(-999999999) }}",
    "tabs": "{{ '\t'.expandtabs(999999999) }}",
    "lorem ipsum": "{{ lipsum(999999) }}",
    "a macro that calls itself twice": "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}"
    "{{ m(1) }}",
    "a macro fan": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
    "{{ m(40) }}x",
    "itself": "{% include 'subject.txt' %}",
    "itself twice": "{% include '_a.txt' %}{% include '_a.txt' %}",
    "much text": "{% for i in range(900) %}{{ '0123456789' * 99 }}{% endfor %}",
    "classes": "{{ ''.__class__.__mro__ }}",
    "globals": "{{ w.nth.__globals__ }}",
    "our words are not changed": "{{ w.label.update({'colon': 'x'}) }}",
    "an attribute": "{{ namespace.__init__.__globals__ }}",
    "no such variable": "{{ nothing }}",
    "no such filter": "{{ what | nothing }}",
    "syntax": "{% if %}",
    "a file elsewhere": "{% include '../../etc/passwd' %}",
    "a bundled file elsewhere": "{% include 'bundled/../message_parts.py' %}",
    "no text": "  \n",
    "deep": "(" * 5000,
    "deep brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_costs_too_much_or_fails_is_stopped_and_ours_goes_out(
    bomb: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = {"subject.txt": BOMBS[bomb], "_a.txt": "{% include '_a.txt' %}{% include '_a.txt' %}x"}
    before = time.process_time()
    own, english = made(tmp_path, files)
    said = [english.subject(PAGE) for _ in range(3)]
    spent = time.process_time() - before
    if bomb == "deep":  # no markup, and so a text like any other
        assert said[0].startswith("((((")
        return
    assert said == [SUBJECT] * 3
    assert spent < 20  # by steps alone: the clock of this test stands still
    assert own.failures == {"subject.txt": 3}
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(told) == 1 and str(tmp_path) in told[0].getMessage()
    assert len(told[0].getMessage()) < 2000


def test_one_that_takes_long_is_stopped_by_the_clock(tmp_path: Path) -> None:
    ticks = iter(range(10**6))
    files = {"subject.txt": "{% for i in range(900) %}{{ i }}{% endfor %}"}
    _, quick = made(tmp_path, files)
    assert quick.subject(PAGE).startswith("0123")
    _, slow = made(tmp_path, files, clock=lambda: next(ticks) / 1000)
    assert slow.subject(PAGE) == SUBJECT


def test_what_cannot_be_read_is_a_problem_and_the_rest_stands(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "line.txt").write_text("x" * 70_000)
    own, english = made(tmp_path, {"subjet.txt": "x", "subject.txt": "of ours", ".swp": "x"})
    assert english.subject(PAGE) == "of ours"
    problems = [str(problem) for problem in own.problems]
    assert len(problems) == 3
    assert problems[0] == f"{tmp_path}/line.txt: more than 64 KiB"
    assert "no template of messages: subject.txt" in problems[1]
    assert problems[2] == f"{tmp_path}/text.txt: not UTF-8"
    gone = OwnTemplates(tmp_path / "none", float)
    assert [str(problem) for problem in gone.problems] == [
        f"{tmp_path}/none: No such file or directory"
    ]
    assert MessageTemplates("en", hostname="gpu-1", own=gone).subject(PAGE) == SUBJECT


def test_a_check_names_file_and_line(tmp_path: Path) -> None:
    files = {
        "subject.txt": "{{ severity }}\n\n{% if kind == 'resolved' %}{{ nope }}{% endif %}",
        "text.txt": "a\n\n{% endif %}",
        "page.html": "<p>\n{% include '_part.html' %}",
        "_part.html": "a\nb\n{{ alerts[0].nope }}",
        "line.zh.txt": "{{ what }}",
    }
    own, _ = made(tmp_path, files)
    found = {
        str(problem)
        for problem in template_problems(own, lambda lang: MessageTemplates(lang, own=own))
    }
    assert {problem.partition(": ")[0] for problem in found} == {
        f"{tmp_path}/subject.txt:3",
        f"{tmp_path}/text.txt:3:4",
        f"{tmp_path}/_part.html:3",
    }
    assert any("'nope' is undefined" in problem for problem in found)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a\n  {% fro x in alerts %}", "2:6", "unknown tag 'fro'"),
        ("a\r\nb {{ what | upperr }}", "2:13", "No filter named 'upperr'"),
        ("中文 {{ what what }}", "1:12", "expected token 'end of print statement', got 'what'"),
        ("{# a\nb #}x {{ 1 ? 2 }}", "2:12", "unexpected char '?'"),
        ("x\n{%- if what -%}\n  y", "3:4", "Unexpected end of template"),
        ("{{ what }", "1:9", "unexpected '}'"),
    ],
)
def test_a_syntax_error_has_line_and_column(
    text: str, place: str, words: str, tmp_path: Path
) -> None:
    own, _ = made(tmp_path, {"subject.txt": text})
    problems = list(template_problems(own, lambda lang: MessageTemplates(lang, own=own)))
    assert {str(one).partition(": ")[0] for one in problems} == {f"{tmp_path}/subject.txt:{place}"}
    assert words in problems[0].message


@pytest.mark.parametrize(
    "text",
    [
        "a\n{% for i in range(999) %}\n{% for j in range(999) %}x{% endfor %}{% endfor %}",
        "a\n{% for i in range(999) %}\n{% for j in range(999) %}{{ j }}, {{ i }}{% endfor %}"
        "{% endfor %}",
        "a\n\n{% for i in range(999) %}{{ 'x' * 1000 }}{% endfor %}",
    ],
)
def test_one_without_an_end_names_its_line(text: str, tmp_path: Path) -> None:
    own, _ = made(tmp_path, {"subject.txt": text})
    (problem, *_) = template_problems(own, lambda lang: MessageTemplates(lang, own=own))
    assert str(problem).startswith(f"{tmp_path}/subject.txt:3: refused: more than")


def test_our_own_would_pass_as_templates_of_an_operator(tmp_path: Path) -> None:
    """The bounds leave room for what is bundled, with every kind of message, in both languages."""
    files = {name: f'{{% include "bundled/{name}" %}}' for name in NAMES if name != "chat.txt"}
    own, _ = made(tmp_path, {**files, "chat.txt": "{{ what }}"})
    assert not list(template_problems(own, lambda lang: MessageTemplates(lang, own=own)))
    for language in ("en", "zh"):
        ours = MessageTemplates(language, hostname="gpu-1")
        theirs = MessageTemplates(language, hostname="gpu-1", own=own)
        for message in samples():
            assert theirs.html(message, message.at_ms) == ours.html(message, message.at_ms)
            assert theirs.text(message, message.at_ms) == ours.text(message, message.at_ms)
            assert theirs.subject(message) == ours.subject(message)
    assert not own.failures


def test_a_chat_shows_the_text_and_keeps_what_answers_it(tmp_path: Path) -> None:
    _, english = made(tmp_path, {"chat.txt": "Look at {{ machine }}!\n\nThen rest."})
    parts = english.parts(PAGE)
    assert parts.paragraphs == ("Look at gpu-1!", "Then rest.") and not parts.lines
    assert chat_text(parts, PLAIN, 500).splitlines() == [SUBJECT, "Look at gpu-1!", "Then rest."]
    assert parts.command == "alertctl ack 42"


def test_every_variable_is_known_to_the_page_and_to_alertctl() -> None:
    templates = MessageTemplates("en", hostname="gpu-1")
    seen = {name for message in samples() for name in templates.context(message)}
    assert seen | {"language", "w", "message"} == set(VARIABLES)
    page = (DOCS / "templates.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.M))
    assert rows == dict(VARIABLES)


def test_the_examples_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    page = (DOCS / "templates.md").read_text()
    subject, text, body = re.findall(r"(?ms)^```jinja\n(.*?)^```", page)
    files = {"subject.txt": subject, "text.txt": text, "incident.json": body}
    own, english = made(tmp_path, files)
    sent = json.loads(english.body("incident.json", PAGE, NEW_YEAR_MS, webhook_body(PAGE)) or "")
    assert sent["text"].startswith("P0 The engine at") and sent["incident"] == 42
    assert sent["labels"] == PAGE.alerts[0].labels
    assert english.subject(PAGE) == SUBJECT
    assert english.text(PAGE).endswith("The room of the incident: https://meet.example.com/42\n")
    assert not list(template_problems(own, lambda lang: MessageTemplates(lang, own=own)))


def test_a_body_that_is_no_json_is_named_and_ours_is_sent(tmp_path: Path) -> None:
    files = {"a.json": '{"text": "{{ what }}"}', "b.json": "[" * 9000, "c.json": "{{ message.no }}"}
    own, english = made(tmp_path, files)
    odd = replace(PAGE.alerts[0], annotations={"summary": 'a "quoted" word'})
    page = replace(PAGE, alerts=(odd,))
    for name in files:
        assert english.body(name, page, NEW_YEAR_MS, webhook_body(page)) is None
        assert own.failures[name] == 1
    told = [*template_problems(own, lambda lang: MessageTemplates(lang, own=own))]
    assert [Path(one.path).name for one in told] == ["a.json", "b.json", "c.json"]
    assert "write values with | tojson" in str(told[0]) and "no attribute 'no'" in str(told[2])


def test_samples_are_of_every_reason() -> None:
    assert {message.reason for message in samples()} == set(Reason)
    assert sample(Reason.RESOLVED).status == "resolved"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_chat_says_the_same_in_the_same_order_as_the_mail(language: str) -> None:
    templates = MessageTemplates(language, hostname="gpu-1")
    for message in samples():
        parts = templates.parts(message, message.at_ms)
        text = templates.text(message, message.at_ms)
        told = [line.partition(parts.colon)[0].rstrip("：:") for line in text.splitlines()]
        labels = [label for label, _ in parts.lines if label in told]
        places = [told.index(label) for label in labels]
        assert places == sorted(places), (message.reason, labels)
        for label, value in parts.lines:
            heading = f"\n{label}{parts.colon.rstrip()}\n"
            if f"\n{label}{parts.colon}" in text and heading not in text and "\n" not in value:
                assert f"\n{label}{parts.colon}{value}\n" in text, message.reason
