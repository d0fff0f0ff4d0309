"""Apprise: a hundred services behind one URL, for those that have no channel of their own here.

It says only whether it handed the message over, never why not, so nothing here is final.
"""

import asyncio
import logging
from typing import Any, Literal

from pydantic import model_validator

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.notify.channel import Done, Outcome, RetryAt, ending
from tocsin_alerting.notify.supplies import Supplies
from tocsin_alerting.settings import FilePath, Interval, Refused, Section
from tocsin_exporter.threads import Threads, result_of


class AppriseSettings(Section):
    """The URL holds the service's secret, so it comes from `url_file` or `url_env`."""

    type: Literal["apprise"]
    url: Refused = None
    url_file: FilePath | None = None
    url_env: str | None = None
    timeout: Interval = 20_000
    send_resolved: bool = True

    @model_validator(mode="after")
    def _one_url(self) -> "AppriseSettings":
        if (self.url_file is None) == (self.url_env is None):
            raise ValueError("give exactly one of url_file and url_env")
        return self


class Apprise:
    """Sends on threads that nobody waits for at the end, for apprise blocks and sleeps; those
    that do not return are at most twice as many as it sends at once."""

    def __init__(self, name: str, settings: AppriseSettings, supplies: Supplies) -> None:
        self.name = name
        self.at_once = 4
        self.send_resolved = settings.send_resolved
        self._limit_s = settings.timeout / 1000
        self._wording = supplies.wording
        self._threads = Threads(2 * self.at_once, f"apprise {name}")
        self._service = _service(supplies.vault.secret(settings.url_file, settings.url_env))

    def __repr__(self) -> str:
        return f"Apprise({self.name})"

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        said = transcript if transcript is not None else []
        said.append("> handed to apprise")
        title, body = self._wording.subject(notification), self._wording.text(notification, now_ms)
        work = self._threads.submit(_taken, self._service, title, body)
        try:
            async with asyncio.timeout(self._limit_s):
                taken = await result_of(work)
        except TimeoutError:
            result: Outcome = RetryAt(f"apprise did not return in {self._limit_s:g} s")
        else:
            failed = RetryAt("apprise could not hand it over, and does not say why")
            result = Done(detail="handed over") if taken else failed
        finally:
            work.cancel()  # one that waits for a thread is sent by the next try, not by both
        said.append(ending(result))
        return result

    def begin(self) -> None:
        self._threads.begin()

    async def close(self) -> None:
        """Nothing stays open between messages."""


def _service(url: Any) -> Any:
    try:
        import apprise
    except ImportError:
        raise ValueError("apprise is not installed; pip install 'tocsin[apprise]'") from None
    for name in ("apprise", "urllib3"):  # their lines hold URLs, which are passwords
        logging.getLogger(name).setLevel(logging.CRITICAL)
    service = apprise.Apprise()
    if not service.add(url.value):
        raise ValueError("apprise knows no service for this URL; see its list of services")
    return service


def _taken(service: Any, title: str, body: str) -> bool:
    """Blocks, and may sleep."""
    try:
        return bool(service.notify(title=title, body=body))
    except Exception:  # plugins of others, any of which may raise anything
        return False
