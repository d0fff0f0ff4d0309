import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.promql.parser.lexer import scan_string
from tocsin_alerting.strconv import format_number, parse_number, quote, quote_char, unquote


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


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("10", 10), ("010", 8), ("08", 8), ("0x1f", 31), ("0X_1_F", 31), ("1_000.5", 1000.5),
     (".5", 0.5), ("5.", 5), ("1e3", 1000), ("1E-2", 0.01), ("9223372036854775808", 2.0**63),
     ("iNf", math.inf)],
)  # fmt: skip
def test_literals_are_read_as_go_reads_them(text: str, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    ("text", "what"),
    [("0x", "invalid syntax"), ("1e999", "value out of range"), ("", "invalid syntax"),
     ("0xffffffffffffffffff", "invalid syntax"),
     ("9" * 5000, "value out of range")],
)  # fmt: skip
def test_what_is_no_number_is_refused_in_the_words_of_go(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=f'strconv.ParseFloat: parsing "{text}": {what}'):
        parse_number(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (-0.0, "-0"), (1e21, "1" + "0" * 21), (1e-7, "0.0000001"), (0.1, "0.1"),
     (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (100.0, "100")],
)  # fmt: skip
def test_numbers_are_printed_without_exponents(value: float, text: str) -> None:
    assert format_number(value) == text


@given(st.floats(min_value=0, allow_infinity=False))
def test_a_printed_number_reads_back(value: float) -> None:
    assert parse_number(format_number(value)) == value
