import asyncio
import sys
import threading
import time
from typing import Any

import pytest

from support.broken_server import broken_server, silence
from support.notifications import NEW_YEAR_MS, notification
from support.webhook_sink import WebhookSink
from tocsin_alerting.notify.apprise import Apprise, AppriseSettings
from tocsin_alerting.notify.channel import Done, RetryAt
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.supplies import Supplies

# apprise imports it
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def _apprise(url: str, name: str = "phone", **settings: Any) -> Apprise:
    data = {"type": "apprise", "url_env": "URL", "timeout": "500ms", **settings}
    supplies = Supplies(vault=Vault({"URL": url}, lambda path: ""))
    return Apprise(name, AppriseSettings.model_validate(data), supplies)


async def test_a_message_is_handed_over() -> None:
    pytest.importorskip("apprise", reason="needs the extra apprise")
    async with WebhookSink() as sink:
        channel = _apprise(f"json://127.0.0.1:{sink.port}/", timeout="5s")
        assert await channel.send(notification(), NEW_YEAR_MS) == Done(detail="handed over")
        (request,) = await sink.wait_for(1)
    assert request.json()["title"].startswith("[P0] gpu-1: The engine at 127.0.0.1:8000")
    assert "alertctl ack 42" in request.json()["message"]


async def test_a_service_that_hangs_is_bounded() -> None:
    pytest.importorskip("apprise", reason="needs the extra apprise")
    began = time.monotonic()
    async with broken_server(silence) as port:
        result = await _apprise(f"json://127.0.0.1:{port}/").send(notification(), NEW_YEAR_MS)
    assert isinstance(result, RetryAt) and time.monotonic() - began < 2


async def test_messages_that_a_service_keeps_take_a_bounded_number_of_threads() -> None:
    """Each try took another one; what waits for a thread is left to the next try."""
    pytest.importorskip("apprise", reason="needs the extra apprise")
    async with broken_server(silence) as port:
        channel = _apprise(f"json://127.0.0.1:{port}/", "pager", timeout="50ms")
        tried = [channel.send(notification(), NEW_YEAR_MS) for _ in range(30)]
        results = await asyncio.gather(*tried)
        begun = [one for one in threading.enumerate() if one.name.startswith("apprise pager-")]
    assert all(isinstance(one, RetryAt) for one in results)
    assert 0 < len(begun) <= 2 * channel.at_once


def test_an_unknown_service_is_refused_unseen() -> None:
    pytest.importorskip("apprise", reason="needs the extra apprise")
    with pytest.raises(ValueError, match="knows no service") as refused:
        _apprise("nosuch://hunter2")
    assert "hunter2" not in str(refused.value)


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ValueError, match=r"pip install 'tocsin\[apprise\]'"):
        _apprise("json://localhost")
