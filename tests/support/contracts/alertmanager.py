"""Alertmanager: what its openapi.yaml demands of a posted alert, and its refusals."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from support.authority import Authority
from support.broken_server import silence
from support.channel_contract import (
    ChannelContract,
    at,
    behaving,
    no_name,
    nobody_there,
    send_once,
    statuses,
    untrusted,
)
from support.contracts.webhook import texts
from support.webhook_sink import Answer, Received, WebhookSink
from tocsin_alerting.incidents.outbox_message import Outcome

_LABEL_NAME = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")
_KEYS = {"labels", "annotations", "startsAt", "endsAt", "generatorURL"}


def _fault(request: Received) -> str:
    """Why the real one would answer 400 or 404; "" when it takes it."""
    if (request.method, request.path) != ("POST", "/api/v2/alerts"):
        return f"no {request.method} {request.path}"
    for alert in json.loads(request.body):
        if not set(alert) <= _KEYS or not alert["labels"].get("alertname"):
            return "unknown keys, or no name"
        names = {**alert["labels"], **alert["annotations"]}
        if not all(_LABEL_NAME.fullmatch(name) for name in names):
            return "not the name of a label"
        if datetime.fromisoformat(alert["endsAt"]) < datetime.fromisoformat(alert["startsAt"]):
            return "start time must be before end time"
    return ""


class AlertmanagerDouble(WebhookSink):
    async def _answer(self, request: Received, writer: Any) -> None:
        fault = _fault(request)
        self.usual = Answer(400, body=fault.encode()) if fault else Answer(200, body=b"")
        await super()._answer(request, writer)


def forwarded(*numbers: int) -> Any:
    """To two instances, of which each answers one of these."""

    async def case(contract: ChannelContract, _: Authority) -> list[Outcome]:
        one, other = (WebhookSink(usual=Answer(number)) for number in numbers)
        async with one, other:
            urls = [at(one.port), at(other.port)]
            return [await send_once(contract.build(at(0), urls=urls))]

    return case


def _section(address: str) -> Mapping[str, Any]:
    return {"urls": [address], "bearer_token_env": "TOKEN", "timeout": "500ms"}


def _heard(double: WebhookSink) -> str:
    return "\n".join(texts(double.requests[-1].json()))


CONTRACT = ChannelContract(
    kind="alertmanager",
    section=_section,
    env={"TOKEN": "alertmanager-t0ken"},
    double=AlertmanagerDouble,
    heard=_heard,
    answers={
        "HTTP 200 from one instance at least": forwarded(200, 400),
        "HTTP 500 to 599, 408, 425, 429": statuses(500, 503, 408, 425, 429),
        "none takes it, one may later": forwarded(503, 400),
        "HTTP 300 to 499 else": statuses(301, 400, 401, 404, 422),
        "HTTP 410 from each": statuses(410),
        "no response in time": behaving(silence),
        "connection refused or broken": nobody_there,
        "name not found": no_name,
        "a certificate that is not trusted": untrusted,
    },
)
