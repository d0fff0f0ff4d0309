"""The calendars that schedules name: read from a file or a URL, and kept for when that is gone."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import Calendars
from tocsin_alerting.config.schedules import ScheduleSection
from tocsin_alerting.http import BadAnswer, TooLarge, httpx, read_text_now
from tocsin_alerting.incidents.calendar_times import time_zone
from tocsin_alerting.incidents.ical import InvalidCalendar, read_calendar
from tocsin_alerting.incidents.oncall import GAP_HORIZON_MS, CalendarShifts
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.yaml_document import file_text
from tocsin_exporter.files import file_bytes

MAX_BYTES = 4 << 20
_PAST_MS = 7 * 86_400_000  # so much of what is over is kept, for those who look back
_PATIENCE_S = 10.0
_MOST_NAMED = 3  # events in a warning


def fetch_text(url: str) -> str:
    """Raises OSError that says what went wrong, without the URL: it may be a secret."""
    try:
        with httpx.Client(timeout=_PATIENCE_S, trust_env=False, follow_redirects=True) as client:
            with client.stream("GET", url) as response:
                clock = time.monotonic  # noqa: TID251  (how long the other side may take)
                text = read_text_now(response, MAX_BYTES, _PATIENCE_S, clock)
    except TooLarge:
        raise OSError(f"more than {MAX_BYTES >> 20} MiB") from None
    except (httpx.HTTPError, httpx.InvalidURL, BadAnswer, TimeoutError) as error:
        raise OSError(f"no response: {type(error).__name__}") from None
    if response.status_code != 200:
        raise OSError(f"HTTP {response.status_code}")
    return text


def calendar_reader(config: Config, *, keep: bool = True) -> "CalendarReader":
    """Copies lie below the storage directory."""
    directory = Path(config.storage.path) / "calendars"
    return CalendarReader(config, Vault(os.environ, file_text), directory, keep=keep)


@dataclass(slots=True)
class CalendarReader:
    """`directory` has the last copy of what came from a URL. `problems` is what was wrong with the
    last reading, a sentence each."""

    config: Config
    vault: Vault
    directory: Path
    fetch: Callable[[str], str] = fetch_text
    keep: bool = True
    problems: list[str] = field(default_factory=list)

    def read(self, now_ms: int, *, online: bool = True) -> Calendars:
        """The shifts of each schedule with a calendar that can be read, from now to a year ahead.
        Not `online`: of a URL the last copy. May take seconds."""
        self.problems = []
        sections = self.config.schedules.items()
        return {
            name: shifts
            for name, section in sections
            if section.has_calendar
            and (shifts := self._shifts(name, section, now_ms, online)) is not None
        }

    def _shifts(
        self, name: str, section: ScheduleSection, now_ms: int, online: bool
    ) -> CalendarShifts | None:
        try:
            text = self._text(name, section, online)
            return None if text is None else self._parsed(name, section, text, now_ms)
        except (OSError, ValueError, InvalidCalendar) as error:
            self.problems.append(f'schedule "{name}": calendar not read: {error}')
        return self._kept(name, section, now_ms)

    def _kept(self, name: str, section: ScheduleSection, now_ms: int) -> CalendarShifts | None:
        """By the last copy that could be read."""
        try:
            copy = self._copy(name)
            return None if copy is None else self._parsed(name, section, copy, now_ms)
        except (OSError, ValueError, InvalidCalendar):
            return None

    def _parsed(
        self, name: str, section: ScheduleSection, text: str, now_ms: int
    ) -> CalendarShifts:
        zone = time_zone(section.time_zone or self.config.time_zone)
        emails = {who: contact.email or "" for who, contact in self.config.contacts.items()}
        read = read_calendar(text, zone, emails, now_ms - _PAST_MS, now_ms + GAP_HORIZON_MS)
        if section.ical_file is None and self.keep:
            self._keep(name, text)
        if read.unknown:
            events = ", ".join(f'"{summary[:60]}"' for summary in read.unknown[:_MOST_NAMED])
            more = "" if len(read.unknown) <= _MOST_NAMED else " and others"
            self.problems.append(
                f'schedule "{name}": events name no contact and are left out: {events}{more}'
            )
        return CalendarShifts(read.shifts)

    def _text(self, name: str, section: ScheduleSection, online: bool) -> str | None:
        if section.ical_file is not None:
            return file_bytes(section.ical_file, MAX_BYTES).decode("utf-8")
        if not online:
            return self._copy(name)
        if section.ical_url is not None:
            return self.fetch(section.ical_url)
        secret = self.vault.secret(section.ical_url_file, None)
        return self.fetch(secret.value) if secret else None

    def _path(self, name: str) -> Path:
        return self.directory / f"{quote(name, safe='')}.ics"

    def _copy(self, name: str) -> str | None:
        path = self._path(name)
        return file_bytes(path, MAX_BYTES).decode("utf-8") if path.is_file() else None

    def _keep(self, name: str, text: str) -> None:
        """A disk that takes nothing costs the copy alone."""
        path = self._path(name)
        try:
            if self._copy(name) == text:
                return
            self.directory.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(".part")
            fresh.write_text(text, encoding="utf-8", newline="")
            os.replace(fresh, path)
        except OSError as error:
            self.problems.append(f'schedule "{name}": no copy of its calendar kept: {error}')
