"""Calendars of on-call schedules are read at the start and again each hour."""

import logging
from collections.abc import Awaitable, Callable

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
        self._thread: Threads | None = None
        self.prepare(config)
        if self._thread:  # by files and last copies alone: no start waits for a server
            self._take(self._reader.read(now_ms(), online=False))

    def schedule(self, jobs: AsyncIOScheduler) -> None:
        """At once, and each hour."""
        jobs.add_job(self.run)
        jobs.add_job(self.run, "cron", minute=23)

    def reconfigure(self, config: Config, read: Calendars) -> None:
        """The schedules are others, and `prepare` was called for them; `read` are the calendars
        that were read."""
        self._reader = calendar_reader(config)
        self._calendars = self.known(config, read)

    def known(self, config: Config, read: Calendars) -> Calendars:
        """The calendars of these schedules: as they were read, else as they are known."""
        names = [name for name, one in config.schedules.items() if one.has_calendar]
        known = {**self._calendars, **read}
        return {name: known[name] for name in names if name in known}

    def prepare(self, config: Config) -> None:
        """Have a thread where these schedules need one. Raises RuntimeError; nothing has changed
        then."""
        schedules = config.schedules.values()
        if self._thread is None and any(section.has_calendar for section in schedules):
            self._thread = Threads(1, "calendars").begin()

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


def started_calendar(
    time_zone: str,
    expire: Callable[[], Awaitable[None]],
    prune: Callable[[], Awaitable[None]],
    refresh: CalendarRefresh,
) -> AsyncIOScheduler:
    """What the calendar asks for: `expire` each minute, `prune` at night, and the calendars of
    schedules."""
    defaults = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    calendar = AsyncIOScheduler(timezone=time_zone, job_defaults=defaults)
    calendar.add_job(expire, "cron", minute="*")
    calendar.add_job(prune, "cron", hour=4, minute=11)
    refresh.schedule(calendar)
    calendar.start()
    return calendar
