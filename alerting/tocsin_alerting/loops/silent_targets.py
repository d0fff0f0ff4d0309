"""TargetSilent: a source that rules read, or a target of a scrape job, that says nothing any more,
where no rule says so."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from tocsin_alerting.loops.meta_alerts import End, Groups
from tocsin_alerting.promql.parser.ast import VectorSelector
from tocsin_alerting.rules.alert import Alert, AlertState, EventKind, plus
from tocsin_alerting.rules.meta_alerts import MetaAlertName, meta_alert, meta_origin
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.rules.unknown_alerts import RULES_JOB
from tocsin_alerting.time_format import format_duration, rfc3339
from tocsin_alerting.tsdb.source_health import LastSeen
from tocsin_exporter.snapshot import Source

_SAY_IT = frozenset((MetaAlertName.COLLECTOR_FAILING.value, "GPUMissing"))  # of our own collectors
_ASK_AGAIN_MS = 60_000  # whether rules read a source, where none did
_SLICE_SELECTORS = 200


@dataclass(slots=True)
class SilentTargets:
    """`sources` are all that the store has heard of, `watched` those that we read ourselves and
    `absent` those of them where there is nothing to read; `touched` says of which sources a
    selector has series. `pages` are targets of scrape jobs: somebody wrote down that they are to be
    there, whether rules read them or not. `expected` are those of others that spoke when the last
    run ended."""

    groups: Groups
    sources: Callable[[], Mapping[Source, LastSeen]]
    watched: Callable[[], Collection[Source]]
    absent: Callable[[], Collection[Source]]
    touched: Callable[[VectorSelector], frozenset[Source]]
    severity: Severity = Severity.P3
    after_ms: int = 300_000
    expected: Collection[Source] = ()
    pages: Callable[[], Collection[Source]] = tuple
    name: MetaAlertName = MetaAlertName.TARGET_SILENT
    _began_ms: int | None = None
    _down_since: dict[Source, int] = field(default_factory=dict)
    _unread: dict[Source, int] = field(default_factory=dict)

    async def firing(self, now_ms: int, known: Collection[str]) -> Mapping[str, Alert]:
        began_ms = self._began_ms = now_ms if self._began_ms is None else self._began_ms
        silent = self._silent(now_ms, began_ms)
        standing = {source for source in silent if self._origin(source) in known}
        pages = silent.keys() & set(self.pages()) - standing
        others = silent.keys() - pages - standing
        new = {source for source in others if not self._is_asked_about(source, now_ms)}
        if new:
            new = await self._read_by_rules(new, now_ms)
        if new := new | pages:
            new -= self._told_otherwise(new)
        found = standing | new
        return {self._origin(s): self._alert(s, *silent[s], now_ms) for s in found}

    def resume(self) -> None:
        """Before anything is read in this run: who spoke until the last one ended is expected."""
        heard, watched = self.sources(), set(self.watched())
        ended_ms = max((last.at_ms for one, last in heard.items() if one in watched), default=None)
        if ended_ms is not None:
            since_ms = ended_ms - self.after_ms
            self.expected = {one for one, last in heard.items() if last.at_ms > since_ms}

    def end(self, origin: str, now_ms: int) -> End | None:
        for source, last in self.sources().items():
            if self._origin(source) == origin and source not in self.absent():
                well = last.ok and now_ms - last.at_ms < self.after_ms
                return End(EventKind.CLEAR, "it has samples again") if well else None
        return End(EventKind.REMOVED, "the source is no longer there")

    def shift(self, delta_ms: int) -> None:
        self._began_ms = plus(self._began_ms, delta_ms)
        for times in (self._down_since, self._unread):
            times.update({source: at_ms + delta_ms for source, at_ms in times.items()})

    def _origin(self, source: Source) -> str:
        return meta_origin(self.name, f"{source.job};{source.instance}")

    def _silent(self, now_ms: int, began_ms: int) -> dict[Source, tuple[int, int]]:
        """Those that are silent or down for long enough: since when, and when last heard.

        Of what was silent before this run already, and is not ours to read, nobody knows whether it
        is still meant to be there.
        """
        found: dict[Source, tuple[int, int]] = {}
        watched, absent = set(self.watched()), set(self.absent())
        down: dict[Source, int] = {}
        for source, last in self.sources().items():
            if source.job == RULES_JOB or source in absent:
                continue
            if not last.ok:
                down[source] = self._down_since.get(source, now_ms)
            elif last.at_ms < began_ms and source not in watched and source not in self.expected:
                continue
            since_ms = min(down.get(source, now_ms), max(last.at_ms, began_ms))
            if now_ms - since_ms >= self.after_ms:
                found[source] = since_ms, last.at_ms
        self._down_since = down
        return found

    def _is_asked_about(self, source: Source, now_ms: int) -> bool:
        """A moment ago no rule read it."""
        asked_ms = self._unread.get(source)
        return asked_ms is not None and 0 <= now_ms - asked_ms < _ASK_AGAIN_MS

    async def _read_by_rules(self, wanted: Collection[Source], now_ms: int) -> set[Source]:
        rules = (rule for group in self.groups() for rule in group.rules)
        selectors = {selector for rule in rules for selector in rule.inputs}
        read = set[Source]()
        for number, selector in enumerate(selectors, 1):
            read |= self.touched(selector) & set(wanted)
            if number % _SLICE_SELECTORS == 0:
                await asyncio.sleep(0)
        self._unread = dict.fromkeys(set(wanted) - read, now_ms)
        return read

    def _told_otherwise(self, sources: Collection[Source]) -> set[Source]:
        """Those of which a rule says that they are down, or is about to."""
        told = [
            (rule.rule.name in _SAY_IT, dict(alert.labels))
            for group in self.groups()
            for rule in group.rules
            if rule.presence or rule.rule.name in _SAY_IT
            for alert in rule.alerts.values()
            if alert.state is not AlertState.INACTIVE
        ]
        return {s for s in sources if any(_is_about(labels, s, any_) for any_, labels in told)}

    def _alert(self, source: Source, since_ms: int, last_ms: int, now_ms: int) -> Alert:
        about = {"job": source.job, "instance": source.instance}
        last = rfc3339(last_ms - last_ms % 1000)
        summary = f"{source.job} {source.instance} is silent"
        lasting = format_duration(self.after_ms)
        words = (
            f"Nothing good was heard of it for {lasting}; its last sample is of {last}. What rules"
            " said of it is unknown until it speaks, and what begins meanwhile nobody sees."
        )
        return meta_alert(self.name, self.severity, about, since_ms, now_ms, (summary, words))


def _is_about(labels: Mapping[str, str], source: Source, any_job: bool) -> bool:
    """By those of the labels `job`, `instance` and `target` that it has. An engine is one, by
    whatever name it is read; and so is what our collectors read on a machine (`any_job`)."""
    places = {labels[name] for name in ("instance", "target") if labels.get(name)}
    names = {source.instance, f"{source.job}/{source.instance}"}  # a target of a job has the latter
    same_job = any_job or "target" in labels or labels.get("job", source.job) == source.job
    return same_job and (bool(names & places) if places else "job" in labels)
