"""Templates: our own cases; test_template_promtool.py has those of the real promtool."""

import asyncio
import re
import time
import tracemalloc
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.scripted_engine import Rows, row
from support.virtual_time import VirtualTimeLoop
from tocsin_alerting.rules.template import (
    CHECKED,
    CHECKED_FUNCTIONS,
    ExpansionFailed,
    TemplateSyntaxProblem,
    _plain,
    check,
    expand,
    expand_label,
    expand_or_error,
    parses,
)
from tocsin_alerting.rules.template_data import (
    CURRENT_DATA,
    RULE_CPU_SECONDS,
    RULE_WAIT_SECONDS,
    TEXT_WAIT_SECONDS,
    TemplateBudget,
    TemplateData,
    TemplateTimeout,
)
from tocsin_alerting.rules.template_functions import FUNCTIONS

LABELS = {"__name__": "one", "instance": "i:1", "job": "x"}
UP = [row(1.0, __name__="up", instance="b"), row(0.0, __name__="up", instance="a")]


async def ask(text: str) -> Rows:
    return UP if text.startswith("up") else []


def scope(value: float = 7.0, **labels: str) -> TemplateData:
    return TemplateData(labels or LABELS, value, 90_500, {"dc": "z"}, "http://h:9/pfx", ask)


CASES = {
    "plain text }} stays": "plain text }} stays",
    "{{ $value }}": "7",
    "{{ .Value }} {{ $labels.job }} {{ .Labels.instance }}": "7 x i:1",
    "[{{ $labels.nope }}]": "[]",
    "{{ $labels }}": "map[__name__:one instance:i:1 job:x]",
    "{{ $externalLabels.dc }} {{ $externalURL }} {{ externalURL }} {{ pathPrefix }}": (
        "z http://h:9/pfx http://h:9/pfx /pfx"
    ),
    "{{ $value | humanize }} {{ humanizePercentage 0.5 }} {{ humanizeDuration 61 }}": "7 50% 1m 1s",
    '{{ printf "%.2f %s %d %q %5.1f|" $value "s" 3 "q" 2.25 }}': '7.00 s 3 "q"   2.2|',
    '{{ query "up" | first | value }} {{ query "up" | first | label "instance" }}': "1 b",
    '{{ range query "up" | sortByLabel "instance" }}{{ .Labels.instance }} {{ end }}': "a b ",
    '{{ with query "nope" }}{{ . | first | value }}{{ else }}nothing{{ end }}': "nothing",
    "{{ if gt $value 5.0 }}high{{ else if lt $value 1.0 }}low{{ end }}": "high",
    '{{ reReplaceAll "(.*)-(?P<b>.*)" "${b}-$1$$" "x-y" }}': "y-x$",
    '{{ match "[0-9]+" "ab1" }} {{ match "^a$" "b" }}': "true false",
    '{{ title "hELLO wORLD foo-bar" }} {{ toUpper "aé" }} {{ toLower "AÉ" }}': (
        "HELLO WORLD Foo-Bar AÉ aé"
    ),
    '{{ stripPort "[::1]:80" }} {{ stripPort "h" }} {{ stripDomain "a.b:80" }}': "::1 h a:80",
    '{{ stripDomain "10.0.0.1:9" }}': "10.0.0.1:9",
    '{{ tableLink "up > 1" }}': "/graph?g0.expr=up+%3E+1&g0.tab=1",
    '{{ define "t" }}{{ .arg0 }}/{{ .arg1 }}{{ end }}{{ template "t" (args 1 "b") }}': "1/b",
    '{{ parseDuration "1h2m" }} {{ parseDuration "-1m" }}': "3720 -60",
    "{{ now }} {{ (toTime now).Year }} {{ toDuration 90 }}": "90.5 1970 1m30s",
    '{{ (toTime 1643114203.0).Format "15:04" }}': "12:36",
    'a {{- " b " -}} c{{/* gone */}}': "a b c",
    "{{ range $k, $v := $labels }}{{ $k }}={{ $v }},{{ end }}": (
        "__name__=one,instance=i:1,job=x,"
    ),
    '{{ safeHtml "<b>" }}{{ urlQueryEscape "a b" }}': "<b>a+b",
}


@pytest.mark.parametrize(("text", "wanted"), CASES.items())
async def test_a_template_expands(text: str, wanted: str) -> None:
    assert await expand(text, "__alert_N", scope()) == wanted


