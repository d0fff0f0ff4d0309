"""Alerts and what happens to them, in as few words as a test needs."""

from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind, rules_origin


def alert(name: str = "EngineDown", severity: str = "P0", at_ms: int = 0, **labels: str) -> Alert:
    every = {"alertname": name, **labels}
    if severity:
        every["severity"] = severity
    return Alert(
        rule=f"test/{name}/0",
        labels=tuple(sorted(every.items())),
        annotations=(("summary", f"{name} fires"),),
        state=AlertState.FIRING,
        value=1.0,
        active_at_ms=at_ms,
        fired_at_ms=at_ms,
    )


def origin(one: Alert) -> str:
    return rules_origin("test.yml", one.rule)


def fires(one: Alert, at_ms: int = 0) -> AlertEvent:
    return AlertEvent(EventKind.FIRING, one, at_ms, origin=origin(one))


def clears(one: Alert, at_ms: int = 0) -> AlertEvent:
    return AlertEvent(EventKind.CLEAR, one, at_ms, origin=origin(one))


def unknown(one: Alert, at_ms: int = 0) -> AlertEvent:
    return AlertEvent(EventKind.UNKNOWN, one, at_ms, "the source is dead", origin(one))


def gives_up(one: Alert, at_ms: int = 0) -> AlertEvent:
    return AlertEvent(EventKind.GIVEN_UP, one, at_ms, "unknown for 1d, given up", origin(one))


def removed(one: Alert, at_ms: int = 0) -> AlertEvent:
    return AlertEvent(EventKind.REMOVED, one, at_ms, origin=origin(one))
