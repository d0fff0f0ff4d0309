import pytest

from tocsin_alerting.promql.parser.lexer import Lexer
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
