"""The functions of templates where their edges are, without a template around them."""

import math
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from support.golden import golden_rows
from tocsin_alerting.rules import template_functions as functions
from tocsin_alerting.rules.template import expand, expand_or_error
from tocsin_alerting.rules.template_data import TemplateBudget, TemplateData
from tocsin_alerting.rules.template_functions import QueriedSample, printf
from tocsin_alerting.strconv import quote


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
        with pytest.raises(ValueError, match="^error parsing regexp: [^:]*: `"):
            functions.match(pattern, "x")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("(", "missing closing ): `(`"), ("a**", "invalid nested repetition operator: `**`"),
     ("[a", "missing closing ]: `[a`"), ("a{2,1}", "invalid repeat count: `{2,1}`"),
     ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
     ("\\", "trailing backslash at end of expression: ``")],
)  # fmt: skip
def test_a_wrong_pattern_is_told_in_the_words_of_go(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        functions.match(pattern, "x")
    with pytest.raises(ValueError, match=re.escape(f"regexp: Compile(`{pattern}`): error")):
        functions.re_replace_all(pattern, "", "x")


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [("[::1]:9100", "[::1]:9100"), ("::1", "::1"), ("1.2.3.4:9", "1.2.3.4:9"), ("a.b:9", "a:9"),
     ("a.b:", "a"), ("[x:y.z]:9", "[x:y]:9"), ("[fe80::1%eth0]:9", "[fe80::1%eth0]:9")],
)  # fmt: skip
def test_a_domain_is_taken_off_and_an_address_stays(given_: str, wanted: str) -> None:
    assert functions.strip_domain(given_) == wanted


def test_letters_change_one_for_one() -> None:
    assert functions.title("\ufb01 x it's _ab \u01c6 \xdf") == "\ufb01 X It'S _ab \u01c5 \xdf"
    assert functions.upper("\ufb01\xdfa") == "\ufb01\xdfA"
    assert functions.lower("\u0130A") == "ia"


def test_a_sample_and_a_time_print_as_in_go() -> None:
    assert str(functions.QueriedSample({"b": "1", "a": "2"}, 3e21)) == "{map[a:2 b:1] 3e+21}"
    assert str(functions.QueriedSample({}, 0.00001)) == "{map[] 1e-05}"
    assert str(functions.to_time(1_700_000_000)) == "2023-11-14 22:13:20 +0000 UTC"


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
    assert [sample.labels["b"] for sample in ordered] == ["2", "3", "1"]


def test_durations_have_a_sign_and_no_fraction() -> None:
    assert functions.parse_duration_seconds("1h2m") == 3720
    assert functions.parse_duration_seconds("-1500ms") == -1.5
    with pytest.raises(ValueError, match="not a valid duration string"):
        functions.parse_duration_seconds("1.5h")
    with pytest.raises(ValueError, match="value is NaN or Inf"):
        functions.to_duration("NaN")


async def test_printf_is_that_of_go() -> None:
    """What promtool 2.42 prints of 521 formats, for `m{a="x y"} 42.5`."""
    scope = TemplateData({"__name__": "m", "a": "x y"}, 42.5)
    rows = golden_rows("printf.jsonl")
    printed = [
        (form, values, await expand(f"{{{{ printf {quote(form)} {values} }}}}", "N", scope))
        for form, values, _ in rows
    ]
    assert printed == [tuple(row) for row in rows]


@given(st.floats(), st.sampled_from("eEfFgGxX"), st.integers(0, 20))
async def test_printf_rounds_as_c_does(value: float, verb: str, precision: int) -> None:
    form = f"%.{precision}{verb}"
    if not math.isfinite(value):
        assert printf(form, value) == {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}[str(value)]
    elif verb in "xX":
        assume(abs(value) < 1e308)  # rounded up it may be none that Python reads back
        assert abs(float.fromhex(str(printf(form, value))) - value) <= abs(value) * 2.0**-precision
    else:
        assert printf(form, value) == form.replace("F", "f") % value
        assert float(str(printf("%g", value))) == value


