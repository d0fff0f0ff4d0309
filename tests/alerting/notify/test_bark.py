import json
from typing import Any

import pytest
from pydantic import ValidationError

from support.notifications import NEW_YEAR_MS, notification, resolved
from support.vendors.bark import BARK_KEY, BarkServer
from support.vendors.double import settings_of, vendor_channel
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.bark import read_bark
from tocsin_alerting.notify.http_sender import HttpAnswer

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
PAGE = notification()


async def _send(server: BarkServer, *messages: Notification, **settings: Any) -> list[Outcome]:
    settings = {"api_url": server.api_url, "device_key_env": "KEY", **settings}
    env = {"KEY": BARK_KEY, "PW": "bark-pass", "OTHER": "no-such-key"}
    channel = vendor_channel("bark", env, **settings)
    outcomes = [await channel.send(message, NEW_YEAR_MS) for message in messages]
    await channel.close()
    return outcomes


async def test_a_page_rings_through_a_muted_phone_and_opens_the_answer() -> None:
    async with BarkServer() as server:
        outcomes = await _send(server, PAGE, volume=8, call=True, badge=1, sound="alarm")
    assert outcomes == [Delivered(detail="code 200")]
    (push,) = server.pushed
    assert push["title"].startswith("[P0] gpu-1: ") and push["body"].startswith("Machine: gpu-1\n")
    assert (push["level"], push["volume"], push["call"]) == ("critical", "8", "1")
    assert (push["badge"], push["sound"], push["group"]) == (1, "alarm", "tocsin")
    assert push["url"].startswith("https://gpu.example:4911/links/")


async def test_only_pages_ring_and_later_messages_take_their_place() -> None:
    p1, p3 = notification(severity="P1"), notification(severity="P3")
    other = notification(key="43/1/0", incident=43)
    async with BarkServer() as server:
        await _send(server, PAGE, resolved(), p1, p3, other)
        await _send(server, PAGE, critical=False)
    levels = [push["level"] for push in server.pushed]
    assert levels == ["critical", "active", "timeSensitive", "active", "critical", "timeSensitive"]
    ids = [push["id"] for push in server.pushed]
    assert ids[0] == ids[1] != ids[4] and len(ids[0]) <= 64  # what Apple takes of an id
    assert all("call" not in push for push in server.pushed)


async def test_a_server_of_ones_own_may_ask_for_a_password() -> None:
    async with BarkServer("me", "bark-pass") as server:
        (refused,) = await _send(server, PAGE)
        (taken,) = await _send(server, PAGE, username="me", password_env="PW")
    assert isinstance(refused, Permanent) and "username and password" in refused.error
    assert isinstance(taken, Delivered)


async def test_a_key_that_nobody_has_is_said() -> None:
    async with BarkServer() as server:
        (outcome,) = await _send(server, PAGE, device_key_env="OTHER")
    assert isinstance(outcome, Permanent) and "does not know the device key" in outcome.error


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, {"code": 200, "message": "success"}, Delivered),
        (200, {"code": 400, "message": "device key is empty"}, Permanent),
        (500, {"code": 500, "message": "push failed: BadDeviceToken"}, Permanent),
        (500, {"code": 500, "message": "push failed: Unregistered"}, Permanent),
        (500, {"code": 500, "message": "push failed: InternalServerError"}, RetryAt),
        (500, {"code": 500, "message": "push failed: http2: timeout"}, RetryAt),
        (404, {"code": 404, "message": "Cannot POST /push"}, RetryAt),
        (200, {"hello": "portal"}, Permanent),
        (502, {}, RetryAt),
        (418, {}, Permanent),
    ],
)
def test_what_an_answer_means(status: int, body: dict[str, Any], said: type[Outcome]) -> None:
    outcome = read_bark(HttpAnswer(status, json.dumps(body)), NEW_YEAR_MS)
    assert isinstance(outcome, said), outcome


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "exactly one of device_key_file and device_key_env"),
        ({"device_key": "x"}, "a secret has no place in this file"),
        ({"device_key_env": "K", "username": "me"}, "belong together"),
        ({"device_key_env": "K", "volume": 11}, "less than or equal to 10"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings_of("bark", **settings)
