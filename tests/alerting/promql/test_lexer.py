import pytest

from tocsin_alerting.promql.parser.lexer import (
    Lexer,
    LexicalError,
    scan_number,
    scan_string,
)
from tocsin_alerting.promql.parser.tokens import Token, TokenKind


def tokenize(query: str) -> list[Token]:
    lexer = Lexer(query, 3)
    while not lexer.tokens or lexer.tokens[-1].kind not in (TokenKind.END, TokenKind.ERROR):
        lexer.read()
    return lexer.tokens


def kinds(query: str) -> list[tuple[TokenKind, str]]:
    return [(token.kind, token.text) for token in tokenize(query)[:-1]]


def test_a_query_is_cut_into_words_with_their_places() -> None:
    query = 'sum by (x)(a{b=~"c"} # why\n) > bool 1e3'
    tokens = tokenize(query)
    assert [token.text for token in tokens] == [
        "sum", "by", "(", "x", ")", "(", "a", "{", "b", "=~", '"c"', "}", ")", ">", "bool", "1e3",
        "",
    ]  # fmt: skip
    assert all(query[token.start : token.end] == token.text for token in tokens)
    assert tokens[-1].kind is TokenKind.END


def test_words_mean_different_things_in_different_brackets() -> None:
    assert kinds("SUM{sum=`1`}") == [
        (TokenKind.AGGREGATOR, "SUM"),
        (TokenKind.PUNCTUATION, "{"),
        (TokenKind.IDENTIFIER, "sum"),
        (TokenKind.PUNCTUATION, "="),
        (TokenKind.STRING, "`1`"),
        (TokenKind.PUNCTUATION, "}"),
    ]
    assert kinds("a:b[5m:step()]")[3:5] == [
        (TokenKind.PUNCTUATION, ":"),
        (TokenKind.CALLABLE, "step"),
    ]
    assert kinds("fill fill (")[0][0] is TokenKind.IDENTIFIER
    assert kinds("fill fill (")[1][0] is TokenKind.KEYWORD
    assert kinds("Inf inf:a") == [(TokenKind.NUMBER, "Inf"), (TokenKind.METRIC_IDENTIFIER, "inf:a")]


@pytest.mark.parametrize(
    ("text", "described"),
    [
        ("foo", 'identifier "foo"'),
        ("a:b", 'metric identifier "a:b"'),
        ("12345678901", 'number "1234567890"...'),
        ("5m", 'duration "5m"'),
        ("'x'", "string \"'x'\""),
        ("SUM", "<aggr:SUM>"),
        ("by", "<by>"),
        ("atan2", "<op:atan2>"),
        ("start", '"start"'),
        (",", '","'),
        ("", "end of input"),
    ],
)
def test_error_messages_name_words_as_prometheus_does(text: str, described: str) -> None:
    assert tokenize(text)[0].described == described


def test_an_error_is_the_last_token() -> None:
    *before, last = tokenize("a + $ b")
    assert [token.text for token in before] == ["a", "+"]
    assert (last.kind, last.text, last.start) == (TokenKind.ERROR, "unexpected character: '$'", 4)


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
