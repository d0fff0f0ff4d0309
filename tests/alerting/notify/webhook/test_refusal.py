"""A receiver that answers 200 and refuses in its body has not taken the message."""

import pytest

from tocsin_alerting.incidents.outbox_message import Permanent, RetryAt
from tocsin_alerting.notify.webhook.refusal import SERVICES, body_refusal, service_refusing_in_body

WECOM = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=k"
DINGTALK = "https://oapi.dingtalk.com/robot/send?access_token=t"
FEISHU = "https://open.feishu.cn/open-apis/bot/v2/hook/h"
TEAMS = "https://acme.webhook.office.com/webhookb2/x"
OURS = "https://hooks.example.com/wecom-proxy"

REFUSED = [
    (WECOM, '{"errcode": 40008, "errmsg": "invalid message type"}', Permanent),
    (WECOM, '{"errcode": 45009, "errmsg": "api freq out of limit"}', RetryAt),
    (DINGTALK, '{"errcode": 310000, "errmsg": "keywords not in content"}', Permanent),
    (DINGTALK, '{"errcode": 130101, "errmsg": "send too fast"}', RetryAt),
    (FEISHU, '{"code": 19001, "msg": "param invalid"}', Permanent),
    ("https://open.larksuite.com/x", '{"code": 19024, "data": {}, "msg": "Key Words"}', Permanent),
    ("https://slack.com/api/chat.postMessage", '{"ok": false, "error": "not_authed"}', Permanent),
    (TEAMS, "Webhook message delivery failed with error: HTTP error 429", Permanent),
    (OURS, '{"errcode": 93000, "errmsg": "invalid webhook url"}', Permanent),
    (OURS, '\ufeff{"errcode": 40008, "errmsg": "invalid message type"}', Permanent),
    (WECOM, '\ufeff{"errcode": 45009}', RetryAt),
    (OURS, '{"ok": false, "error": "channel_not_found"}', Permanent),
    (OURS, '{"StatusCode": 19001, "StatusMessage": "param invalid"}', Permanent),
    (FEISHU, '{"StatusCode": 19001, "StatusMessage": "param invalid"}', Permanent),
    (OURS, '{"errcode": -1, "ok": false}', RetryAt),
    (OURS, '{"errcode": [1]}', Permanent),
]


@pytest.mark.parametrize(("url", "answer", "kind"), REFUSED)
def test_it_is_refused(url: str, answer: str, kind: type) -> None:
    found = body_refusal(url, answer, "shown")
    assert isinstance(found, kind) and isinstance(found, RetryAt | Permanent)
    assert found.error == "answered 2xx and refused in the body: shown"


TAKEN = [
    (WECOM, '{"errcode": 0, "errmsg": "ok"}'),
    (FEISHU, '{"StatusCode": 0, "StatusMessage": "success", "code": 0, "msg": "success"}'),
    ("https://slack.com/api/chat.postMessage", '{"ok": true}'),
    (TEAMS, "1"),
    (OURS, '{"code": 200, "msg": "success"}'),
    (OURS, '{"code": 1}'),
    (OURS, '\ufeff{"errcode": 0}'),
    (OURS, '{"ok": true}'),
    (OURS, '{"ok": 1}'),
    (OURS, '{"ok": "true"}'),
    (OURS, '{"errcode": "0"}'),
    (OURS, '{"errcode": null, "ok": null}'),
    (OURS, '{"StatusCode": 0, "StatusMessage": "success"}'),
    (OURS, '{"StatusCode": 200, "StatusMessage": "OK"}'),
    (OURS, '{"StatusCode": 19001}'),
    (OURS, ""),
    (OURS, "ok"),
    (OURS, "[1]"),
    (OURS, "[" * 100_000),
    (OURS, '{"errcode": 0'),
]


@pytest.mark.parametrize(("url", "answer"), TAKEN)
def test_it_is_taken(url: str, answer: str) -> None:
    assert body_refusal(url, answer, "shown") is None


def test_those_that_read_only_their_own_format_are_known_by_their_host() -> None:
    assert all(service_refusing_in_body(f"https://{host}/x?key=1") for host in SERVICES)
    assert service_refusing_in_body("https://QYAPI.weixin.qq.com:443/x") == "WeCom"
    assert service_refusing_in_body(TEAMS) == "Microsoft Teams"
    for other in (OURS, "https://example.com/?u=qyapi.weixin.qq.com", "http://x.slack.com.evil/"):
        assert service_refusing_in_body(other) == ""
