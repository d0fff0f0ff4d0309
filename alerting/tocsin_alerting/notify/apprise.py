"""Apprise: a hundred services behind one URL, for those that have no channel of their own here.

It says only whether it handed the message over, never why not, so nothing here is final.
"""

import asyncio
import logging
import threading
from contextlib import suppress
from typing import Any, Literal

from pydantic import model_validator

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.notify.channel import Done, Outcome, RetryAt, ending
from tocsin_alerting.notify.supplies import Supplies
from tocsin_alerting.settings import FilePath, Interval, Refused, Section


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
    """Sends on a thread of its own that nobody waits for at the end: apprise blocks and sleeps."""

    def __init__(self, name: str, settings: AppriseSettings, supplies: Supplies) -> None:
        self.name = name
        self.at_once = 4
        self.send_resolved = settings.send_resolved
        self._limit_s = settings.timeout / 1000
        self._wording = supplies.wording
        self._service = _service(supplies.vault.secret(settings.url_file, settings.url_env))

    def __repr__(self) -> str:
        return f"Apprise({self.name})"

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        said = transcript if transcript is not None else []
        said.append("> handed to apprise")
        title, body = self._wording.subject(notification), self._wording.text(notification, now_ms)
        try:
            async with asyncio.timeout(self._limit_s):
                taken = await _on_thread(self._service, title, body)
        except TimeoutError:
            result: Outcome = RetryAt(f"apprise did not return in {self._limit_s:g} s")
        else:
            failed = RetryAt("apprise could not hand it over, and does not say why")
            result = Done(detail="handed over") if taken else failed
        said.append(ending(result))
        return result

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


async def _on_thread(service: Any, title: str, body: str) -> bool:
    loop, result = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def settle(taken: bool) -> None:
        if not result.done():
            result.set_result(taken)

    def run() -> None:
        try:
            taken = bool(service.notify(title=title, body=body))
        except Exception:  # plugins of others, any of which may raise anything
            taken = False
        with suppress(RuntimeError):  # the loop is gone: nobody waits any more
            loop.call_soon_threadsafe(settle, taken)

    threading.Thread(target=run, name="apprise", daemon=True).start()
    return bool(await result)
