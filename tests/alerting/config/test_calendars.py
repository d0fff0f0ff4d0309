"""Calendars of schedules: from files and servers, and what holds while these are gone."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from support.policies import config as incident_settings
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.config.calendars import MAX_BYTES, CalendarReader, fetch_text
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.effective import effective
from tocsin_alerting.config.load import incident_config, load
from tocsin_alerting.config.paging import warnings
from tocsin_alerting.incidents.oncall import Override
from tocsin_alerting.incidents.working_set import WorkingSet
from tocsin_alerting.loops.calendar_refresh import CalendarRefresh
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.yaml_document import InvalidDocument

pytest.importorskip("icalendar")

NOW_MS = int(datetime.fromisoformat("2026-12-05T11:00:00Z").timestamp()) * 1000
DAY_MS = 86_400_000
VAULT = Vault({}, Path.read_text)
TEXT = """
contacts: {li: {email: li@example.com}, wang: {email: wang@example.com}}
smtp: {smarthost: mx}
schedules: {primary: {%s}}
"""


def shift(who: str, day: int) -> str:
    return (
        f"BEGIN:VEVENT\nUID:{who}{day}\nSUMMARY:{who}\nDTSTART:202612{day:02}T000000Z\n"
        f"DTEND:202612{day + 1:02}T000000Z\nEND:VEVENT\n"
    )


def calendar(*events: str) -> str:
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\n{''.join(events)}END:VCALENDAR\n"


LI, WANG = calendar(shift("li", 5)), calendar(shift("wang", 5))


def loaded(folder: Path, keys: str) -> Config:
    (folder / "tocsin.yml").write_text(TEXT % keys)
    return load(folder / "tocsin.yml", {}, local_mail=lambda sender, to: "none")


class Server:
    """Answers with its text, or not at all."""

    def __init__(self, text: str | None) -> None:
        self.text, self.asked = text, list[str]()

    def __call__(self, url: str) -> str:
        self.asked.append(url)
        if self.text is None:
            raise OSError("no response: ConnectError")
        return self.text


def reader(config: Config, folder: Path, server: Server, **more: Any) -> CalendarReader:
    return CalendarReader(config, VAULT, folder / "calendars", server, **more)


def on_call(config: Config, read: CalendarReader, online: bool = True) -> str:
    calendars = read.read(NOW_MS, online=online)
    return incident_config(config, calendars).roster.schedules["primary"].on_call(NOW_MS)


URL = 'ical_url: "https://calendar.example.com/s3cret.ics"'


def test_a_file_is_read_and_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "oncall.ics").write_text(LI)
    config = loaded(tmp_path, "ical_file: oncall.ics")
    assert on_call(config, reader(config, tmp_path, Server(None)), online=False) == "li"
    with pytest.raises(InvalidDocument, match="there is no file gone.ics"):
        loaded(tmp_path, "ical_file: gone.ics")


def test_an_address_is_asked_and_its_last_copy_holds_while_it_is_gone(tmp_path: Path) -> None:
    config, server = loaded(tmp_path, URL), Server(LI)
    assert on_call(config, reader(config, tmp_path, server)) == "li"
    assert server.asked == ["https://calendar.example.com/s3cret.ics"]
    gone = reader(config, tmp_path, Server(None))
    assert on_call(config, gone) == "li"
    assert gone.problems == ['schedule "primary": calendar not read: no response: ConnectError']
    assert on_call(config, gone, online=False) == "li" and not gone.problems
    page = reader(config, tmp_path, Server("<html>Sign in</html>"))
    assert on_call(config, page) == "li" and "not an iCalendar" in page.problems[0]
    assert on_call(config, reader(config, tmp_path, Server(WANG))) == "wang", "the newest holds"


def test_check_keeps_no_copy(tmp_path: Path) -> None:
    config = loaded(tmp_path, URL)
    assert on_call(config, reader(config, tmp_path, Server(LI), keep=False)) == "li"
    assert not (tmp_path / "calendars").exists()


def test_the_address_is_no_part_of_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("https://calendar.example.com/s3cret.ics\n")
    for keys in (URL, "ical_url_file: url"):
        config = loaded(tmp_path, keys)
        assert "s3cret" not in effective(config)
        server = Server(None)
        read = reader(config, tmp_path, server)
        on_call(config, read)
        assert server.asked[0].endswith("/s3cret.ics") and "s3cret" not in "".join(read.problems)


def test_layers_hold_where_the_calendar_says_nothing(tmp_path: Path) -> None:
    layer = 'rotation: {type: daily, at: "00:00", start: 2026-01-05, members: [wang]}'
    config = loaded(tmp_path, f"{URL}, {layer}")
    calendars = reader(config, tmp_path, Server(LI)).read(NOW_MS)
    schedule = incident_config(config, calendars).roster.schedules["primary"]
    assert [schedule.on_call(NOW_MS + days * DAY_MS) for days in (0, 1)] == ["li", "wang"]


def test_events_that_name_nobody_and_gaps_are_warned_of(tmp_path: Path) -> None:
    config = loaded(tmp_path, URL)
    read = reader(config, tmp_path, Server(calendar(shift("li", 5), shift("boss", 6))))
    calendars = read.read(NOW_MS)
    assert read.problems == ['schedule "primary": events name no contact and are left out: "boss"']
    said = "\n".join(warnings(config, VAULT, NOW_MS, calendars))
    assert 'schedule "primary" names nobody at all from Sun 2026-12-06 00:00 UTC on' in said
    assert not any("primary" in line for line in warnings(config, VAULT, NOW_MS)), "not read yet"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("ical_url: calendar.example.com", "not a URL"),
        (f"{URL}, ical_file: x.ics", "give one of ical_file, ical_url and ical_url_file"),
        ("ical_url_file: gone", "cannot read"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, keys: str, said: str) -> None:
    with pytest.raises(InvalidDocument, match=said):
        loaded(tmp_path, keys)


async def test_a_refresh_takes_what_is_new_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, server = loaded(tmp_path, URL), Server(None)
    working = WorkingSet(incident_settings())
    refresh = CalendarRefresh(config, working, lambda: NOW_MS, reader(config, tmp_path, server))

    def who(days: int = 0) -> str:
        schedule = working.config.roster.schedules["primary"]
        return schedule.on_call(NOW_MS + days * DAY_MS)

    assert who() == "" and not server.asked, "the start asks nobody"
    working.put_override(Override("primary", "wang", NOW_MS + DAY_MS, NOW_MS + 2 * DAY_MS, "o"))
    server.text = LI
    await refresh.run()
    assert (who(), who(1)) == ("li", "wang"), "an override stays"
    server.text = None
    (tmp_path / "calendars" / "primary.ics").unlink()
    with caplog.at_level(logging.WARNING):
        await refresh.run()
    assert who() == "li" and "calendar not read" in caplog.text


@asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[str]:
    async with WebhookSink(usual=answer) as sink:
        yield f"http://127.0.0.1:{sink.port}/oncall.ics"


async def test_a_real_server() -> None:
    async with served(Answer(body=LI.encode())) as url:
        assert await asyncio.to_thread(fetch_text, url) == LI
    with pytest.raises(OSError, match="no response"):
        await asyncio.to_thread(fetch_text, url)
    async with served(Answer(status=403)) as url:
        with pytest.raises(OSError, match="HTTP 403"):
            await asyncio.to_thread(fetch_text, url)
    async with served(Answer(body=b"x" * (MAX_BYTES + 1))) as url:
        with pytest.raises(OSError, match="more than 4 MiB"):
            await asyncio.to_thread(fetch_text, url)