ERRORS = {
    "{{ toTime $value }}": 'N:1:115: executing "N" at <toTime $value>: error calling toTime: value'
    " is NaN or Inf",
    '{{ query "nope" | first | value }}': 'N:1:130: executing "N" at <first>: error calling first:'
    " first() called on vector with no elements",
    "{{ .Foo }}": 'N:1:115: executing "N" at <.Foo>: can\'t evaluate field Foo in type struct {',
    "a\n{{ gt $value 1 }}": 'N:2:3: executing "N" at <gt $value 1>: error calling gt: incompatible',
    '{{ reReplaceAll "(" "" "x" }}': "error calling reReplaceAll: regexp: Compile(`(`):",
    '{{ query "up{" | first }}': "error calling query: ",
    "{{ humanize }}": "wrong number of args for humanize: want 1 got 0",
    "{{ toUpper 3 }}": 'N:1:115: executing "N" at <toUpper 3>:',
    "{{ toUpper $value }}": "wrong type for value; expected string; got float64",
    "{{ stripPort nil }}": "wrong type for value; expected string; got nil",
    "{{ first 5 }}": "wrong type for value; expected template.queryResult; got int",
    "{{ first $labels }}": "expected template.queryResult; got map[string]string",
    "{{ first nil }}": "first() called on vector with no elements",
    '{{ label "a" 5 }}': "wrong type for value; expected *template.sample; got int",
    '{{ sortByLabel "a" true }}': "expected template.queryResult; got bool",
    '{{ range $i, $c := "aé" }}{{ end }}': "range can't iterate over string",
    "{{ range $value }}{{ end }}": "range can't iterate over float64",
    "{{ humanize $labels }}": "error calling humanize: can't convert map[string]string to float",
    "{{ urlQueryEscape 5 }}": "wrong type for value; expected string; got int",
    "{{ safeHtml 5 }}": "wrong type for value; expected string; got int",
    "{{ index $labels 5 }}": "error calling index: value has type int; should be string",
    "{{ index $labels nil }}": "error calling index: value has type <nil>; should be string",
    '{{ index $labels "a" "b" }}': "cannot index slice/array with type string",
    '{{ index "abc" 10 }}': "error calling index: index out of range: 10",
    "{{ index 5 5 }}": "error calling index: can't index item of type int",
    "{{ len 5 }}": "error calling len: len of type int",
    "{{ slice $value 1 }}": "error calling slice: can't slice item of type float64",
    '{{ tmpl "x" }}': 'function "tmpl" not defined',
    '{{ define "t" }}{{ template "t" . }}{{ end }}{{ template "t" . }}': "",
}


@pytest.mark.parametrize(("text", "wanted"), ERRORS.items())
async def test_a_failure_is_told_in_gos_words(text: str, wanted: str) -> None:
    async def query(expression: str) -> Rows:
        if expression == "up{":
            raise ValueError("1:4: parse error: unexpected end of input")
        return []

    with pytest.raises(ExpansionFailed) as caught:
        await expand(text, "N", TemplateData(LABELS, float("nan"), query=query))
    assert re.match("error (executing|parsing) template N: template: ", str(caught.value))
    assert wanted in str(caught.value)
    assert not re.search(r"\b(str|GoNumber|TypedMap|list|float|object)\b", str(caught.value)) or (
        "to float" in str(caught.value)
    )


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("{{ $labels.a.b }}", "string"),
        ("{{ .Labels.instance.x }}", "string"),
        ("{{ $externalLabels.nope.x }}", "string"),
        ("{{ $value.x }}", "float64"),
        ("{{ (toTime 5).Nope }}", "*time.Time"),
    ],
)
async def test_a_field_that_is_none_is_an_error(text: str, kind: str) -> None:
    with pytest.raises(ExpansionFailed, match=f"can't evaluate field .* in type {re.escape(kind)}"):
        await expand(text, "N", scope())


async def test_the_dot_prints_as_a_struct_does_in_go() -> None:
    data = TemplateData(
        {"b": "1", "a": "2"}, 1.5, external_labels={"dc": "x"}, external_url="http://h"
    )
    assert await expand("{{ . }}", "N", data) == "{map[a:2 b:1] map[dc:x] http://h 1.5}"


