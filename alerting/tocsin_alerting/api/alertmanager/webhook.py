"""`POST /api/v1/alertmanager/webhook`: an Alertmanager that notifies us as one of its receivers.

It is below /api/v1 because no Alertmanager has it. Its body is the webhook's, version 4. Here an
alert has no end while it fires, and is told again after the route's `repeat_interval`: only when
two of them have passed does nobody know whether it still fires.
"""

from collections.abc import Generator
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tocsin_alerting.api.alertmanager.endpoint import Refused
from tocsin_alerting.api.alertmanager.intake import AlertIntake
from tocsin_alerting.api.alertmanager.posted_alerts import (
    Arrival,
    Posted,
    decoded_alerts,
    origin_of,
    read_items,
)
from tocsin_alerting.api.http.envelope import ApiError, success
from tocsin_alerting.api.http.times import duration_ms
from tocsin_alerting.time_format import rfc3339

REPEAT_INTERVAL = "4h"  # Alertmanager's default
GROUP_INTERVAL_MS = 5 * 60_000  # a repetition waits for the next one of these
VERSION = "4"
_KINDS = {400: "bad_data", 413: "too_large", 422: "bad_data", 429: "unavailable"}


async def take_webhook(intake: AlertIntake, request: Request) -> Response:
    """Raises ApiError; what an Alertmanager is to try again is a 503: it gives 429 up."""
    repeat_ms = duration_ms(
        request.query_params.get("repeat_interval", REPEAT_INTERVAL), "repeat_interval"
    )
    if repeat_ms <= 0:
        raise ApiError("bad_data", "repeat_interval must be longer than 0s")
    try:
        await intake.take(request, partial(_read, lasts_ms=2 * repeat_ms + GROUP_INTERVAL_MS))
    except Refused as refused:
        raise ApiError(_KINDS.get(refused.status, "unavailable"), str(refused)) from None
    return success({})


def _read(body: bytes, arrival: Arrival, lasts_ms: int) -> Generator[None, None, Posted]:
    notification = decoded_alerts(body)
    if not isinstance(notification, dict) or not isinstance(notification.get("alerts"), list):
        raise Refused(400, 'request body is no webhook of Alertmanager: "alerts" is missing')
    if notification.get("version") != VERSION:
        raise Refused(400, f'"version" must be "{VERSION}", as Alertmanager sends it')
    url = notification.get("externalURL")
    origin = origin_of(url if isinstance(url, str) else "", arrival.client)
    items = [_posted(item, arrival) for item in notification["alerts"]]
    lasting = replace(arrival, resolve_timeout_ms=lasts_ms, origin=origin)
    return (yield from read_items(items, lasting))


def _posted(item: Any, arrival: Arrival) -> Any:
    """The alert as it would be posted: what fires has no end, what is resolved ends now."""
    if not isinstance(item, dict):
        return item
    if item.get("status") != "resolved":
        return {**item, "endsAt": None}
    return {**item, "startsAt": None, "endsAt": rfc3339(arrival.now_ms)}
