"""Calendars of on-call schedules are read at the start and again each hour."""

import logging
from collections.abc import Callable

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from tocsin_alerting.config.calendars import CalendarReader, calendar_reader
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import Calendars, roster
from tocsin_alerting.incidents.working_set import WorkingSet
from tocsin_exporter.threads import Threads, result_of

log = logging.getLogger(__name__)


class CalendarRefresh:
    """A calendar that cannot be read any more keeps the shifts that were read last."""

    def __init__(
        self,
        config: Config,
        working: WorkingSet,
        now_ms: Callable[[], int],
        reader: CalendarReader | None = None,
    ) -> None:
        self._reader = reader or calendar_reader(config)
        self._working, self._now_ms = working, now_ms
        self._calendars: Calendars = {}
        needed = any(section.has_calendar for section in config.schedules.values())
        self._thread = Threads(1, "calendars").begin() if needed else None
        if needed:  # by files and last copies alone: no start waits for a server
            self._take(self._reader.read(now_ms(), online=False))

    def schedule(self, jobs: AsyncIOScheduler) -> None:
        """At once, and each hour."""
        if self._thread is not None:
            jobs.add_job(self.run)
            jobs.add_job(self.run, "cron", minute=23)

    async def run(self) -> None:
        """Read them once more, off the loop."""
        if self._thread is None:
            return
        now_ms = self._now_ms()
        self._take(await result_of(self._thread.submit(lambda: self._reader.read(now_ms))))
        for problem in self._reader.problems:
            log.warning("%s", problem)

    def _take(self, read: Calendars) -> None:
        self._calendars = {**self._calendars, **read}
        self._working.set_roster(roster(self._reader.config, self._calendars))
