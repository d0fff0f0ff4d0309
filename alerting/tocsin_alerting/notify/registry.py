"""Every kind of channel there is. A new one: its file, and here the import, a line in
`CHANNELS` and one in `ReceiverSettings`."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from tocsin_alerting.incidents.rates import Rates, read_rates
from tocsin_alerting.notify.alertmanager import Alertmanager, AlertmanagerSettings
from tocsin_alerting.notify.aliyun.sms import AliyunSms, AliyunSmsSettings
from tocsin_alerting.notify.aliyun.voice import AliyunVoice, AliyunVoiceSettings
from tocsin_alerting.notify.apprise import Apprise, AppriseSettings
from tocsin_alerting.notify.bark import Bark, BarkSettings
from tocsin_alerting.notify.channel import Channel, ChannelDeps
from tocsin_alerting.notify.dingtalk import Dingtalk, DingtalkSettings
from tocsin_alerting.notify.discord import Discord, DiscordSettings
from tocsin_alerting.notify.email.channel import Email
from tocsin_alerting.notify.email.settings import EmailSettings
from tocsin_alerting.notify.exec.channel import Exec, ExecSettings
from tocsin_alerting.notify.feishu import Feishu, FeishuSettings
from tocsin_alerting.notify.gotify import Gotify, GotifySettings
from tocsin_alerting.notify.log import Log, LogSettings
from tocsin_alerting.notify.matrix import MatrixRoom, MatrixSettings
from tocsin_alerting.notify.mattermost import Mattermost, MattermostSettings
from tocsin_alerting.notify.ntfy import Ntfy, NtfySettings
from tocsin_alerting.notify.pagerduty import Pagerduty, PagerdutySettings
from tocsin_alerting.notify.pushover import Pushover, PushoverSettings
from tocsin_alerting.notify.slack.channel import slack
from tocsin_alerting.notify.slack.settings import SlackSettings
from tocsin_alerting.notify.syslog import Syslog, SyslogSettings
from tocsin_alerting.notify.teams import Teams, TeamsSettings
from tocsin_alerting.notify.telegram.channel import Telegram
from tocsin_alerting.notify.telegram.settings import TelegramSettings
from tocsin_alerting.notify.twilio.settings import TwilioSmsSettings, TwilioVoiceSettings
from tocsin_alerting.notify.twilio.sms import TwilioSms
from tocsin_alerting.notify.twilio.voice import TwilioVoice
from tocsin_alerting.notify.webhook.channel import Webhook
from tocsin_alerting.notify.webhook.settings import WebhookSettings
from tocsin_alerting.notify.wecom import Wecom, WecomSettings

Factory = Callable[[str, Any, ChannelDeps], Channel]

CHANNELS: Mapping[str, Factory] = {
    "alertmanager": Alertmanager,
    "aliyun_sms": AliyunSms,
    "aliyun_voice": AliyunVoice,
    "apprise": Apprise,
    "bark": Bark,
    "dingtalk": Dingtalk,
    "discord": Discord,
    "email": Email,
    "exec": Exec,
    "feishu": Feishu,
    "gotify": Gotify,
    "log": Log,
    "matrix": MatrixRoom,
    "mattermost": Mattermost,
    "ntfy": Ntfy,
    "pagerduty": Pagerduty,
    "pushover": Pushover,
    "slack": slack,
    "syslog": Syslog,
    "teams": Teams,
    "telegram": Telegram,
    "twilio_sms": TwilioSms,
    "twilio_voice": TwilioVoice,
    "webhook": Webhook,
    "wecom": Wecom,
}


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


ReceiverSettings = Annotated[
    Annotated[AlertmanagerSettings, Tag("alertmanager")]
    | Annotated[AliyunSmsSettings, Tag("aliyun_sms")]
    | Annotated[AliyunVoiceSettings, Tag("aliyun_voice")]
    | Annotated[AppriseSettings, Tag("apprise")]
    | Annotated[BarkSettings, Tag("bark")]
    | Annotated[DingtalkSettings, Tag("dingtalk")]
    | Annotated[DiscordSettings, Tag("discord")]
    | Annotated[EmailSettings, Tag("email")]
    | Annotated[ExecSettings, Tag("exec")]
    | Annotated[FeishuSettings, Tag("feishu")]
    | Annotated[GotifySettings, Tag("gotify")]
    | Annotated[LogSettings, Tag("log")]
    | Annotated[MatrixSettings, Tag("matrix")]
    | Annotated[MattermostSettings, Tag("mattermost")]
    | Annotated[NtfySettings, Tag("ntfy")]
    | Annotated[PagerdutySettings, Tag("pagerduty")]
    | Annotated[PushoverSettings, Tag("pushover")]
    | Annotated[SlackSettings, Tag("slack")]
    | Annotated[SyslogSettings, Tag("syslog")]
    | Annotated[TeamsSettings, Tag("teams")]
    | Annotated[TelegramSettings, Tag("telegram")]
    | Annotated[TwilioSmsSettings, Tag("twilio_sms")]
    | Annotated[TwilioVoiceSettings, Tag("twilio_voice")]
    | Annotated[WebhookSettings, Tag("webhook")]
    | Annotated[WecomSettings, Tag("wecom")],
    Discriminator(
        _channel_type, custom_error_type="receiver", custom_error_message=UNKNOWN_TYPE_MESSAGE
    ),
]
