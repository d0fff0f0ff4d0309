"""Templates beside the real promtool: what it writes into an alert, we write."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from support.promtool import needs_promtool, run_tests
from support.scripted_engine import Rows, row
from tocsin_alerting.rules.template import expand_or_error
from tocsin_alerting.rules.template_data import TemplateData

NUMBERS = """0 1 -1 0.5 1e-5 0.0001 0.00123 2.5e-7 3.14159265 59.99 60 100 3661 90061.7 123456
  999999 1e6 1048576 1234567 1643114203 1e20 1e21 1e22 NaN +Inf -Inf""".split()
OF_A_NUMBER = {
    "as_it_is": "{{ $value }} {{ .Value }} {{ print $value }}",
    "humanized": "{{ humanize $value }} {{ humanize1024 $value }}",
    "duration": "{{ humanizeDuration $value }}",
    "share": "{{ humanizePercentage $value }}",
    "formatted": '{{ printf "%.2f|%v|%g|%e|%8.3f" $value $value $value $value $value }}',
    "timestamp": "{{ humanizeTimestamp $value }}",
    "year": "{{ (toTime $value).Year }}",
    "compared": "{{ if gt $value 1.0 }}more{{ else if eq $value 1.0 }}one{{ else }}less{{ end }}",
}
TEXTS = [
    "{{ $labels }}",
    "<{{ $labels.missing }}>",
    '{{ .Labels.instance }} {{ index .Labels "instance" }} {{ len $labels }}',
    "{{ range $name, $text := $labels }}{{ $name }}={{ $text }},{{ end }}",
    '{{ with query "up" | sortByLabel "instance" }}{{ . | first | value }}{{ end }}',
    '{{ query "up" | sortByLabel "instance" | first | label "instance" }}',
    '{{ range query "up" | sortByLabel "instance" }}{{ .Labels.instance }}={{ .Value }};{{ end }}',
    '{{ query "absent_metric" | first | value }}',
    '{{ title "the QUICK brown-fox" }} {{ toUpper "aé" }} {{ toLower "AÉ" }}',
    '{{ stripPort "[::1]:80" }} {{ stripPort "host:80" }} {{ stripPort "host" }}',
    '{{ stripDomain "gpu1.rack.example:80" }} {{ stripDomain "10.0.0.1:9100" }}',
    '{{ match "[0-9]+" "gpu7" }} {{ match "^gpu$" "cpu" }}',
    '{{ reReplaceAll "(.*)-(.*)" "$2-$1" "left-right" }}',
    '{{ graphLink "up{job=\\"j\\"} > 1" }} {{ tableLink "up" }}',
    '{{ define "pair" }}{{ .arg0 }}/{{ .arg1 }}{{ end }}{{ template "pair" (args 1 "b") }}',
    '{{ safeHtml "<b>" }} <{{ "a<b" }}> {{ js "a\'b" }} {{ urlquery "a b&c" }}',
    '{{ parseDuration "1h2m" }}',
    '{{ and $labels.instance "y" }} {{ or "" "z" }} {{ not true }}',
    'a {{- " b " -}} c{{/* not shown */}}',
    "{{ $count := 3 }}{{ $count }} {{ if false }}a{{ else if true }}b{{ end }}",
    '{{ printf "%s|%v|%d|%q|%t" "s" $value 3 "q" true }}',
    '{{ humanize "1234567" }} {{ humanize1024 "1024" }}',
    "two\nlines {{ $value }}",
    "{{ if gt $value 1 }}an integer beside a float{{ end }}",
    '{{ humanize "abc" }}',
    "{{ .Missing }}",
]  # fmt: skip
NOT_A_NUMBER = ("compared", {"v": "NaN"})  # Go's `gt` is "not less or equal", gotpl's is not
UP = [
    row(1.0, __name__="up", instance="b", job="j"),
    row(0.0, __name__="up", instance="a", job="j"),
]
_TEXT = re.compile(r'(\w+)=("(?:\\.|[^"\\])*")')


def rules() -> list[dict[str, object]]:
    texts: list[dict[str, object]] = [
        {"alert": f"Text{number}", "expr": "one", "annotations": {"text": text}}
        for number, text in enumerate(TEXTS)
    ]
    return [{"alert": "Number", "expr": "number", "annotations": OF_A_NUMBER}, *texts]


def series() -> dict[str, str]:
    numbers = {f'number{{v="{value}"}}': value for value in NUMBERS}
    return numbers | {
        'one{instance="i:1"}': "7",
        'up{instance="b",job="j"}': "1",
        'up{instance="a",job="j"}': "0",
    }


def rendered(folder: Path) -> Iterator[tuple[str, dict[str, str], dict[str, str]]]:
    """Name, labels and annotations of each alert: a test that expects none shows what there is."""
    (folder / "rules.yml").write_text(yaml.dump({"groups": [{"name": "g", "rules": rules()}]}))
    samples = [{"series": name, "values": value} for name, value in series().items()]
    expected = [{"alertname": rule["alert"], "eval_time": "0m"} for rule in rules()]
    case = {"interval": "1m", "input_series": samples, "alert_rule_test": expected}
    test = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [case]}
    (folder / "test.yml").write_text(yaml.dump(test))
    name, labels = "", {}
    for line in run_tests(folder / "test.yml")[1].splitlines():
        if match := re.match(r" +alertname: (\S+), time", line):
            name = match[1]
        elif match := re.match(r" +Labels:\{(.*)\}$", line):
            labels = {key: json.loads(text) for key, text in _TEXT.findall(match[1])}
        elif match := re.match(r" +Annotations:\{(.*)\},?$", line):
            yield name, labels, {key: json.loads(text) for key, text in _TEXT.findall(match[1])}


async def ask(query: str) -> Rows:
    return UP if query.startswith("up") else []


@needs_promtool
async def test_it_renders_what_promtool_renders(tmp_path: Path) -> None:
    texts = {rule["alert"]: rule["annotations"] for rule in rules()}
    metrics = {rule["alert"]: rule["expr"] for rule in rules()}
    wrong, count = [], 0
    for name, labels, theirs in rendered(tmp_path):
        own = {key: text for key, text in labels.items() if key != "alertname"}
        data = TemplateData(
            {"__name__": str(metrics[name]), **own}, float(own.get("v", "7")), 0, {}, "", ask
        )
        annotations = texts[name]
        assert isinstance(annotations, dict)
        for key, text in annotations.items():
            ours = await expand_or_error(text, f"__alert_{name}", data)
            if ours != theirs[key] and (key, own) != NOT_A_NUMBER:
                wrong.append((name, key, own, ours, theirs[key]))
        count += 1
    assert wrong == []
    assert count == len(NUMBERS) + len(TEXTS)
