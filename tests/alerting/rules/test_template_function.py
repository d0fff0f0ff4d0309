"""The functions of templates where their edges are, without a template around them."""

import pytest

from tocsin_alerting.rules import template_function as functions


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("h:80", "h"), ("h", "h"), ("[::1]:80", "::1"), ("::1", "::1"), ("[::1]", "[::1]"),
        ("h:", "h"), ("", ""), ("a:b:c", "a:b:c"),
    ],
)  # fmt: skip
def test_strip_port_takes_what_go_takes_for_host_and_port(given: str, wanted: str) -> None:
    assert functions.strip_port(given) == wanted


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("a.b.c:80", "a:80"), ("a.b", "a"), ("a", "a"), ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1:9", "10.0.0.1:9"), ("::1", "::1"), ("", ""),
    ],
)  # fmt: skip
def test_strip_domain_leaves_addresses_whole(given: str, wanted: str) -> None:
    assert functions.strip_domain(given) == wanted


@pytest.mark.parametrize(
    ("pattern", "replacement", "text", "wanted"),
    [
        ("a(x*)b", "$1", "-ab-axxb-", "--xx-"),
        ("a(x*)b", "$1W", "-ab-axxb-", "---"),  # the group `1W` does not exist
        ("a(x*)b", "${1}W", "-ab-axxb-", "-W-xxW-"),
        ("(?P<n>b)", "[$n$9]", "abc", "a[b]c"),
        ("b", "$$", "abc", "a$c"),
        ("", "-", "ab", "-a-b-"),
    ],
)
def test_replacements_are_gos(pattern: str, replacement: str, text: str, wanted: str) -> None:
    assert functions.re_replace_all(pattern, replacement, text) == wanted


def test_what_re2_refuses_is_an_error() -> None:
    for pattern in ("(", r"(a)\1", "(?=a)"):
        with pytest.raises(ValueError, match="regexp: Compile"):
            functions.match(pattern, "x")


def test_samples_are_told_from_other_things() -> None:
    sample = functions.QueriedSample({"b": "1", "__value__": "v"}, 2.0)
    assert functions.value(functions.first([sample])) == 2.0
    assert (functions.label("b", sample), functions.label("c", sample)) == ("1", "")
    assert functions.strvalue(sample) == "v"
    with pytest.raises(ValueError, match="first\\(\\) called on vector with no elements"):
        functions.first([])
    with pytest.raises(ValueError, match="wrong type for value"):
        functions.value("text")


def test_sorting_keeps_the_order_of_equals() -> None:
    samples = [functions.QueriedSample({"a": a, "b": b}, 0.0) for a, b in ("z1", "a2", "a3")]
    ordered = functions.sort_by_label("a", samples)
    assert [one.labels["b"] for one in ordered] == ["2", "3", "1"]


def test_durations_have_a_sign_and_no_fraction() -> None:
    assert functions.parse_duration_seconds("1h2m") == 3720
    assert functions.parse_duration_seconds("-1500ms") == -1.5
    with pytest.raises(ValueError, match="not a valid duration string"):
        functions.parse_duration_seconds("1.5h")
    with pytest.raises(ValueError, match="value is NaN or Inf"):
        functions.to_duration("NaN")
