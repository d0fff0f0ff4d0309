"""Every kind of channel there is. A new one: its file, and a line in `_FACTORIES`."""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union, get_args

from pydantic import Discriminator, Tag

from tocsin_alerting.incidents.rates import Rates, read_rates
from tocsin_alerting.notify.channel import Channel, ChannelDeps
from tocsin_alerting.notify.log import LogSettings
from tocsin_alerting.notify.receiver_section import ReceiverSection
from tocsin_alerting.notify.syslog import SyslogSettings

# Below `tocsin_alerting.notify`: what makes such a channel of its section, which is the type of the
# argument `settings`. The word for it in the configuration is the `type` of that section.
_FACTORIES = (
    "alertmanager.Alertmanager",
    "aliyun.sms.AliyunSms",
    "aliyun.voice.AliyunVoice",
    "apprise.Apprise",
    "bark.Bark",
    "dingtalk.Dingtalk",
    "discord.Discord",
    "email.channel.Email",
    "exec.channel.Exec",
    "feishu.Feishu",
    "gotify.Gotify",
    "log.Log",
    "matrix.MatrixRoom",
    "mattermost.Mattermost",
    "ntfy.Ntfy",
    "pagerduty.Pagerduty",
    "pushover.Pushover",
    "slack.channel.slack",
    "syslog.Syslog",
    "teams.Teams",
    "telegram.channel.Telegram",
    "twilio.sms.TwilioSms",
    "twilio.voice.TwilioVoice",
    "webhook.channel.Webhook",
    "wecom.Wecom",
)

Factory = Callable[[str, Any, ChannelDeps], Channel]


class ChannelKind(NamedTuple):
    name: str
    factory: Factory
    settings: type[ReceiverSection]


def _kind(path: str) -> ChannelKind:
    module, _, name = path.rpartition(".")
    factory = getattr(import_module(f"tocsin_alerting.notify.{module}"), name)
    settings = signature(factory, eval_str=True).parameters["settings"].annotation
    (word,) = get_args(settings.model_fields["type"].annotation)
    return ChannelKind(word, factory, settings)


KINDS = tuple(map(_kind, _FACTORIES))
CHANNELS: Mapping[str, Factory] = {kind.name: kind.factory for kind in KINDS}


def own_rates(kind: str) -> Rates:
    """Those that the service of such a channel has by itself: `rate` of its class, if it has one,
    as `20/min` or several such."""
    rate: str | Iterable[str] = getattr(CHANNELS[kind], "rate", ())
    return read_rates([rate] if isinstance(rate, str) else rate)


RECORDS = (LogSettings, SyslogSettings)
"""Sections of those that keep a record and wake nobody."""

UNKNOWN_TYPE_MESSAGE = "type is missing or unknown"


def _channel_type(settings: Any) -> str | None:
    kind = settings.get("type") if isinstance(settings, dict) else getattr(settings, "type", None)
    return kind if isinstance(kind, str) else None


if TYPE_CHECKING:
    ReceiverSettings = ReceiverSection
else:
    _SECTIONS = Union[tuple(Annotated[kind.settings, Tag(kind.name)] for kind in KINDS)]  # noqa: UP007
    _BY_TYPE = Discriminator(
        _channel_type, custom_error_type="receiver", custom_error_message=UNKNOWN_TYPE_MESSAGE
    )
    ReceiverSettings = Annotated[_SECTIONS, _BY_TYPE]