def test_printf_of_what_is_too_long_is_refused() -> None:
    for form, values in (("%100001d", [1]), ("%.100001f", [1.5]), ("%60000s%60000s", ["a", "b"])):
        with pytest.raises(ValueError, match="the text has more than 100,000 characters"):
            printf(form, *values)


def test_printf_of_samples_and_times() -> None:
    sample = QueriedSample({"a": "b"}, 1.5)
    assert printf("%v %d", sample, 3) == "&{map[a:b] 1.5} 3"


_TIMES = "{{ $t := toTime 1700000000.123 }}{{ $u := toTime 1700003661.5 }}{{ $d := $u.Sub $t }}"
_PLACE = re.compile(r':1:\d+: executing "N" at <.*?>:')  # gotpl knows it of whole commands only


async def _of_times(text: str) -> str:
    scope = TemplateData({"__name__": "m", "j": "x y"}, 42.5)
    return _PLACE.sub(":", await expand_or_error(_TIMES + text, "N", scope))


async def test_times_and_durations_are_those_of_go() -> None:
    """What promtool 2.42 prints of 223 texts; of those that fail, the error without its place."""
    rows = golden_rows("go_time.jsonl")
    texts = [(text, await _of_times(text)) for text, _ in rows]
    assert texts == [(text, _PLACE.sub(":", wanted)) for text, wanted in rows]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{{ $t.UTC "x" }}', "arguments"), ("{{ $t.Year 5 }}", "arguments"),
        ('{{ call $t.Format "2006" }}', "call"),
        ("{{ $t.IsZero.Nope }}", "can't evaluate field Nope"),
        ("{{ ($t.IsZero).Nope }}", "can't evaluate field Nope"),
        ("{{ index $t 0 }}", "index"), ("{{ len $t }}", "len of type *time.Time"),
        ("{{ range $t }}{{ end }}", "range"), ("{{ toUpper $t.Month }}", "toUpper"),
        ("{{ $t.Add 1e30 }}", "expected integer"),
        ("{{ $t.AppendFormat 5 \"06\" }}", "can't handle 5 for arg of type []uint8"),
        ("{{ $t.Format nil }}", "expected string; got <nil>"),
        (f'{{{{ $t.Format "{"x" * 1001}" }}}}', "the layout has more than 1,000 characters"),
        ("{{ ($t.AddDate 9999 0 0).MarshalText }}", "year outside of range"),
        (
            "{{ $x := $t.MarshalText }}"
            + f'{{{{ $x = $t.AppendFormat $x "{"x" * 1000}" }}}}' * 100,
            "the text has more than 100,000 characters",
        ),
        ("{{ humanize $t }}", "can't convert *time.Time to float"),
    ],
)  # fmt: skip
async def test_what_a_time_cannot_do_is_an_error(text: str, said: str) -> None:
    text_of_error = await _of_times(text)
    assert text_of_error.startswith("<error expanding template: ") and said in text_of_error


async def test_times_of_newer_prometheus() -> None:
    assert (
        await _of_times("{{ $t.Compare $u }} {{ $u.Compare $t }} {{ $t.Compare $t }}") == "-1 1 0"
    )
    assert await _of_times("{{ (toDuration 90.5).Round 1000000000 }}") == "1m31s"
    assert await _of_times("{{ (toDuration 5400).Hours }} {{ $t.Add (toDuration 60) }}") == (
        "1.5 2023-11-14 22:14:20.122 +0000 UTC"
    )
    assert await _of_times("{{ (toDuration -90).Abs.Truncate 60000000000 }}") == "1m0s"


async def test_methods_of_times_count_against_the_time_of_a_text() -> None:
    ticks = iter(range(1000))
    scope = TemplateData({}, 1.0, spending=TemplateBudget(cpu=lambda: next(ticks) * 0.1))
    text = "{{ $t := toTime 1 }}" + "{{ $t.UTC.Hour }}" * 9
    assert "the template takes too long" in await expand_or_error(text, "N", scope)
