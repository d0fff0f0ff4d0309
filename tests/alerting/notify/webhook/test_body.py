import json
import math
from dataclasses import replace
from typing import Any

from support.notifications import ENGINE_DOWN, notification, resolved
from tocsin_alerting.incidents.notification import Evidence
from tocsin_alerting.notify.webhook.body import MOST_BYTES, webhook_body

# The keys of template.Data and webhook.Message, alertmanager 0.25 and later.
MESSAGE_KEYS = {
    "version",
    "groupKey",
    "truncatedAlerts",
    "status",
    "receiver",
    "groupLabels",
    "commonLabels",
    "commonAnnotations",
    "externalURL",
    "alerts",
}
ALERT_KEYS = {
    "status",
    "labels",
    "annotations",
    "startsAt",
    "endsAt",
    "generatorURL",
    "fingerprint",
}


def test_version_4_and_nothing_else_when_asked() -> None:
    message = webhook_body(notification(), extra=False)
    assert set(message) == MESSAGE_KEYS
    assert message["version"] == "4" and message["status"] == "firing"
    assert set(message["alerts"][0]) == ALERT_KEYS
    assert message["alerts"][0]["startsAt"] == "2026-01-01T00:00:00.000Z"
    assert message["alerts"][0]["endsAt"] == "0001-01-01T00:00:00Z"


def test_ours_stands_under_one_key() -> None:
    message = webhook_body(notification(not_recorded=True))
    assert set(message) == MESSAGE_KEYS | {"tocsin"}
    ours = message["tocsin"]
    assert (ours["incident"], ours["reason"], ours["severity"]) == (42, "opened", "P0")
    assert ours["nextAt"] == "2026-01-01T00:15:02.000Z" and ours["notRecorded"] is True
    assert ours["values"] == {ENGINE_DOWN.fingerprint: 0.0}
    assert ours["evidence"] is None
    known = Evidence("97%", "> 95%", (("queue", "14"), ("load", "8.5")), b"png", 1, 2, "1", "9")
    told = webhook_body(notification(evidence=known))["tocsin"]["evidence"]
    assert told == {
        "value": "97%",
        "limit": "> 95%",
        "numbers": [{"name": "queue", "value": "14"}, {"name": "load", "value": "8.5"}],
    }


def test_resolved_alerts_have_an_end() -> None:
    message = webhook_body(resolved())
    assert message["status"] == "resolved"
    assert message["alerts"][0]["endsAt"] == "2026-01-01T00:05:00.000Z"
    assert message["tocsin"]["nextAt"] is None


def test_common_is_what_all_alerts_share_also_those_left_out() -> None:
    other = replace(ENGINE_DOWN, labels={**ENGINE_DOWN.labels, "instance": "gpu-2"}, annotations={})
    message = webhook_body(
        notification(alerts=(ENGINE_DOWN, other), truncated_alerts=3), max_alerts=1
    )
    assert set(message["commonLabels"]) == {"alertname", "severity", "target"}
    assert message["commonAnnotations"] == {}
    assert len(message["alerts"]) == 1 and message["truncatedAlerts"] == 4


def test_no_alert_at_all() -> None:
    assert webhook_body(notification(alerts=()))["commonLabels"] == {}


def test_numbers_that_json_lacks_and_text_that_utf8_lacks() -> None:
    odd = replace(ENGINE_DOWN, value=math.nan, annotations={"summary": "\ud800 \x00"})
    worse = replace(ENGINE_DOWN, value=-math.inf, fingerprint="b")
    text = json.dumps(webhook_body(notification(alerts=(odd, worse))), allow_nan=False)
    values: Any = json.loads(text)["tocsin"]["values"]
    assert values == {ENGINE_DOWN.fingerprint: "NaN", "b": "-Inf"}
    text.encode()


def test_labels_that_others_have_made_long_are_whole_or_counted() -> None:
    """A message of 100 alerts with labels of 5,000 characters was half a megabyte, which receivers
    refuse."""
    (one,) = notification().alerts[:1]
    long = [
        replace(one, labels={**one.labels, "n": str(number), "long": "\u4e00" * 5_000})
        for number in range(100)
    ]
    body = webhook_body(replace(notification(), alerts=tuple(long), truncated_alerts=7))
    sent = body["alerts"]
    assert len(sent) == MOST_BYTES // len(long[10].labels["long"].encode())
    assert body["truncatedAlerts"] == 100 - len(sent) + 7
    assert [alert["labels"] for alert in sent] == [dict(each.labels) for each in long[: len(sent)]]
    huge = replace(one, annotations={"x": "y" * 2 * MOST_BYTES})
    (alone,) = webhook_body(replace(notification(), alerts=(huge, one)))["alerts"]
    assert len(alone["annotations"]["x"]) == 2 * MOST_BYTES, "one is always told"
