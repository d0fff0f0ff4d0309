"""The message that tries a receiver out: it says that it is a test, and looks like a real one."""

from tocsin_alerting.incidents.notification import Notification, NotifiedAlert, Reason


def trial(receiver: str, contact: str, now_ms: int) -> Notification:
    """A P4 with one alert; its key differs from one trial to the next."""
    labels = {"alertname": "TocsinTest", "severity": "P4"}
    alert = NotifiedAlert(
        status="firing",
        labels=labels,
        annotations={
            "summary": "This is a test of the receiver.",
            "description": "Somebody ran alertctl channels test. Nothing is wrong.",
        },
        starts_at_ms=now_ms,
        ends_at_ms=None,
        value=1.0,
        fingerprint="0",
    )
    return Notification(
        key=f"test-{receiver}-{now_ms}",
        incident=0,
        receiver=receiver,
        contact=contact,
        reason=Reason.TEST,
        severity="P4",
        status="firing",
        state="TRIGGERED",
        step=0,
        loop=0,
        title="TocsinTest",
        group_key="test",
        group_labels=labels,
        alerts=(alert,),
        opened_at_ms=now_ms,
        at_ms=now_ms,
    )
