import pytest

from tocsin_alerting.promql.parser.literals import LexicalError, scan_number, scan_string
from tocsin_alerting.promql.parser.tokens import TokenKind


@pytest.mark.parametrize(
    "text", ["0", "10.5", ".5", "5.", "1e3", "1E-3", "0x1F", "0X_1_f", "1_000", "1_0.2_5e1_0"]
)
def test_numbers_end_where_they_should(text: str) -> None:
    for after in ("", " ", "+", ")", "]"):
        assert scan_number(text + after, 0, 3) == (TokenKind.NUMBER, len(text))


@pytest.mark.parametrize("text", ["5m", "1h30m", "5ms", "1y2w3d4h5m6s7ms", "1.5h"])
def test_durations_end_where_they_should(text: str) -> None:
    assert scan_number(text + ":", 0, 3) == (TokenKind.DURATION, len(text))


@pytest.mark.parametrize(
    ("text", "read"),
    [("1..2", "1.."), ("1__0", "1_"), ("1_", "1_"), ("0deadbeef", "0de"), ("5ms3", "5ms3"),
     ("1d2", "1d2"), ("5x", "5"), ("1e", "1e")],
)  # fmt: skip
def test_what_is_neither_says_how_far_it_was_read(text: str, read: str) -> None:
    with pytest.raises(LexicalError, match=f'bad number or duration syntax: "{read}"$'):
        scan_number(text, 0, 3)


@pytest.mark.parametrize(
    "text", ['""', '"a\\"b"', "'\"'", "`\\`", '"\\x41\\u00e9\\U0001F600\\101"', '"a\'`b"', "`\n`"]
)
def test_strings_end_at_their_mark(text: str) -> None:
    assert scan_string(f" {text} more\"'`", 1) == 1 + len(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"a', "unterminated quoted string"),
        ('"a\n"', "unterminated quoted string"),
        ("`a", "unterminated raw string"),
        ('"\\', "escape sequence not terminated"),
        ('"\\x1', "escape sequence not terminated"),
        ('"\\q"', "unknown escape sequence U\\+0071 'q'"),
        ('"\\x1g"', "illegal character U\\+0067 'g' in escape sequence"),
        ('"\\400"', "escape sequence is an invalid Unicode code point"),
        ('"\\ud800"', "escape sequence is an invalid Unicode code point"),
        ('"\\U00110000"', "escape sequence is an invalid Unicode code point"),
        ('"\ud800"', "invalid UTF-8 rune"),
    ],
)
def test_broken_strings_say_why(text: str, message: str) -> None:
    with pytest.raises(LexicalError, match=message) as refused:
        scan_string(text, 0)
    assert refused.value.at == 0
