"""Gotify: a push message in Markdown, which is read here as an independent reader does."""

from collections.abc import Iterator
from typing import Any

from markdown_it import MarkdownIt

from support.channel_contract import ChannelContract, answered, statuses
from support.vendors.judging import as_json
from support.vendors.push import GOTIFY_TOKEN, GotifyDouble


def _shown(text: str) -> Iterator[str]:
    """Text and links of a document in CommonMark; what it lays out as anything else is named."""
    for block in MarkdownIt("commonmark").parse(text):
        if block.type not in ("inline", "paragraph_open", "paragraph_close"):
            yield f"<{block.type}>"
        for token in block.children or ():
            if token.type == "link_open":
                yield str(token.attrs["href"])
            elif token.type in ("text", "softbreak", "hardbreak"):
                yield token.content or "\n"
            elif token.type not in ("link_close", "strong_open", "strong_close", "text_special"):
                yield f"<{token.type}>"


def _heard(server: GotifyDouble) -> str:
    message: dict[str, Any] = server.taken[-1]
    return "\n".join([message["title"], "".join(_shown(message["message"]))])


CONTRACT = ChannelContract(
    kind="gotify",
    section=lambda address: {"url": address, "token_env": "TOKEN", "timeout": "500ms"},
    env={"TOKEN": GOTIFY_TOKEN},
    double=GotifyDouble,
    heard=_heard,
    answers={
        "200 with the message's `id`": answered(as_json(200, {"id": 1})),
        "200 that is not from a Gotify server": statuses(200, body="<html>welcome</html>"),
        "400, 404: the message or the address is wrong": statuses(400, 404),
        "401, 403: the token is not that of an application": answered(
            as_json(401, {"error": "Unauthorized"}), as_json(403, {"error": "Forbidden"})
        ),
        "429": statuses(429),
        "500 to 599": statuses(500, 502, 503),
    },
)
