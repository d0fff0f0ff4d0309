"""The webhook: the body is Alertmanager's, and a program reads it."""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from support.broken_server import silence
from support.channel_contract import (
    ChannelContract,
    behaving,
    no_name,
    no_tls,
    nobody_there,
    statuses,
    untrusted,
)
from support.webhook_sink import WebhookSink

_TOKEN, _QUERY = "t0ken-of-ours", "query-key-of-ours"
_SIGNING = "whsec_" + base64.b64encode(b"a signing key of 28 bytes ..").decode()


def _section(address: str) -> Mapping[str, Any]:
    url = address.replace("://", "://user:basic-pass-word@", 1)
    return {
        "url": f"{url}/services/{_QUERY}?key={_QUERY}",
        "bearer_token_env": "TOKEN",
        "secret_env": "SIGN",
        "timeout": "500ms",
    }


def texts(value: Any) -> Iterator[str]:
    """All that a reader of a JSON document can see."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield name
            yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)
    else:
        yield str(value)


CONTRACT = ChannelContract(
    kind="webhook",
    section=_section,
    env={"TOKEN": _TOKEN, "SIGN": _SIGNING},
    secrets=frozenset(
        {_QUERY, "basic-pass-word", base64.b64encode(b"user:basic-pass-word").decode()}
    ),
    double=WebhookSink,
    heard=lambda sink: "\n".join(texts(sink.requests[-1].json())),
    identity=lambda sink: [one.headers["webhook-id"] for one in sink.requests],
    answers={
        "HTTP 200 to 299": statuses(200, 201, 204, 299),
        "HTTP 200, refused in the body (`errcode` 40008)": statuses(200, body='{"errcode": 40008}'),
        "HTTP 200, too many messages (`errcode` 45009)": statuses(200, body='{"errcode": 45009}'),
        "HTTP 300 to 399": statuses(301, 302, 307),
        "HTTP 400, 401, 403, 404, 413, 422 and other 4xx": statuses(
            400, 401, 403, 404, 413, 418, 422, 451
        ),
        "HTTP 408, 425, 429": statuses(408, 425, 429),
        "HTTP 410": statuses(410),
        "HTTP 500 to 599": statuses(500, 502, 503, 504, 599),
        "no response in time": behaving(silence),
        "connection refused or broken": nobody_there,
        "name not found": no_name,
        "a certificate that is not trusted": untrusted,
        "TLS that fails otherwise": no_tls,
    },
)
