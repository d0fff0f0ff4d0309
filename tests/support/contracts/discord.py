"""Discord's webhook."""

from markdown_it import MarkdownIt

from support.channel_contract import ChannelContract, answered, statuses
from support.vendors.discord import DISCORD_PATH, DiscordDouble
from support.webhook_sink import Answer

_COMMONMARK = MarkdownIt("commonmark")


def read_markdown(text: str) -> str:
    """What a reader sees of it, by an independent reader of CommonMark, with the links' URLs."""
    inner = [
        one
        for token in _COMMONMARK.parse(text)
        if token.type == "inline"
        for one in token.children or ()
    ]
    return "".join(
        "\n"
        if one.type in ("softbreak", "hardbreak")
        else f"{one.attrGet('href')} "
        if one.type == "link_open"
        else one.content
        for one in inner
    )


def _heard(double: DiscordDouble) -> str:
    message = list(double.messages.values())[-1]
    return "\n".join(map(read_markdown, (message["content"], message["embeds"][0]["description"])))


CONTRACT = ChannelContract(
    kind="discord",
    section=lambda _: {"url_env": "DISCORD_URL", "timeout": "5s"},
    address_env=lambda address: {"DISCORD_URL": address + DISCORD_PATH},
    secrets=frozenset({DISCORD_PATH.rpartition("/")[2]}),
    double=DiscordDouble,
    heard=_heard,
    mentioned=lambda double: double.called,
    answers={
        "a message, or HTTP 204": answered(Answer(200, {}, b'{"id": "7"}'), Answer(204)),
        "HTTP 429, `retry_after` in the body": answered(Answer(429, {}, b'{"retry_after": 0.3}')),
        "another HTTP 200 to 299": statuses(200, 202),
        "HTTP 400, 403": statuses(400, 403),
        "HTTP 401, 404": statuses(401, 404),
    },
)
