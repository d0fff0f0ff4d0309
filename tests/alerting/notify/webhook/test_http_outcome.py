from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from tocsin_alerting.incidents.outbox_message import Delivered, Permanent, RetryAt
from tocsin_alerting.notify.http_sender import MAX_WAIT_MS, http_outcome, not_before
from tocsin_alerting.notify.webhook.http_outcome import (
    SERVICES,
    body_refusal,
    service_refusing_in_body,
)

NOW_MS = 1_767_225_600_000
RETRIED = {408, 425, 429}


def test_every_status_has_one_meaning() -> None:
    for status in range(200, 600):
        result = http_outcome(status, None, NOW_MS)
        if status < 300:
            assert isinstance(result, Delivered), status
        elif status in RETRIED or status >= 500:
            assert result == RetryAt(f"HTTP {status}")
        else:
            assert isinstance(result, Permanent) and result.final == (status == 410), status


def _date(seconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(NOW_MS // 1000 + seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("header", "wait_ms"),
    [
        ("30", 30_000),
        (" 7 ", 7_000),
        (_date(90), 90_000),
        (_date(-90), 0),
        ("86400", MAX_WAIT_MS),
        ("9" * 400, MAX_WAIT_MS),
        (_date(7 * 86_400), MAX_WAIT_MS),
    ],
)
def test_retry_after_in_both_forms_and_within_reason(header: str, wait_ms: int) -> None:
    assert not_before(header, NOW_MS) == NOW_MS + wait_ms
    assert http_outcome(429, header, NOW_MS) == RetryAt("HTTP 429", NOW_MS + wait_ms)
    assert http_outcome(503, header, NOW_MS) == RetryAt("HTTP 503", NOW_MS + wait_ms)


@pytest.mark.parametrize("header", [None, "", "0", "soon", "-5", "1.5", "Mon, 99 Foo 2026", "٣"])
def test_retry_after_without_sense_is_no_time(header: str | None) -> None:
    assert not_before(header, NOW_MS) is None


def test_a_redirect_says_what_to_do() -> None:
    result = http_outcome(302, None, NOW_MS, "moved")
    assert isinstance(result, Permanent) and "configure the new URL" in result.error


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
    assert found.error == "HTTP 2xx, but the body refuses the message: shown"


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