async def test_an_alert_fires_with_the_failure_as_its_text() -> None:
    text = await expand_or_error('{{ humanize "abc" }}', "__alert_N", scope())
    assert text == (
        "<error expanding template: error executing template __alert_N: template: __alert_N:1:115:"
        ' executing "__alert_N" at <humanize "abc">: error calling humanize: strconv.ParseFloat:'
        ' parsing "abc": invalid syntax>'
    )
    assert (await expand_or_error("{{ nosuch }}", "N", scope())).startswith(
        "<error expanding template: error parsing template N: template: N:1: "
    )


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("{{ nosuch 1 }}", 3, 'function "nosuch" not defined'),
        ("one\n{{ $x }}", 7, 'undefined variable "$x"'),
        ("{{ if }}", 6, "missing value"),
        ("{{ end }}", 0, "unexpected end"),
        ("é {{ $y }}", 5, 'undefined variable "$y"'),
        ("{{ humanize $value", 0, "unclosed action"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", 103, "nesting limit exceeded"),
    ],
)
def test_what_is_no_template_is_refused_with_its_place(
    text: str, offset: int, message: str
) -> None:
    with pytest.raises(TemplateSyntaxProblem, match=re.escape(message)) as caught:
        check(text)
    assert caught.value.offset == offset


async def hundred(_: str) -> Rows:
    return [((("n", str(number)),), 1.0) for number in range(100)]


# Each took seconds to for ever, or gigabytes; all are texts that a rule file may hold.
BOMBS = {
    "wide": '{{printf "%1000000d%1000000d" 1 2}}',
    "queries": '{{range query "a"}}{{range query "a"}}{{range query "a"}}{{end}}{{end}}{{end}}',
    "print": '{{$x := "aa"}}{{range query "a"}}{{$x = print $x $x}}{{end}}{{len $x}}',
    "printf": '{{$x := "aa"}}{{range query "a"}}{{$x = printf "%s%s" $x $x}}{{end}}{{len $x}}',
    "replaced": '{{$x := "a"}}{{range query "a"}}{{$x = reReplaceAll "a" "aaa" $x}}{{end}}',
    "escaped": '{{$x := "%"}}{{range query "a"}}{{$x = urlquery $x}}{{end}}{{len $x}}'
    '{{range query "a"}}{{range query "a"}}{{$x = print $x $x}}{{end}}{{end}}',
    "slow": '{{$x := printf "%90000d" 1}}{{range query "a"}}{{range query "a"}}'
    "{{$y := title $x}}{{end}}{{end}}",
    "loops": '{{$q := query "a"}}{{range $q}}{{range $q}}{{range $q}}{{end}}{{end}}{{end}}',
    "recursion": '{{define "a"}}{{template "a"}}{{template "a"}}{{end}}{{template "a"}}',
    "by its dot": '{{define "a"}}{{template "a" (print . .)}}{{end}}{{template "a" "aa"}}',
}


@pytest.mark.parametrize("name", BOMBS)
async def test_no_text_takes_more_than_its_share(name: str) -> None:
    tracemalloc.start()
    began = time.thread_time()
    text = await expand_or_error(BOMBS[name], "N", TemplateData(LABELS, 1.0, query=hundred))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert text.startswith("<error expanding template: error executing template N")
    assert time.thread_time() - began < 20 and most < 50_000_000


async def test_all_alerts_of_a_rule_together_have_a_share() -> None:
    cpu = 0.0
    spending = TemplateBudget(lambda: cpu)
    scope = TemplateData(LABELS, 1.0, spending=spending)
    for _ in range(3):
        cpu += 100.0  # between the texts: others' work
        assert await expand("{{ title $labels.job }}", "N", scope)
    with spending.text():
        cpu += RULE_CPU_SECONDS + 1
    text = await expand_or_error("{{ title $labels.job }}", "N", scope)
    assert "error calling title: the template takes too long" in text


async def test_a_label_out_of_time_fails_the_evaluation_and_changes_no_alert() -> None:
    text = '{{range query "a"}}{{range query "a"}}{{with query "b"}}{{end}}{{end}}{{end}}'
    scope = TemplateData(LABELS, 1.0, query=hundred)
    with pytest.raises(TemplateTimeout, match="more than 100 queries"):
        await expand_label(text, "N", scope)
    assert await expand_label('{{ printf "%d" }}', "N", scope) == "%!d(MISSING)"
    assert (await expand_label("{{ first }}", "N", scope)).startswith("<error expanding")


async def never(_: str) -> Rows:
    return await asyncio.Future()


