"""Matchers as Alertmanager writes them."""

import pytest

from tocsin_alerting.incidents.alert_matcher import InvalidMatcher, all_match, parse_matcher

LABELS = {"severity": "P1", "instance": "gpu-1", "note": 'say "hi"\n'}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('severity="P1"', True),
        ("severity=P1", True),
        ('severity!="P1"', False),
        ('severity=~"P1|critical"', True),
        ('severity=~"P"', False),  # the whole value
        ('instance=~"gpu.*"', True),
        ('instance!~"gpu.*"', False),
        ('absent=""', True),
        ('absent!=""', False),
        ('absent=~".*"', True),
        ('absent=~".+"', False),
        (r'note="say \"hi\"\n"', True),
        (' severity = "P1" ', True),
        ('"severity"="P1"', True),
    ],
)
def test_what_matches(text: str, expected: bool) -> None:
    assert parse_matcher(text).matches(LABELS) is expected
    assert parse_matcher(str(parse_matcher(text))).matches(LABELS) is expected


@pytest.mark.parametrize(
    ("text", "offset", "why"),
    [
        ("severity", 0, "write it as"),
        ('severity=="P1"', 0, "write it as"),
        ('severity="P1" and', 14, "write it as"),
        ('severity=~"("', 10, "not a regular expression: missing"),
        (r'a=~"(?=x)"', 3, "not a regular expression"),  # RE2 has no look-ahead
        (r'a="\x"', 2, "after a backslash"),
        ("", 0, "write it as"),
    ],
)
def test_what_is_refused_and_where(text: str, offset: int, why: str) -> None:
    with pytest.raises(InvalidMatcher, match=why) as caught:
        parse_matcher(text)
    assert caught.value.offset == offset


def test_all_of_several() -> None:
    both = [parse_matcher('severity="P1"'), parse_matcher('instance=~"gpu.*"')]
    assert all_match(both, LABELS) and not all_match(both, {"severity": "P1"})
    assert all_match([], {})
