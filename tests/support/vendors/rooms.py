"""The channels of chat rooms, made to write to a double."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import TypeAdapter

from support.vendors.slack import APP_TOKEN, BOT_TOKEN
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.registry import CHANNELS, ReceiverSettings
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.signed_links import SignedLinks


def room(kind: str, url: str = "", language: str = "en", **settings: Any) -> Any:
    """A channel of that type, whose secrets come from the environment."""
    env = {"URL": url, "TOKEN": BOT_TOKEN, "APP": APP_TOKEN}
    deps = ChannelDeps(
        vault=Vault(env, lambda path: path.read_text("utf-8")),
        templates=_templates(language),
        links=_links(),
    )
    where = {"url_env": "URL"} if url else {}
    section = {"type": kind, "timeout": "2s", **where, **settings}
    made: Any = TypeAdapter(ReceiverSettings).validate_python(section)
    return CHANNELS[kind]("ops", made, deps)


@cache
def _links() -> SignedLinks:
    links = SignedLinks("https://tocsin.example:4911")
    with TemporaryDirectory() as folder:
        links.begin(Path(folder))
    return links


@cache
def _templates(language: str) -> MessageTemplates:
    """They take a while to compile."""
    return MessageTemplates(language, links=_links())
