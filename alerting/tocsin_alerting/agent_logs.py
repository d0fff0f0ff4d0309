"""The logs that the agent reads, from the configuration to what incidents keep of their lines."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.log_sources import LogSection
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.log_lines import (
    BEFORE_MS,
    EVIDENCE,
    MOST_LINES,
    note_lines,
    telling,
)
from tocsin_alerting.incidents.notification import Evidence, Notification
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors.inline import InlineCollector
from tocsin_exporter.snapshot import Sample
from tocsin_exporter.tailing.log_sources import NAME, LogSources

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
AFTER_MS = 6_000  # a line may be read, and its source be scraped, so long after it was written
_MOST_AT_ONCE = 20  # incidents; a storm has more of them than lines
_MOST_SENT, _SENT_CHARACTERS = 2, 160

Enrich = Callable[[Notification], Awaitable[Notification]]


class AgentLogs:
    """Positions are kept in the data directory, below `logs`."""

    def __init__(self, config: Config, clock: Clock, dispatcher: Callable[[], Dispatcher]) -> None:
        directory = Path(config.storage.path) / "logs"
        self.sources = LogSources(directory, clock.wall, clock.monotonic)
        self._clock, self._dispatcher = clock, dispatcher
        self._noted: set[int] = set()
        self._seen_ms = clock.now_ms()  # incidents that opened before had their lines
        self._sections: Sequence[LogSection] = ()
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Read these from now on; those that are as they were go on."""
        self._sections = config.logs
        self.sources.configure([section.source() for section in config.logs])

    def collector(self) -> InlineCollector:
        return InlineCollector(NAME, self._samples)

    async def run(self) -> None:
        """Note in each incident, some seconds after it opened, what the logs said."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._sections:
                self.note(self._clock.now_ms())

    def note(self, now_ms: int) -> None:
        working = self._dispatcher().working
        due = [one for one in working.incidents.values() if self._is_due(one, now_ms)]
        self._seen_ms = min(self._seen_ms, now_ms)  # the clock may have been set back
        for incident in due[:_MOST_AT_ONCE]:
            self._noted.add(incident.number)
            until_ms = incident.opened_at_ms + AFTER_MS
            labels = {**dict(incident.group_labels), **_labels(incident)}
            tells = telling(labels, incident.opened_at_ms - BEFORE_MS, until_ms)
            found = self.sources.recent(MOST_LINES, tells)
            if found:
                note_lines(working, incident.number, found, now_ms)
                self._dispatcher().changed.set()
        self._noted &= working.incidents.keys()

    def sending(self, enrich: Enrich) -> Enrich:
        """`enrich`, and of sources that may be sent the last lines too."""

        async def enriched(notification: Notification) -> Notification:
            found = await enrich(notification)
            try:
                return self._with_lines(found)
            except Exception as error:  # why: what only adorns a page must not hold it
                log.error("log lines of a message failed: %s", type(error).__name__)
                return found

        return enriched

    def _with_lines(self, notification: Notification) -> Notification:
        sent = {section.name for section in self._sections if section.evidence == "send"}
        one = notification
        if not sent or one.drill or one.counts or not one.alerts or one.status != "firing":
            return notification
        labels, opened_ms = one.alerts[0].labels, one.opened_at_ms
        tells = telling(labels, opened_ms - BEFORE_MS, opened_ms + AFTER_MS)
        found = self.sources.recent(
            _MOST_SENT, lambda at, name, of: name in sent and tells(at, name, of)
        )
        evidence = one.evidence or Evidence()
        more = tuple((EVIDENCE, line.text[:_SENT_CHARACTERS]) for line in found)
        if not more:
            return notification
        return replace(one, evidence=replace(evidence, numbers=(*evidence.numbers, *more)))

    def _is_due(self, incident: Incident, now_ms: int) -> bool:
        opened_ms = incident.opened_at_ms
        return (
            self._seen_ms <= opened_ms <= now_ms - AFTER_MS
            and incident.number not in self._noted
            and incident.is_open
            and not incident.drill
        )

    def _samples(self) -> Iterator[Sample]:
        return self.sources.samples()


def _labels(incident: Incident) -> Mapping[str, str]:
    """What its alerts have in common, of what names a line."""
    alerts = [dict(member.alert.labels) for member in incident.active]
    names = ("source", "pattern")
    return {
        name: alerts[0][name]
        for name in names
        if alerts and name in alerts[0] and len({one.get(name) for one in alerts}) == 1
    }
