"""Notifications to send in tests."""

from dataclasses import replace
from typing import Any

from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification, NotifiedAlert

NEW_YEAR_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z

ENGINE_DOWN = NotifiedAlert(
    status="firing",
    labels={
        "alertname": "InferenceEngineDown",
        "severity": "P0",
        "target": "127.0.0.1:8000",
        "instance": "gpu-1",
    },
    annotations={
        "summary": "The engine at 127.0.0.1:8000 does not answer",
        "description": "No answer for 1s.\nLook at the worker's log.",
        "runbook_url": "https://runbooks.example/InferenceEngineDown",
    },
    starts_at_ms=NEW_YEAR_MS,
    ends_at_ms=None,
    value=0.0,
    fingerprint="449f87e64cb549a2",
    generator_url="http://127.0.0.1:4911/graph",
)


def notification(**changes: Any) -> Notification:
    """An engine is down: the first page of incident 42."""
    page = Notification(
        key="42/1/0/0/ops//opened/1",
        incident=42,
        receiver="ops",
        contact="",
        reason=Reason.OPENED,
        severity="P0",
        status="firing",
        state="TRIGGERED",
        step=0,
        loop=0,
        title="InferenceEngineDown 127.0.0.1:8000",
        group_key='{}:{alertname="InferenceEngineDown", target="127.0.0.1:8000"}',
        group_labels={"alertname": "InferenceEngineDown", "target": "127.0.0.1:8000"},
        alerts=(ENGINE_DOWN,),
        opened_at_ms=NEW_YEAR_MS,
        at_ms=NEW_YEAR_MS + 2_000,
        others=("hook",),
        next_at_ms=NEW_YEAR_MS + 902_000,
        next_to=("li by email",),
        external_url="http://127.0.0.1:4911",
    )
    return replace(page, **changes)


def resolved(**changes: Any) -> Notification:
    """The same incident, over after five minutes."""
    end_ms = NEW_YEAR_MS + 300_000
    alert = replace(ENGINE_DOWN, status="resolved", ends_at_ms=end_ms, value=1.0)
    return notification(
        **{
            "key": "42/2/0/0/ops//resolved/2",
            "reason": Reason.RESOLVED,
            "status": "resolved",
            "state": "RESOLVED",
            "alerts": (alert,),
            "at_ms": end_ms,
            "next_at_ms": None,
            "next_to": (),
            **changes,
        }
    )
