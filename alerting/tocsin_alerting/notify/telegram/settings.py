"""The section of a Telegram receiver."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, model_validator

from tocsin_alerting.notify.http_sender import HttpSettings, ServiceUrl
from tocsin_alerting.notify.secret_keys import require_secrets
from tocsin_alerting.settings import FilePath, RefusedKey

_TOKEN = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{20,200}")
_CHANNEL = re.compile(r"@[A-Za-z][A-Za-z0-9_]{3,31}")


def _chat(chat_id: object) -> int | str:
    """As the Bot API takes it: a number, negative for a group, or the name of a public channel.
    Asked before pydantic would name each of the two types that something else is not."""
    if isinstance(chat_id, int) and not isinstance(chat_id, bool):
        return chat_id
    if isinstance(chat_id, str) and _CHANNEL.fullmatch(chat_id):
        return chat_id
    raise ValueError("chat_id is a number like -1001234567890, or @name of a public channel")


def _numbers(users: object) -> object:
    """A number of YAML is as good as its text."""
    if not isinstance(users, Mapping):
        return users
    for number in users:
        if not str(number).isdecimal():
            raise ValueError(f"{str(number)!r} is no number of a user, like 123456789")
    return {str(number): contact for number, contact in users.items()}


def checked_token(token: str) -> str:
    """Raises ValueError, which does not show it."""
    if not _TOKEN.fullmatch(token):
        raise ValueError("this is no token of a bot, like 123456789:AAF…; ask @BotFather for it")
    return token


class TelegramSettings(HttpSettings):
    """`users` are who may press a button, by their numbers in Telegram, with the contact that each
    is; `anyone` in the chat may. With neither there are no buttons, and nobody is listened to."""

    type: Literal["telegram"]
    token: RefusedKey = None
    token_file: FilePath | None = None
    token_env: str | None = None
    chat_id: Annotated[int | str, BeforeValidator(_chat)]
    message_thread_id: int | None = None
    users: Annotated[Mapping[str, str], BeforeValidator(_numbers)] = {}
    anyone: bool = False
    api_url: ServiceUrl = "https://api.telegram.org"

    @model_validator(mode="after")
    def _one_token(self) -> "TelegramSettings":
        require_secrets(self, "token")
        return self

    @property
    def listens(self) -> bool:
        return bool(self.users) or self.anyone
