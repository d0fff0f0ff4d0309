import pytest

from tocsin_alerting.tsdb.matchers import InvalidRegex, Matcher, MatchMemo, MatchOp


@pytest.mark.parametrize(
    ("op", "value", "yes", "no"),
    [
        ("=", "a", ["a"], ["", "ab"]),
        ("=", "", [""], ["a"]),
        ("!=", "a", ["", "ab"], ["a"]),
        ("=~", "a.*|b", ["a", "ab", "b", "a\nb"], ["", "ba", "bb"]),
        ("=~", ".*", ["", "\n"], []),
        ("=~", "(?i)ÄB", ["äb", "ÄB"], ["ab"]),
        ("=~", "^a$", ["a"], ["a\n"]),
        ("!~", "a.+", ["", "a"], ["ab"]),
    ],
)
def test_matchers_match_whole_values(op: str, value: str, yes: list[str], no: list[str]) -> None:
    matcher = Matcher("job", MatchOp(op), value)
    assert [text for text in yes + no if matcher.matches(text)] == yes
    verdict = MatchMemo().predicate(matcher)
    assert [text for text in (yes + no) * 2 if verdict(text)] == yes * 2


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(a", "missing closing ): `(a`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("\\8", "invalid escape sequence: `\\8`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        ("a)(b", "unexpected ): `a)(b`"),
    ],
)
def test_what_re2_refuses_is_refused_in_the_words_of_go(pattern: str, message: str) -> None:
    with pytest.raises(InvalidRegex) as refused:
        Matcher("job", MatchOp.REGEX, pattern)
    assert str(refused.value) == f"error parsing regexp: {message}"


def test_text_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(InvalidRegex, match="invalid UTF-8"):
        Matcher("job", MatchOp.REGEX, "\ud800")


def test_a_pattern_that_needs_much_memory_gets_it() -> None:
    names = "|".join(f"pod-{number:036d}" for number in range(5_000))
    assert Matcher("pod", MatchOp.REGEX, names).matches(f"pod-{4_999:036d}")
    letters = Matcher("a", MatchOp.REGEX, r"\pL{100}")
    assert (letters.matches("é" * 100), letters.matches("1" * 100)) == (True, False)


def test_no_pattern_can_hang_the_process() -> None:
    assert not Matcher("job", MatchOp.REGEX, "(a*)*b").matches("a" * 100_000)


def test_a_matcher_is_a_value() -> None:
    one, two = (Matcher("job", MatchOp.REGEX, "a|b") for _ in range(2))
    assert one == two and hash(one) == hash(two)
    assert repr(one) == "Matcher(name='job', op=<MatchOp.REGEX: '=~'>, value='a|b', old=False)"
