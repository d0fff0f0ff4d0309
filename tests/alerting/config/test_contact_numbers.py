"""A contact's number: the ways that it makes, and what is said of it before it is used."""

from collections.abc import Iterable, Mapping
from datetime import UTC
from pathlib import Path

import pytest

from tocsin_alerting.config.load import load
from tocsin_alerting.config.mailing import mail_problems
from tocsin_alerting.config.paging import notes, warnings
from tocsin_alerting.config.policies import ContactSection
from tocsin_alerting.config.references import CHECKS, ways_of
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.notify.contact_ways import no_receiver_words, types_by
from tocsin_alerting.notify.secret import Vault

BOTH = {"call": {"type": "twilio_voice"}, "text": {"type": "twilio_sms"}}
NUMBER = "+8613800000000"
KEY = f"api_key_sid: SK{'0' * 32}, api_key_secret_env: S"
HOOK = "hook: {type: webhook, url: 'http://127.0.0.1:9/'}"


def _ways(section: Mapping[str, object], **by_way: str) -> dict[str, str]:
    contact = ContactSection.model_validate(section).contact("li", by_way, UTC)
    assert all(
        addressee == Addressee(addressee.receiver, "li") for addressee in contact.ways.values()
    )
    return {way: addressee.receiver for way, addressee in contact.ways.items()}


def _said(data: object, checks: Iterable[object] = CHECKS) -> list[tuple[object, str]]:
    return [finding for check in checks for finding in check(data)]  # type: ignore[operator]


def test_a_number_is_two_ways_after_the_others() -> None:
    section = {"phone": NUMBER, "email": "li@example.com", "ways": {"chat": "li-chat"}}
    order = ["email", "chat", "sms", "phone"]
    assert list(ContactSection.model_validate(section).way_names()) == order
    told = _ways(section, email="mail", sms="text", phone="call")
    assert list(told.items()) == [
        *(("email", "mail"), ("chat", "li-chat"), ("sms", "text"), ("phone", "call"))
    ]


def test_a_number_without_a_receiver_is_no_way() -> None:
    assert _ways({"phone": NUMBER}) == {}
    assert _ways({"phone": NUMBER}, sms="text") == {"sms": "text"}
    assert _ways({"email": "li@example.com"}, email="mail", sms="text") == {"email": "mail"}


def test_a_way_of_ones_own_comes_before_the_first_receiver_and_prefers_orders_them() -> None:
    section = {"phone": NUMBER, "ways": {"sms": "text-2"}, "prefers": ["phone", "sms"]}
    told = _ways(section, sms="text", phone="call")
    assert list(told.items()) == [("phone", "call"), ("sms", "text-2")]


def test_the_ways_of_a_file_are_those_that_a_receiver_takes() -> None:
    contact = {"li": {"phone": NUMBER, "email": "li@example.com"}}
    assert ways_of({"contacts": contact, "receivers": BOTH}, "li") == ["email", "sms", "phone"]
    text_alone = {"contacts": contact, "receivers": {"text": BOTH["text"]}}
    assert ways_of(text_alone, "li") == ["email", "sms"]
    assert ways_of({"contacts": contact}, "*") == ["email"]


def test_a_step_that_asks_for_calls_where_nothing_calls_is_wrong() -> None:
    step = {"notify": [{"contact": "li", "via": ["phone", "sms"]}]}
    data: dict[str, object] = {
        "contacts": {"li": {"phone": NUMBER, "prefers": ["phone"]}},
        "receivers": {"text": BOTH["text"]},
        "policies": {"P0": {"steps": [step]}},
    }
    lack = no_receiver_words("phone")
    assert lack.startswith("no receiver calls; add one of type twilio_voice")
    said = [words for _, words in _said(data)]
    assert [words for words in said if words.startswith(('contact "li"', "prefers"))] == [
        f'contact "li" does not have a way called "phone": {lack}',
        f'prefers names "phone", and {lack}',
    ]
    data["receivers"] = BOTH
    assert not [words for _, words in _said(data) if '"li"' in words or "prefers" in words]


def test_a_receiver_that_calls_nobody_is_wrong_where_it_stands() -> None:
    here = ("example.com", lambda sender, people: "")
    mail_only = {"contacts": {"li": {"email": "li@example.com"}}, "receivers": BOTH}
    assert [finding for finding in mail_problems(mail_only, *here)] == [
        (
            ("receivers", name),
            f'receiver "{name}" has no "to" and no contact has a phone: it reaches nobody;'
            " add one of them",
        )
        for name in BOTH
    ]
    for data in (
        {"contacts": {"li": {"phone": NUMBER}}, "receivers": BOTH},
        {"receivers": {"text": {"type": "twilio_sms", "to": [NUMBER]}}},
    ):
        assert list(mail_problems(data, *here)) == []


def test_a_receiver_without_numbers_is_no_recipient_by_its_name() -> None:
    step = {"notify": [{"receiver": "text"}]}
    data: dict[str, object] = {"receivers": BOTH, "policies": {"P0": {"steps": [step]}}}
    assert ('receiver "text" has no "to" of its own; add it or name a contact') in [
        words for _, words in _said(data)
    ]


def test_a_way_by_number_needs_the_number() -> None:
    contact = {"email": "li@example.com", "ways": {"pager": "text"}}
    data = {"contacts": {"li": contact}, "receivers": BOTH}
    need = (("contacts", "li", "ways", "pager"), 'receiver "text" needs the phone of li; add it')
    assert need in _said(data)
    assert need not in _said({**data, "contacts": {"li": {**contact, "phone": NUMBER}}})


PUBLIC = "external_url is https at a public name"
VOICE = f"type: twilio_voice, account_sid: AC{'0' * 32}, from: '+15005550006'"


@pytest.mark.parametrize(
    ("url", "login", "lack"),
    [
        ("https://tocsin.example.com", "auth_token_env: T", ""),
        ("https://tocsin.example.com", KEY, "it has auth_token"),
        (
            "http://tocsin.example.com",
            "auth_token_env: T",
            "external_url is https at a public name",
        ),
        ("https://10.0.0.5", "auth_token_env: T", PUBLIC),
        ("https://10.0.0.5", "auth_token_env: T, press_to_acknowledge: false", ""),
    ],
)
def test_a_call_that_no_key_acknowledges_is_noted(
    tmp_path: Path, url: str, login: str, lack: str
) -> None:
    path = tmp_path / "tocsin.yml"
    path.write_text(
        f"external_url: {url}\ncontacts: {{li: {{phone: '{NUMBER}'}}}}\n"
        f"receivers: {{call: {{{VOICE}, {login}}}}}\n"
    )
    config = load(path, {"T": "token", "S": "secret"})
    said = [note for note in notes(config) if note.startswith("receiver")]
    assert said == (
        [f'receiver "call": a call can be acknowledged by a key only where {lack}'] if lack else []
    )
    assert [one for one in warnings(config, Vault({}, lambda _: ""), 0) if "li" in one] == []


def test_numbers_that_nothing_calls_are_said(tmp_path: Path) -> None:
    path = tmp_path / "tocsin.yml"
    path.write_text(f"contacts: {{li: {{phone: '{NUMBER}'}}}}\nreceivers: {{{HOOK}}}\n")
    said = warnings(load(path, {}), Vault({}, lambda _: ""), 0)
    assert [one for one in said if one.startswith("no receiver calls li or sends SMS")] == [
        "no receiver calls li or sends SMS: they get no notifications; add one of type "
        + " or ".join(types_by("phone"))
    ]
