"""Calls by Aliyun (阿里云语音通知, Dyvmsapi 2017-05-25, SingleCallByTts), by an approved template.

Read: help.aliyun.com/document_detail/393519.html and 114035.htm. Aliyun answers when it took the
call; who was reached is known minutes later, and not asked here. To one number: 1 a minute, 5 an
hour, 20 a day, unless Aliyun lifts it.
"""

import json
from typing import Annotated, Literal

from pydantic import Field as Bounds

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.aliyun.service import (
    AliyunService,
    AliyunSettings,
    local_number,
    no_number,
    spoken_value,
    template_values,
)
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.contact_ways import masked_number
from tocsin_alerting.notify.http_sender import ServiceUrl

CONTENT_LIMIT = 249  # characters of all variables together


class AliyunVoiceSettings(AliyunSettings):
    type: Literal["aliyun_voice"]
    api_url: ServiceUrl = "https://dyvmsapi.aliyuncs.com"
    show_number: str = ""
    play_times: Annotated[int, Bounds(ge=1, le=3)] = 3
    send_resolved: bool = False


class AliyunVoice(AliyunService):
    action = "SingleCallByTts"

    def __init__(self, name: str, settings: AliyunVoiceSettings, deps: ChannelDeps) -> None:
        super().__init__(name, settings, settings.api_url, deps)
        self._settings = settings

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        """One call a number, one after the other: whoever was called is not called again for those
        who were not."""
        numbers = self._numbers(notification)
        if not numbers:
            return no_number(notification, numbers)
        settings = self._settings
        fields = self._templates.fields(notification, now_ms)
        values = template_values(
            fields, settings.params, spoken_value, CONTENT_LIMIT, CONTENT_LIMIT
        )
        query = {
            "TtsCode": settings.template_code,
            "TtsParam": json.dumps(values, ensure_ascii=False),
            "PlayTimes": str(settings.play_times),
            "OutId": str(notification.incident)[-15:],
        }
        if settings.show_number:
            query["CalledShowNumber"] = settings.show_number
        outcomes = {}
        for number in numbers:
            called = {**query, "CalledNumber": local_number(number)}
            outcomes[number] = await self._call(called, (number,), now_ms, transcript)
        return of_all(outcomes)


def of_all(outcomes: dict[str, Outcome]) -> Outcome:
    """Done when anybody is called; else what is worth another try before what is not."""
    failed = {
        masked_number(number): one.error
        for number, one in outcomes.items()
        if isinstance(one, RetryAt | Permanent)
    }
    errors = "; ".join(f"{number}: {error}" for number, error in failed.items())
    for one in outcomes.values():
        if isinstance(one, Delivered):
            detail = f"{one.detail}; not called: {errors}" if errors else one.detail
            return Delivered(one.reference, detail)
    if len(outcomes) == 1:
        return next(iter(outcomes.values()))
    waits = [one.not_before_ms for one in outcomes.values() if isinstance(one, RetryAt)]
    if waits:
        times = [wait for wait in waits if wait is not None]
        return RetryAt(errors, min(times) if len(times) == len(waits) else None)
    final = all(isinstance(one, Permanent) and one.final for one in outcomes.values())
    return Permanent(errors, final=final)
