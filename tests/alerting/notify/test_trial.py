from support.notifications import NEW_YEAR_MS
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.notify.alertmanager import body
from tocsin_alerting.notify.trial import trial
from tocsin_alerting.notify.wording import Wording


def test_a_trial_says_that_nothing_is_wrong() -> None:
    message = trial("ops", "li", NEW_YEAR_MS)
    assert Notification.from_json(message.to_json()) == message
    text = Wording().text(message)
    assert "nothing is wrong" in text and "alertctl ack" not in text
    html = Wording().html(message, NEW_YEAR_MS)
    assert "0s" not in text + html and "value" not in text + html
    assert Wording().subject(message) == "[P4] TocsinChannelTest ops (#0) test"
    assert body(message)["tocsin"]["reason"] == "test"
