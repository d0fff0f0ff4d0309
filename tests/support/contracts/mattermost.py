"""Mattermost's incoming webhook."""

from support.channel_contract import ChannelContract, answered, statuses
from support.contracts.discord import read_markdown
from support.vendors.mattermost import MATTERMOST_PATH, MattermostDouble
from support.webhook_sink import Answer


def _heard(double: MattermostDouble) -> str:
    post = double.posts[-1]
    return "\n".join(map(read_markdown, (post["text"], post["attachments"][0]["text"])))


CONTRACT = ChannelContract(
    kind="mattermost",
    section=lambda _: {"url_env": "MATTERMOST_URL", "timeout": "5s"},
    address_env=lambda address: {"MATTERMOST_URL": address + MATTERMOST_PATH},
    secrets=frozenset({MATTERMOST_PATH.rpartition("/")[2]}),
    double=MattermostDouble,
    heard=_heard,
    mentioned=lambda double: double.called,
    answers={
        "`ok`": answered(Answer(200, {}, b"ok")),
        "another HTTP 200 to 299": answered(Answer(200, {}, b"<html>"), Answer(202, {}, b"ok")),
        "HTTP 400, 403, 404": statuses(400, 403, 404),
    },
)
