"""The section of a Slack receiver: an incoming webhook, or an app with a token of its own."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from tocsin_alerting.notify.http_sender import HttpSettings, ServiceUrl
from tocsin_alerting.settings import FilePath, RefusedKey, Words

API_URL = "https://slack.com/api"
_MENTION = re.compile(r"channel|here|everyone|[UWS][A-Z0-9]{1,20}")
_USER = re.compile(r"[UW][A-Z0-9]{1,20}")
_TEXT_KEYS = ("channel",)
_APP_KEYS = ("app_token_file", "app_token_env", "users", "anyone")


def _callable(mentions: tuple[str, ...]) -> tuple[str, ...]:
    for mention in mentions:
        if not _MENTION.fullmatch(mention):
            raise ValueError(
                f"{mention!r} calls nobody; give channel, here, everyone, or the ID of a user "
                "(U...) or a user group (S...)"
            )
    return mentions


def _known(users: Mapping[str, str]) -> Mapping[str, str]:
    for user, contact in users.items():
        if not _USER.fullmatch(user) or not contact:
            raise ValueError(
                f"{user!r} is no member ID; copy it from the profile in Slack, it is like U012AB3CD"
            )
    return users


class SlackSettings(HttpSettings):
    """With a `url` an incoming webhook; with a `token` an app, which keeps each incident in a
    thread, and with an `app_token` as well has buttons."""

    type: Literal["slack"]
    url: RefusedKey = None
    url_file: FilePath | None = None
    url_env: str | None = None
    token: RefusedKey = None
    token_file: FilePath | None = None
    token_env: str | None = None
    channel: str = ""
    app_token: RefusedKey = None
    app_token_file: FilePath | None = None
    app_token_env: str | None = None
    users: Annotated[Mapping[str, str], AfterValidator(_known)] = {}
    anyone: bool = False
    mention: Annotated[Words, AfterValidator(_callable)] = ()
    api_url: ServiceUrl = API_URL

    @model_validator(mode="after")
    def _one_way(self) -> "SlackSettings":
        ways = (self.url_file, self.url_env, self.token_file, self.token_env)
        if sum(way is not None for way in ways) != 1:
            raise ValueError(
                "give exactly one of url_file, url_env (an incoming webhook), token_file and "
                "token_env (an app)"
            )
        if not self.has_token:
            self._only_a_url()
        elif not self.channel:
            raise ValueError("an app needs channel: the ID (C...) or the name of where it writes")
        return self

    def _only_a_url(self) -> None:
        for key in (*_TEXT_KEYS, *_APP_KEYS):
            if getattr(self, key):
                raise ValueError(f"{key} needs token_file or token_env: a webhook cannot do that")

    @model_validator(mode="after")
    def _somebody_answers(self) -> "SlackSettings":
        if self.app_token_file is not None and self.app_token_env is not None:
            raise ValueError("give one of app_token_file and app_token_env")
        if self.has_buttons != bool(self.users or self.anyone):
            raise ValueError(
                "who may press the buttons? give app_token_file and either users or anyone: true"
            )
        return self

    @property
    def has_token(self) -> bool:
        return self.token_file is not None or self.token_env is not None

    @property
    def has_buttons(self) -> bool:
        return self.app_token_file is not None or self.app_token_env is not None
