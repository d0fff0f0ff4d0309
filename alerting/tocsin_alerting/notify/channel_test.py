"""A message that says that nothing is wrong: for trying a channel."""

from tocsin_alerting.incidents.notification import Notification, NotifiedAlert, Reason


def channel_test_notification(
    receiver: str, contact: str, now_ms: int, external_url: str = ""
) -> Notification:
    """A test notification to `receiver`, or to `contact` through it; its incident is number 0."""
    labels = {"alertname": "TocsinChannelTest", "severity": "P4"}
    alert = NotifiedAlert(
        status="firing",
        labels=labels,
        annotations={"summary": "This is a test of the channel; nothing is wrong."},
        starts_at_ms=now_ms,
        ends_at_ms=None,
        value=1.0,
        fingerprint="0" * 16,
    )
    return Notification(
        key=f"test/{receiver}/{contact}/{now_ms}",
        incident=0,
        receiver=receiver,
        contact=contact,
        reason=Reason.TEST,
        severity="P4",
        status="firing",
        state="TRIGGERED",
        step=0,
        loop=0,
        title=f"TocsinChannelTest {receiver}",
        group_key='{}:{alertname="TocsinChannelTest"}',
        group_labels={"alertname": "TocsinChannelTest"},
        alerts=(alert,),
        opened_at_ms=now_ms,
        at_ms=now_ms,
        external_url=external_url,
    )
