"""Every kind of channel there is. A new one: its file, one line in each of the two places here."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from tocsin_alerting.notify.apprise import Apprise, AppriseSettings
from tocsin_alerting.notify.channel import Channel
from tocsin_alerting.notify.deps import ChannelDeps
from tocsin_alerting.notify.email.channel import Email
from tocsin_alerting.notify.email.settings import EmailSettings
from tocsin_alerting.notify.log import Log, LogSettings
from tocsin_alerting.notify.webhook.channel import Webhook
from tocsin_alerting.notify.webhook.settings import WebhookSettings

Factory = Callable[[str, Any, ChannelDeps], Channel]

CHANNELS: Mapping[str, Factory] = {
    "apprise": Apprise,
    "email": Email,
    "log": Log,
    "webhook": Webhook,
}

UNKNOWN_TYPE_MESSAGE = "type is missing or unknown"


def _channel_type(settings: Any) -> str | None:
    kind = settings.get("type") if isinstance(settings, dict) else getattr(settings, "type", None)
    return kind if isinstance(kind, str) else None


ReceiverSettings = Annotated[
    Annotated[AppriseSettings, Tag("apprise")]
    | Annotated[EmailSettings, Tag("email")]
    | Annotated[LogSettings, Tag("log")]
    | Annotated[WebhookSettings, Tag("webhook")],
    Discriminator(
        _channel_type, custom_error_type="receiver", custom_error_message=UNKNOWN_TYPE_MESSAGE
    ),
]
