"""Unit-test files: read whole, and strictly, with every problem placed."""

import pytest

from tocsin_alerting.rules.rule_test_file import ExpectedAlert, InputSeries, read_tests
from tocsin_alerting.yaml_document import InvalidDocument

FULL = """
rule_files: [a.yml, "b*.yml"]
evaluation_interval: 30s
group_eval_order: [g2, g1]
fuzzy_compare: true
tests:
  - name: first
    interval: 15s
    start_timestamp: 2026-01-31T12:00:00Z
    external_labels: {dc: z}
    external_url: http://x
    input_series:
      - series: m{a="b"}
        values: 1 _ stale
    alert_rule_test:
      - eval_time: 10m
        alertname: X
        exp_alerts:
          - exp_labels: {k: 1}
            exp_annotations: {s: text}
    promql_expr_test:
      - expr: m > 5
        eval_time: 20m
        exp_samples:
          - {labels: 'm{a="b"}', value: 6}
          - {labels: '{}', value: .inf}
  - {}
"""


def test_a_file_is_read_whole() -> None:
    file = read_tests(FULL, "t.yml")
    first, second = file.tests
    assert (file.rule_files, file.interval_ms, file.group_order, file.fuzzy) == (
        ("a.yml", "b*.yml"), 30_000, ("g2", "g1"), True,
    )  # fmt: skip
    assert (first.name, first.interval_ms, first.start_ms) == ("first", 15_000, 1769860800_000)
    assert first.series == (
        InputSeries((("__name__", "m"), ("a", "b")), (1.0, None, "stale")),
    )  # fmt: skip
    (case,) = first.alerts
    assert (case.eval_ms, case.alertname) == (600_000, "X")
    assert case.expected == (ExpectedAlert((("alertname", "X"), ("k", "1")), (("s", "text"),)),)
    assert first.exprs[0].expected[1] == ((), float("inf"))
    assert (first.external_labels, first.external_url) == ({"dc": "z"}, "http://x")
    assert first.end_ms == first.start_ms + 1_200_000
    assert (second.interval_ms, second.start_ms, second.end_ms) == (30_000, 0, 0)


WRONG = """
rule_file: [a.yml]
evaluation_interval: 1 minute
group_eval_order: [g, g]
fuzzy_compare: maybe
tests:
  - intervall: 1m
    start_timestamp: yesterday
    input_series:
      - {series: 'm{a=b}', values: '1 2 x'}
      - {series: m, value: 1}
    alert_rule_test:
      - eval_time: 1
        exp_alerts: {}
    promql_expr_test:
      - expr: sum(
        exp_samples: [{labels: m, value: many, histogram: '{{}}'}]
"""
TOLD = [
    ('2:1', 'unknown key "rule_file" in a test file; did you mean "rule_files"?'),
    ('3:22', '"evaluation_interval": not a valid duration string: "1 minute"'),
    ("4:23", "group name repeated in evaluation order: g"),
    ("5:16", '"fuzzy_compare" must be true or false, not text'),
    ("7:5", 'unknown key "intervall" in a test; did you mean "interval"?'),
    ("8:22", '"yesterday" is neither Unix seconds nor like 2026-01-31T12:00:00Z'),
    ("10:21", 'not label="value"'),
    ("10:41", '"x" is no value'),
    ("11:21", 'unknown key "value" in a series; did you mean "values"?'),
    ("13:9", "misses required attribute alertname"),
    ("13:20", '"eval_time": not a valid duration string: "1"'),
    ("14:21", "exp_alerts must be a list, not a mapping"),
    ("17:42", '"value" must be a number, not many'),
    ("17:48", "native histograms are not supported in tests"),
]  # fmt: skip


def test_every_problem_is_told_with_its_place() -> None:
    with pytest.raises(InvalidDocument) as caught:
        read_tests(WRONG, "t.yml")
    problems = [
        (f"{problem.line}:{problem.column}", problem.message) for problem in caught.value.problems
    ]
    assert [place for place, _ in problems] == [place for place, _ in TOLD]
    for (_, message), (_, wanted) in zip(problems, TOLD, strict=True):
        assert wanted in message


@pytest.mark.parametrize(
    "text", [".inf", "inf", "1e300", "1_000", "2026-01-31", "2026-01-31T12:00:00"]
)
def test_a_test_begins_at_unix_seconds_or_rfc_3339(text: str) -> None:
    with pytest.raises(InvalidDocument, match="is neither Unix seconds nor like") as refused:
        read_tests(f"tests:\n  - start_timestamp: {text}\n", "t.yml")
    (problem,) = refused.value.problems
    assert (problem.line, problem.column) == (2, 22)


@pytest.mark.parametrize("key", ["alert_rule_test", "promql_expr_test"])
def test_a_test_of_ten_years_by_the_second_is_refused_with_words(key: str) -> None:
    case = (
        "{alertname: A, eval_time: 3650d}"
        if key == "alert_rule_test"
        else "{eval_time: 3650d, expr: m}"
    )
    text = f"evaluation_interval: 1s\ntests:\n  - {key}: [{case}]\n"
    with pytest.raises(InvalidDocument) as raised:
        read_tests(text, "t.yml")
    assert str(raised.value) == (
        "t.yml:3:5: an eval_time of 10y takes 315,360,000 evaluations, one each 1s, and a test may"
        " take 1,000,000; raise evaluation_interval, or test sooner"
    )
    assert read_tests(text.replace("1s", "1h"), "t.yml").tests