def test_queries_that_are_not_answered_end_with_the_texts_share() -> None:
    """The others of that evaluation do not wait at all: the disk hangs, and the page is due."""

    async def story() -> None:
        clock = asyncio.get_running_loop().time
        asking = TemplateData(LABELS, 1.0, query=never)
        for waited in (TEXT_WAIT_SECONDS, 0.0, 0.0):
            began = clock()
            said = await expand_or_error('{{ query "a" }}{{ query "b" }}', "N", asking)
            assert "the queries of the template take too long" in said
            assert clock() - began == pytest.approx(waited)
        with pytest.raises(TemplateTimeout):
            await expand_label('{{ query "a" }}', "N", asking)

    _virtually(story())


def test_slow_answers_end_with_the_rules_share() -> None:
    async def slow(_: str) -> Rows:
        await asyncio.sleep(TEXT_WAIT_SECONDS * 0.6)
        return []

    async def story() -> None:
        asking = TemplateData(LABELS, 1.0, query=slow)
        for _ in range(int(RULE_WAIT_SECONDS / TEXT_WAIT_SECONDS / 0.6)):
            assert await expand('{{ query "a" }}', "N", asking)
        began = asyncio.get_running_loop().time()
        for _ in range(9):
            assert "too long" in await expand_or_error('{{ query "a" }}', "N", asking)
        assert asyncio.get_running_loop().time() - began < TEXT_WAIT_SECONDS

    _virtually(story())


def _virtually(story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(story)


async def test_a_label_pays_for_no_other_text() -> None:
    asking = TemplateData(LABELS, 1.0, query=hundred)
    greedy = '{{range query "a"}}{{range query "a"}}{{with query "b"}}{{end}}{{end}}{{end}}'
    assert "more than 100 queries" in await expand_or_error(greedy, "N", asking)
    assert await expand_label("page", "N", asking) == "page"
    assert await expand_label("{{ $labels.job }}", "N", asking) == "x"


@pytest.mark.parametrize(
    ("text", "said"),  # what Prometheus 2.42 prints
    [
        ('{{printf "%999999999d" 1}}', "%!(NOVERB)%!(EXTRA int=1)"),
        ('{{printf "x%*d|%d" 999999999 1 2}}', "x%!(BADWIDTH)1|2"),
        ('{{printf "%.999999999f" 1.5}}', "%!(NOVERB)%!(EXTRA float64=1.5)"),
        ('{{printf "%%999999999d" 1}}', "%999999999d%!(EXTRA int=1)"),
        ('{{printf "%.*f" 999999999 1.5}}', "%!(BADPREC)1.500000"),
        ('{{printf "%3d|%-3d|%*d" 1 2 4 3}}', "  1|2  |   3"),
    ],
)
async def test_a_width_that_is_too_large_to_go(text: str, said: str) -> None:
    assert await expand(text, "N", TemplateData(LABELS, 1.0)) == said


@settings(deadline=None)
@given(
    st.text(max_size=20),
    st.floats(allow_nan=False),
    st.sampled_from(["%v", "%5.2f", "%q", "%s %d"]),
)
async def test_bounded_functions_say_what_gotpls_own_say(
    text: str, value: float, form: str
) -> None:
    scope = TemplateData({"a": text}, value)
    own = f'{{{{ printf "{form}" $labels.a $value | print "x" }}}}{{{{ html $labels.a }}}}'
    assert await expand(own, "N", scope) == await expand(own + "{{/* = */}}", "N", scope)


PIECES = st.sampled_from(
    [
        "text ", "}} ", "{", "{{ $labels.a }}", "{{.Labels.b_1}}", "{{ $labels.none }}",
        "{{ $value }}", "{{.Value}}", "{{ $value | humanize }}", "{{ $value|humanizePercentage }}",
        "{{ $value | humanizeDuration}}", "{{ $value | humanize1024 }}", "{{$labels.a|toUpper}}",
        "{{ $labels.a | title }}", "{{ $labels.b_1 | stripPort }}", "{{ $labels.a | humanize }}",
        '{{ printf "%.2f" $value }}', "{{ $value|humanizeTimestamp }}", "{{ $labels.a | noSuch }}",
        "{{ $value | toUpper }}", "{{ $labels.a | stripDomain }}", "{{ $labels.a | len }}",
    ]
)  # fmt: skip
VALUES = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1e21, 1e20, 999_999.0, 0.1, 12.5, 1e-5, 2.0**53]),
)
TEXTS = st.one_of(
    st.text(max_size=8), st.sampled_from(["host-1.example.com:8000", "12", "1e3", ""])
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=5), VALUES, TEXTS, TEXTS)
def test_plain_texts_are_what_the_whole_language_makes_of_them(
    pieces: list[str], value: float, a: str, b: str
) -> None:
    text, seen = "".join(pieces), scope(value, a=a, b_1=b)
    # An assignment of nothing is no plain action, so the whole language is used.
    whole = "{{ $nothing := 0 }}" + text
    assert asyncio.run(_expanded(text, seen)) == asyncio.run(_expanded(whole, seen))


