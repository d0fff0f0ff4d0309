"""SMS by Aliyun (阿里云短信, Dysmsapi 2017-05-25, SendSms), bound to a template that it approved.

Read: help.aliyun.com/document_detail/55284.html. A call that timed out may have been taken, and
they know no key by which a second one would be the same: SMS may come twice.
"""

import json
from typing import Annotated, Literal

from pydantic import Field as Bounds

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Outcome
from tocsin_alerting.notify.aliyun.service import (
    AliyunService,
    AliyunSettings,
    local_number,
    no_number,
    sms_value,
    template_values,
)
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.http_sender import ServiceUrl

VARIABLE_LIMIT, CONTENT_LIMIT = 35, 450  # characters; a template has 500 with its own words


class AliyunSmsSettings(AliyunSettings):
    type: Literal["aliyun_sms"]
    api_url: ServiceUrl = "https://dysmsapi.aliyuncs.com"
    sign_name: str
    max_length: Annotated[int, Bounds(ge=1, le=CONTENT_LIMIT)] = VARIABLE_LIMIT


class AliyunSms(AliyunService):
    action = "SendSms"

    def __init__(self, name: str, settings: AliyunSmsSettings, deps: ChannelDeps) -> None:
        super().__init__(name, settings, settings.api_url, deps)
        self._settings = settings

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        numbers = self._numbers(notification)
        if not numbers:
            return no_number(notification, numbers)
        settings = self._settings
        fields = self._templates.fields(notification, now_ms)
        most = settings.max_length
        values = template_values(fields, settings.params, sms_value, most, CONTENT_LIMIT)
        query = {
            "PhoneNumbers": ",".join(local_number(number) for number in numbers),
            "SignName": settings.sign_name,
            "TemplateCode": settings.template_code,
            "TemplateParam": json.dumps(values, ensure_ascii=False),
            "OutId": str(notification.incident),
        }
        return await self._call(query, numbers, now_ms, transcript)
