"""Every kind of channel there is. A new one: its file, one line in each of the two places here."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from tocsin_alerting.notify.channel import Channel
from tocsin_alerting.notify.email import Email
from tocsin_alerting.notify.email_settings import EmailSettings
from tocsin_alerting.notify.log import Log, LogSettings
from tocsin_alerting.notify.supplies import Supplies
from tocsin_alerting.notify.webhook import Webhook
from tocsin_alerting.notify.webhook_settings import WebhookSettings

Factory = Callable[[str, Any, Supplies], Channel]

CHANNELS: Mapping[str, Factory] = {
    "email": Email,
    "log": Log,
    "webhook": Webhook,
}

ReceiverSettings = Annotated[
    EmailSettings | LogSettings | WebhookSettings, Field(discriminator="type")
]
