from support.notifications import NEW_YEAR_MS
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.notify.channel import channel_test_notification
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.webhook.body import webhook_body


def test_a_trial_says_that_nothing_is_wrong() -> None:
    message = channel_test_notification("ops", "li", NEW_YEAR_MS)
    assert Notification.from_json(message.to_json()) == message
    text = MessageTemplates().text(message)
    assert "nothing is wrong" in text and "alertctl ack" not in text
    html = MessageTemplates().html(message, NEW_YEAR_MS)
    assert "0s" not in text + html and "value" not in text + html
    assert MessageTemplates().subject(message) == "[P4] TocsinChannelTest ops (#0) test"
    assert webhook_body(message)["tocsin"]["reason"] == "test"
