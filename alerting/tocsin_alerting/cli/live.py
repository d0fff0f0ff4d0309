"""What a running agent says of rules that are checked: which series they select, how high they go.

It is asked by its API, and for little: the names of its metrics, what they are, and the series of
those that the rules name.
"""

import json
import math
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from tocsin_alerting.cli.client import AgentClient
from tocsin_alerting.promql.parser.ast import VectorSelector
from tocsin_alerting.promql.parser.printer import print_expr
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.rules.lint import Lint
from tocsin_alerting.rules.lint_live import SeriesLabels, live_lints
from tocsin_alerting.rules.rule import RecordingRule, RuleGroup
from tocsin_alerting.rules.rule_file import read
from tocsin_alerting.strconv import quote
from tocsin_alerting.yaml_document import Document, InvalidDocument, read_text
from tocsin_alerting.yaml_document import Path as DocumentPath

_LEAST_REACH_MS = 5 * 60_000
_LOOKED_BACK = "7d:5m"


class LiveAgent:
    """The agent that is asked; each thing once. It ends the program when there is no answer."""

    def __init__(
        self,
        agent: AgentClient,
        paths: Iterable[Path],
        semantics: Semantics,
        ignore_unknown: bool = False,
    ) -> None:
        self._agent = agent
        self._recorded = frozenset(_recorded(paths, semantics, ignore_unknown))
        self._series: dict[tuple[str, int], list[SeriesLabels]] = {}

    @cached_property
    def types(self) -> Mapping[str, str]:
        """Of its metrics; one that its sources describe in several ways is of no known type."""
        with self._agent.get("/api/v1/metadata") as data:
            kinds = {name: {entry["type"] for entry in entries} for name, entries in data.items()}
        return {name: kind.pop() if len(kind) == 1 else "" for name, kind in kinds.items()}

    @cached_property
    def _names(self) -> Mapping[str, None]:
        start = {"start": _since(_LEAST_REACH_MS)}
        with self._agent.get("/api/v1/label/__name__/values", start) as data:
            return dict.fromkeys(map(str, data))

    def names(self) -> Collection[str]:
        return self._names

    def series(self, selector: VectorSelector, reach_ms: int) -> Sequence[SeriesLabels]:
        reach = max(reach_ms, _LEAST_REACH_MS)
        text = f"{{__name__={quote(selector.name)}}}" if selector.name else _bare_text(selector)
        if selector.name and reach == _LEAST_REACH_MS and selector.name not in self._names:
            return []
        key = text, reach
        if key not in self._series:
            asked = {"match[]": text, "start": _since(reach)}
            asked |= {} if selector.name else {"limit": "1"}
            with self._agent.get("/api/v1/series", asked) as data:
                self._series[key] = [dict(labels) for labels in data]
        return self._series[key]

    def highest(self, expr: str) -> float | None:
        """What takes the agent too long, or too many samples, is not known."""
        asked = {"query": f"max(max_over_time(({expr})[{_LOOKED_BACK}]))"}
        status, text = self._agent.ask("GET", "/api/v1/query", params=asked)
        if status != 200:
            return None
        with self._agent.understood():
            values = [float(sample["value"][1]) for sample in json.loads(text)["data"]["result"]]
        return next((value for value in values if math.isfinite(value)), None)

    def lints(
        self,
        document: Document,
        groups: Iterable[RuleGroup],
        chosen: Collection[str],
        root: DocumentPath,
    ) -> Iterator[Lint]:
        return live_lints(document, groups, self, self._recorded, chosen, root)


def _bare_text(selector: VectorSelector) -> str:
    """Without what `match[]` does not take: offset, `@` and the like."""
    return re.sub(r"\}[^}]*$", "}", print_expr(selector))


def _since(reach_ms: int) -> str:
    return f"{time.time() - reach_ms / 1000:.3f}"  # noqa: TID251  (the command line's own clock)


def _recorded(paths: Iterable[Path], semantics: Semantics, ignore_unknown: bool) -> Iterator[str]:
    """The names that the rules of the files give; what is wrong in one is said by its check."""
    for path in paths:
        try:
            text, name = read_text(str(path)), str(path)
            file = read(text, name, semantics=semantics, ignore_unknown=ignore_unknown)
        except InvalidDocument:
            continue
        rules = (rule for group in file.groups for rule in group.rules)
        yield from (rule.name for rule in rules if isinstance(rule, RecordingRule))
