"""Services that answer 200 and refuse in the body: what they say there, and who they are.

Where a key is used by others too, the host decides. Unverified, because no document of theirs was
at hand: PushPlus, WxPusher, ServerChan, KOOK.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tocsin_alerting.incidents.outbox_message import Outcome, Permanent, RetryAt


@dataclass(frozen=True, slots=True)
class WebhookService:
    """`key` holds `good` when a message was taken. `kind` is the type of receiver that speaks to it
    as it wants."""

    name: str
    key: str
    good: tuple[Any, ...] = (0,)
    kind: str = ""


_WECOM = WebhookService("WeCom", "errcode", kind="wecom")
_FEISHU = WebhookService("Feishu/Lark", "code", kind="feishu")
SERVICES: Mapping[str, WebhookService] = {
    "qyapi.weixin.qq.com": _WECOM,
    "api.weixin.qq.com": WebhookService("WeChat", "errcode"),
    "oapi.dingtalk.com": WebhookService("DingTalk", "errcode", kind="dingtalk"),
    "open.feishu.cn": _FEISHU,
    "open.larksuite.com": _FEISHU,
    "slack.com": WebhookService("Slack's Web API", "ok", (True,)),
    "www.slack.com": WebhookService("Slack's Web API", "ok", (True,)),
    "www.pushplus.plus": WebhookService("PushPlus", "code", (200,)),
    "wxpusher.zjiecode.com": WebhookService("WxPusher", "code", (1000,)),
    "sctapi.ftqq.com": WebhookService("ServerChan", "code"),
    "www.kookapp.cn": WebhookService("KOOK", "code"),
}
_RETRIED_CODES = (-1, 45009, 130101)  # busy; WeCom and DingTalk: too many messages a minute
_TEAMS = WebhookService("Microsoft Teams", "")
_SUFFIXES = {".webhook.office.com": _TEAMS, "outlook.office.com": _TEAMS}
_OTHER = WebhookService("the receiver", "")
# Also from another host, which relays: nobody else means something else by these. A host of one's
# own may say that all is well in other types than they do.
_RELAYED_SERVICES = (
    WebhookService("WeCom or DingTalk", "errcode", (0, "0", None)),
    WebhookService("Slack's Web API", "ok", (True, 1, "true", "ok", None)),
    WebhookService("Feishu/Lark", "StatusCode", (0, *range(200, 300))),
)
_REQUIRED_BESIDE = {"StatusCode": "StatusMessage"}  # else it may be of anything


def service_refusing_in_body(url: str) -> str:
    """The name of the service at `url`, when it is one of those; "" else."""
    service = _service(url)
    return "" if service is _OTHER else service.name


def receiver_type_for(url: str) -> str:
    """The `type` of receiver that the service at `url` wants; "" where there is none."""
    return _service(url).kind


def body_refusal(url: str, answer: str, shown: str) -> Outcome | None:
    """What an answer with status 2xx says against the message, which is `shown` without secrets;
    None when it says nothing."""
    service = _service(url)
    error = f"HTTP 2xx, but the body refuses the message: {shown}"
    if service is _TEAMS:
        return Permanent(error) if "failed" in answer.lower() else None
    try:
        body = json.loads(answer.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    bad = [
        body[candidate.key]
        for candidate in (service, *_RELAYED_SERVICES)
        if _refuses(candidate, body)
    ]
    if not bad:
        return None
    return RetryAt(error) if any(code in _RETRIED_CODES for code in bad) else Permanent(error)


def _refuses(service: WebhookService, body: Mapping[str, Any]) -> bool:
    if service.key not in body or _REQUIRED_BESIDE.get(service.key, service.key) not in body:
        return False
    code = body[service.key]
    return not any(code == good and type(code) is type(good) for good in service.good)


def _service(url: str) -> WebhookService:
    host = (urlsplit(url).hostname or "").rstrip(".")
    ends = (service for suffix, service in _SUFFIXES.items() if host.endswith(suffix))
    return SERVICES.get(host) or next(ends, _OTHER)
