"""Apprise: a service behind it gets the message, here by its JSON one, and nobody knows why not."""

from support.channel_contract import ChannelContract, statuses
from support.contracts.webhook import texts
from support.webhook_sink import WebhookSink

_PASSWORD, _QUERY = "apprise-pass-word", "apprise-key-of-ours"

CONTRACT = ChannelContract(
    kind="apprise",
    section=lambda _: {"url_env": "URL"},
    address_env=lambda address: {
        "URL": f"json://u:{_PASSWORD}@{address.partition('://')[2]}/{_QUERY}"
    },
    secrets=frozenset({_PASSWORD, _QUERY}),
    double=WebhookSink,
    heard=lambda sink: "\n".join(texts(sink.requests[-1].json())),
    http=False,
    package="apprise",
    answers={"handed over": statuses(200), "failed": statuses(403)},
)
