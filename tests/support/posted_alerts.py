"""Alerts as a sender posts them, in as few words as a test needs."""

from typing import Any

from tocsin_alerting.incidents.external_alerts import EXTERNAL, ExternalAlert

PROMETHEUS = "http://prom:9090"


def external(
    name: str = "Down",
    *,
    starts: int = 0,
    ends: int = 300_000,
    at: int = 0,
    sender: str = PROMETHEUS,
    **more: Any,
) -> ExternalAlert:
    """Times are milliseconds; `sender` "" is one that is known by its address alone."""
    client = more.pop("client", "10.0.0.1")
    settings = {"times_out": False, **more.pop("settings", {})}
    labels = {"alertname": name, "severity": "critical", **more}
    return ExternalAlert(
        origin=EXTERNAL + (sender or client),
        labels=tuple(sorted(labels.items())),
        annotations=(("summary", f"{name} fires"),),
        starts_at_ms=starts,
        ends_at_ms=ends,
        updated_at_ms=at,
        generator_url=f"{sender}/graph" if sender else "",
        client=client,
        **settings,
    )