async def _expanded(text: str, seen: TemplateData) -> str | None:
    """None where it fails: the words name another place."""
    try:
        return await expand(text, "t", seen)
    except ExpansionFailed:
        return None


@pytest.mark.parametrize(
    "text", ["{{ $labels.a }} at {{ $value | humanize }}", 'x{{ printf "%.1f" $value }}']
)
def test_the_usual_text_needs_no_language(text: str) -> None:
    seen = scope(3.0, a="b")
    token = CURRENT_DATA.set(seen)
    assert _plain(text, seen) is not None
    CURRENT_DATA.reset(token)


async def test_the_loop_turns_between_the_queries_of_a_text() -> None:
    """Answers that are there at once would let one text keep everybody else waiting."""
    turns: list[int] = []

    async def others() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def answer() -> Rows:
        return []

    other = asyncio.create_task(others())
    spending = TemplateBudget()
    with spending.text():
        for _ in range(20):
            await spending.query(answer)
    other.cancel()
    assert len(turns) >= 20


@pytest.mark.parametrize(
    "text",
    [
        '{{ ("x").zfill 99999999999 }}', '{{ $x := "{0.__class__}" }}{{ $x.format $value }}',
        '{{ $labels := "x" }}{{ $labels.upper }}', '{{ with "x" }}{{ .upper }}{{ end }}',
        "{{ range args 5 }}{{ .bit_length }}{{ end }}", '{{ (query "up").clear }}',
        '{{ template "t" "x" }}{{ define "t" }}{{ .upper }}{{ end }}',
        '{{ (printf "x").upper }}', "{{ $externalURL.upper }}", "{{ .ExternalURL.upper }}",
        "{{ (toTime 1).IsZero.real }}", "{{ $labels.a.upper }}", "{{ $value.hex }}",
        '{{ ("x" | toUpper)\n.lower }}', '{{ block "t" "x" }}{{ .upper }}{{ end }}',
        "{{ (1).Nope }}", "{{ now.hex }}", '{{ (index $labels "a").upper }}',
    ],
)  # fmt: skip
async def test_no_field_is_one_of_python(text: str) -> None:
    async def up(text: str) -> Rows:
        return []

    scope = TemplateData({"a": "b"}, 1.0, external_url="http://h/", query=up)
    assert (await expand_or_error(text, "N", scope)).startswith("<error expanding template: ")


_PARTS = (
    *("{{", "}}", " ", "-", "|", "(", ")", "$value", "$labels", "$labels.a", ".Value", ".Labels.b"),
    *(
        " | humanize",
        "printf ",
        '"%.2f"',
        "humanize ",
        "query ",
        '"up"',
        "1.5",
        "text",
        "{",
        "}",
        ".",
    ),
    *("if ", "end", "\n", "{{ ", " }}", "{{- ", " -}}", "nosuch ", "humanize1024 $value", '"'),
)


@given(st.lists(st.sampled_from(_PARTS), max_size=10))
def test_a_text_that_passes_without_the_language_is_a_template(parts: list[str]) -> None:
    text = "".join(parts)
    for whole in (text, f"{{{{ {text} }}}}"):
        assert not CHECKED.fullmatch(whole) or parses(whole)


def test_the_usual_text_is_checked_without_the_language() -> None:
    text = 'a {{ $labels.x }} b {{- $value | humanize }}B {{ printf "%.2f" $value }} of {{$value}}'
    assert CHECKED.fullmatch(text)
    assert set(CHECKED_FUNCTIONS) <= set(FUNCTIONS)
    for broken in ("{{ $valu }}", "{{{ $value }}}", "{{ $value | nosuch }}", "{{ $value"):
        with pytest.raises(TemplateSyntaxProblem):
            check(broken)
