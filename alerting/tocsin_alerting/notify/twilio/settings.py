"""The sections of receivers that send SMS and call by Twilio."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tocsin_alerting.notify.contact_ways import phone_number
from tocsin_alerting.notify.http_sender import HttpSettings, ServiceUrl
from tocsin_alerting.settings import NUMBER, FilePath, Interval, RefusedKey, Words

_SENDER = re.compile(r"[A-Za-z0-9 ]{1,11}|[0-9]{3,8}")  # a name, or a short code


def _sid(prefix: str, name: str) -> AfterValidator:
    pattern = re.compile(f"{prefix}[0-9a-fA-F]{{32}}")

    def checked(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"not {name}: {prefix} and 32 digits and letters from a to f")
        return text

    return AfterValidator(checked)


def _phone_numbers(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        phone_number(text)
    return texts


def _sms_sender(text: str) -> str:
    return text if _SENDER.fullmatch(text) else phone_number(text)


class TwilioSettings(HttpSettings):
    """What both have. `to` may be empty when only contacts are called or written to. The auth token
    logs in, unless an API key does; it is also what Twilio signs its requests to us with."""

    account_sid: Annotated[str, _sid("AC", "the SID of an account")]
    auth_token: RefusedKey = None
    auth_token_file: FilePath | None = None
    auth_token_env: str | None = None
    api_key_sid: Annotated[str, _sid("SK", "the SID of an API key")] | None = None
    api_key_secret: RefusedKey = None
    api_key_secret_file: FilePath | None = None
    api_key_secret_env: str | None = None
    to: Annotated[Words, AfterValidator(_phone_numbers), NUMBER] = ()
    api_url: ServiceUrl = "https://api.twilio.com"
    poll: Interval = 2_000

    @model_validator(mode="after")
    def _logs_in(self) -> "TwilioSettings":
        tokens = (self.auth_token_file is not None) + (self.auth_token_env is not None)
        secrets = (self.api_key_secret_file is not None) + (self.api_key_secret_env is not None)
        if tokens > 1 or secrets > 1:
            raise ValueError("give a secret as a file or as an environment variable, not as both")
        if secrets != (self.api_key_sid is not None):
            raise ValueError(
                "api_key_sid goes with one of api_key_secret_file and api_key_secret_env"
            )
        if not tokens and not secrets:
            raise ValueError("add auth_token_file or auth_token_env, or an API key")
        return self


class TwilioSmsSettings(TwilioSettings):
    """`delivered_when`: what Twilio must say before the message counts as delivered: that the
    carrier took it (`sent`), or that the phone has it (`delivered`; not all carriers tell)."""

    type: Literal["twilio_sms"]
    sender: Annotated[str, AfterValidator(_sms_sender)] | None = Field(default=None, alias="from")
    messaging_service_sid: Annotated[str, _sid("MG", "the SID of a messaging service")] | None = (
        None
    )
    max_segments: int = Field(default=3, ge=1, le=10)
    delivered_when: Literal["sent", "delivered"] = "sent"
    patience: Interval = 20_000

    @model_validator(mode="after")
    def _one_sender(self) -> "TwilioSmsSettings":
        if (self.sender is None) == (self.messaging_service_sid is None):
            raise ValueError("give exactly one of from and messaging_service_sid")
        return self


def _whole_seconds(ms: int) -> int:
    if not 5_000 <= ms <= 600_000:
        raise ValueError("a phone rings for 5s to 10m; correct it")
    return ms


class TwilioVoiceSettings(TwilioSettings):
    """`ring`: how long; `redial`: after what time somebody who did not answer is called again.
    Calls are for pages: what is acknowledged or over is told by other ways, unless `calls_for` or
    `send_resolved` asks for it."""

    type: Literal["twilio_voice"]
    sender: Annotated[str, AfterValidator(phone_number), NUMBER] = Field(alias="from")
    send_resolved: bool = False
    ring: Annotated[Interval, AfterValidator(_whole_seconds)] = 30_000
    redial: Interval = 60_000
    voice: str = Field(default="", pattern=r"^[A-Za-z0-9.-]{0,60}$")
    calls_for: Literal["pages", "everything"] = "pages"
    detect_machine: bool = False
    press_to_acknowledge: bool = True
