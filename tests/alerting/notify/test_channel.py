from support.notifications import NEW_YEAR_MS
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.notify.channel import channel_test_notification
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.samples import trial_notification
from tocsin_alerting.notify.webhook.body import webhook_body


def test_a_trial_says_that_nothing_is_wrong() -> None:
    message = channel_test_notification("ops", "li", NEW_YEAR_MS)
    assert Notification.from_json(message.to_json()) == message
    text = MessageTemplates().text(message)
    assert "nothing is wrong" in text and "alertctl ack" not in text
    html = MessageTemplates().html(message, NEW_YEAR_MS)
    assert "0s" not in text + html and "value" not in text + html
    assert MessageTemplates().subject(message) == "[P4] TocsinChannelTest ops test"
    assert MessageTemplates().line(message).startswith("P4 TocsinChannelTest ops test: ")
    for language in ("en", "zh"):
        written = MessageTemplates(language)
        shown = [written.text(message), written.html(message, NEW_YEAR_MS), written.line(message)]
        assert "#0" not in "".join(map(str, [*shown, written.parts(message, NEW_YEAR_MS)]))
        drill = trial_notification("acknowledged", "P0", "ops", "", NEW_YEAR_MS)
        firing = trial_notification("firing", "P0", "ops", "", NEW_YEAR_MS)
        said = [written.text(one) + written.html(one, NEW_YEAR_MS) for one in (drill, firing)]
        assert "alertctl" not in "".join(said)  # nothing has the number 0
    assert webhook_body(message)["tocsin"]["reason"] == "test"
