"""The metrics that boards and rules of others ask for, and which of them our pages have.

    python scripts/board_metrics.py NAME=FILE[,FILE...] ...

A FILE is a Grafana board as JSON, a rule file, or a mixin's libsonnet. Prints YAML: for each NAME
the metrics in the order of the alphabet. tests/exporter/recorded/boards.yml is made so; boards and
mixins themselves stay with their authors.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_QUERIES = {"expr", "query", "definition", "record"}
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_MATCHERS = re.compile(r"\{[^{}]*\}")
_VARIABLES = re.compile(r"\$\w+|\$\{[^}]*\}|\[\[\w+\]\]|%\(\w+\)s")
_RANGES = re.compile(r"\[[^\]]*\]")
_LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)")
_NAME = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?![\w:]*\s*\()")
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "inf", "nan"}
_WORDS |= {"group_left", "group_right", "e"}
_IN_LIBSONNET = re.compile(
    r"(?<![\w$.:])(?:(?:node|process|scrape|go)_[a-z]\w*|instance:\w+(?::\w+)*|up(?=\{))"
)


def names(query: str) -> set[str]:
    """The metrics of one query; `label_values(node_load1, job)` asks for one as well."""
    variable = re.fullmatch(r"\s*label_values\((.*),\s*\w+\s*\)\s*", query, re.DOTALL)
    if variable:
        query = variable[1]
    elif re.fullmatch(r"\s*(label_values|label_names|query_result)\(\w*\)\s*", query):
        return set()
    for pattern in (_TEXT, _VARIABLES, _MATCHERS, _RANGES, _LABELS):
        query = pattern.sub(" ", query)
    return {name for name in _NAME.findall(query) if name.lower() not in _WORDS}


def queries(board: Any) -> Iterator[str]:
    if isinstance(board, dict):
        is_choice = board.get("type") == "datasource"  # its query is the kind of data source
        for key, value in board.items():
            if key in _QUERIES and not is_choice and isinstance(value, str):
                yield value
            yield from queries(value)
    elif isinstance(board, list):
        for value in board:
            yield from queries(value)


def of_file(path: Path) -> set[str]:
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return {name for query in queries(json.loads(content)) for name in names(query)}
    code = re.sub(r"(?m)(//|#).*$", "", content)
    return set(_IN_LIBSONNET.findall(code))


def recorded(path: Path) -> set[str]:
    """What its rules record themselves."""
    content = path.read_text(encoding="utf-8")
    return set(re.findall(r"record: ['\"]?([\w:]+)", re.sub(r"%\(\w+\)s", "", content)))


def main(given: list[str]) -> None:
    for each in given:
        name, _, files = each.partition("=")
        paths = [Path(file) for file in files.split(",")]
        asked = {metric for path in paths for metric in of_file(path)}
        asked -= {metric for path in paths for metric in recorded(path)}
        print(f"{name}:")
        for metric in sorted(asked):
            print(f"  - {metric}")


if __name__ == "__main__":
    main(sys.argv[1:])
