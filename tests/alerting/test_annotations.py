"""Links to the agent lead to where its readers reach it, in every kind of message."""

from dataclasses import replace

from support.notifications import ENGINE_DOWN, notification
from tocsin_alerting.annotations import absolute_links
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.webhook.body import webhook_body

OURS = "http://127.0.0.1:4911/runbooks/InferenceEngineDown"


def page(external_url: str) -> Notification:
    notes = {"summary": "down", "runbook_url": OURS, "dashboard_url": "http://127.0.0.1:49110/d"}
    return notification(
        alerts=(replace(ENGINE_DOWN, annotations=notes),), external_url=external_url
    )


def test_our_links_move_and_others_stay() -> None:
    notes = {"runbook_url": OURS, "summary": f"see {OURS}", "other": "http://127.0.0.1:49110/"}
    shown = absolute_links(notes, "https://tocsin.example/gpu/")
    assert shown == {
        **notes, "runbook_url": "https://tocsin.example/gpu/runbooks/InferenceEngineDown"
    }  # fmt: skip
    assert absolute_links(notes, "") == notes


def test_a_mail_and_a_webhook_carry_the_link_that_can_be_followed() -> None:
    message, there = page("http://gpu-1:14921"), "http://gpu-1:14921/runbooks/InferenceEngineDown"
    for text in (MessageTemplates().text(message), MessageTemplates("zh").html(message)):
        assert there in text and OURS not in text and "http://127.0.0.1:49110/d" in text
    sent = webhook_body(message)
    assert sent["externalURL"] == "http://gpu-1:14921"
    assert sent["alerts"][0]["annotations"]["runbook_url"] == there
    assert sent["commonAnnotations"]["runbook_url"] == there
