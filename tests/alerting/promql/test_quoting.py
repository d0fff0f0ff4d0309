import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.promql.parser.literals import scan_string
from tocsin_alerting.promql.parser.quoting import quote, quote_char, unquote


@pytest.mark.parametrize(
    ("text", "quoted"),
    [("a", '"a"'), ('"\\', '"\\"\\\\"'), ("\n\t\x07", '"\\n\\t\\a"'), ("\x00\x7f", '"\\x00\\x7f"'),
     ("é日", '"é日"'), ("\u200b", '"\\u200b"'), ("\U000e0001", '"\\U000e0001"')],
)  # fmt: skip
def test_text_is_quoted_as_go_quotes_it(text: str, quoted: str) -> None:
    assert quote(text) == quoted


@pytest.mark.parametrize(
    ("char", "quoted"),
    [("x", "'x'"), ("'", "'\\''"), ('"', "'\"'"), ("\n", "'\\n'"), ("", "'\ufffd'")],
)
def test_characters_are_quoted_as_go_quotes_them(char: str, quoted: str) -> None:
    assert quote_char(char) == quoted


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        ('"\\x41\\101\\u00e9\\U0001F600"', "AAé😀"),
        ('"\\xc3\\xa9"', "é"),
        ('"\\xff"', "\ufffd"),
        ("'\\'\"'", "'\""),
        ("`\\n\n`", "\\n\n"),
    ],
)
def test_escapes_are_those_of_go(literal: str, text: str) -> None:
    assert unquote(literal) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_quoted_text_reads_back(text: str) -> None:
    literal = quote(text)
    assert scan_string(literal, 0) == len(literal)
    assert unquote(literal) == text
