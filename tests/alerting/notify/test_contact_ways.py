"""Which receivers write to contacts by which address, and telephone numbers."""

import pytest

from tocsin_alerting.notify.contact_ways import (
    contact_key,
    masked_number,
    no_receiver_words,
    phone_number,
    types_by,
    way_receivers,
    ways_by,
)


@pytest.mark.parametrize("number", ["+8613800000000", "+15005550006", "+4930123456", "+6821234"])
def test_a_number_with_its_country(number: str) -> None:
    assert phone_number(number) == number


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("+86 138 0000 0000", "without blanks and signs: +8613800000000"),
        ("+1 (500) 555-0006", "without blanks and signs: +15005550006"),
        ("13800000000", "needs its country"),
        ("008613800000000", "needs its country"),
        ("+0138000000", "not a telephone number like"),
        ("+12345", "not a telephone number like"),
        ("+1234567890123456", "not a telephone number like"),
        ("+８６13800000000", "not a telephone number like"),
        ("+8613800000000\n", "not a telephone number like"),
        ("li@example.com", "not a telephone number like"),
        ("", "not a telephone number like"),
    ],
)
def test_what_is_no_number_says_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=".") as refused:
        phone_number(text)
    assert said in str(refused.value)


def test_a_number_is_shown_by_its_last_digits() -> None:
    assert masked_number("+8613800000123") == "…123"
    assert masked_number("+12345") == "…"


def test_the_first_receiver_of_a_type_takes_a_way() -> None:
    types = {"log": "log", "a": "email", "b": "email", "text": "twilio_sms", "x": 5}
    assert way_receivers(types) == {"email": "a", "sms": "text"}
    assert ways_by(["phone"]) == ("sms", "phone")
    assert ways_by(["email", "other"]) == ("email",)


def test_by_which_key_a_type_writes() -> None:
    assert [contact_key(kind) for kind in ("email", "twilio_sms", "twilio_voice")] == [
        *("email", "phone", "phone")
    ]
    assert contact_key("webhook") == contact_key(None) == ""
    assert {"twilio_sms", "twilio_voice"} <= {*types_by("phone")}
    assert "add one of type twilio_sms" in no_receiver_words("sms")
    assert no_receiver_words("chat") == ""
