"""What is said in a call, and the document that has it said."""

from urllib.parse import quote
from xml.etree import ElementTree

import pytest

from support.hostile_texts import HOSTILE_TEXTS
from support.vendors.twilio import spoken_by, twiml_faults
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.twilio.spoken import Twiml, for_the_ear, sentence

URL = "https://tocsin.example.com/links/abc-_/call?generation=1"


def parts(subject: str) -> MessageParts:
    return MessageParts(subject, "fires", "page", "P0", "#42")


@pytest.mark.parametrize(
    ("text", "language", "said"),
    [
        ("127.0.0.1:8000", "en", "127 dot 0 dot 0 dot 1 port 8000"),
        ("127.0.0.1:8000", "zh", "127点0点0点1端口8000"),
        ("gpu-1", "en", "gpu 1"),
        ("db_main:5432 is slow", "en", "db main port 5432 is slow"),
        ("InferenceEngineDown", "en", "Inference Engine Down"),
        ("GPUMemoryFull", "en", "GPU Memory Full"),
        ("see https://runbooks.example/x?y=1 now", "en", "see a link now"),
        ("GPU-5f1c2b3a-9d8e-4c7b-a6f5-e4d3c2b1a0f9 lost", "en", "GPU a 0 f 9 lost"),
        ("P0 (#42)", "en", "P 0"),
        ("98.7% of 24 GB", "en", "98.7% of 24 GB"),
        ("引擎没有响应😀", "zh", "引擎没有响应"),
        ("<break time='9s'/>&amp;", "en", "break time 9s amp;"),
        ("a\u202eb\u200bc", "en", "a b c"),
    ],
)
def test_what_is_written_is_said_so_that_one_can_follow(
    text: str, language: str, said: str
) -> None:
    assert for_the_ear(text, language).rstrip(";") == said.rstrip(";")


def test_the_sentence_has_number_severity_machine_and_what() -> None:
    subject = parts("[P0] gpu-1: Engine 127.0.0.1:8000 does not answer (#42)")
    assert sentence(subject, 42, "en") == (
        "Alert from Tocsin. Incident 42. P 0, gpu 1: Engine 127 dot 0 dot 0 dot 1 port 8000"
        " does not answer"
    )
    assert sentence(parts("[P0] gpu-1：引擎没有响应（#42）"), 42, "zh").startswith(
        "Tocsin 告警。42号事件。P 0, gpu 1"
    )


def test_it_is_said_twice_with_a_key_to_press_or_without() -> None:
    said = "Incident 42."
    with_key = ElementTree.fromstring(Twiml("en").call(said, URL))
    gather = with_key.find("Gather")
    assert gather is not None
    assert {name: gather.get(name) for name in ("action", "method", "numDigits", "input")} == {
        **{"action": URL, "method": "POST", "numDigits": "1", "input": "dtmf"}
    }
    texts = [say.text for say in gather.iter("Say")]
    assert texts == [said, f"I repeat. {said}", "Press 1 to acknowledge."]
    assert {say.get("language") for say in with_key.iter("Say")} == {"en-US"}
    without = Twiml("zh", "Polly.Zhiyu").call("四十二号", "")
    assert "Gather" not in without and spoken_by(without)[:2] == ["四十二号", "重复一遍。四十二号"]
    assert {say.get("voice") for say in ElementTree.fromstring(without).iter("Say")} == {
        "Polly.Zhiyu"
    }


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("hostile", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_no_label_breaks_the_document_or_is_anything_but_text(hostile: str, language: str) -> None:
    said = sentence(parts(f"[P0] gpu-1: {hostile} (#42)"), 42, language)
    long_url = URL + "&x=" + "a" * 700
    document = Twiml(language).call(said, long_url)
    assert twiml_faults(document) == "" and len(document) <= 4000
    assert len(said) <= 300 and "42" in said and "gpu 1" in said
    assert not set(said) & set("<>&\"'[]{}\\\n\r")
    assert twiml_faults(Twiml(language).reply(hostile + " x")) == ""


@pytest.mark.parametrize("long", ["字" * 5000, "word " * 1000, "x" * 5000, "&" * 5000])
def test_what_is_too_long_is_cut_and_the_document_stays_small(long: str) -> None:
    said = sentence(parts(f"[P0] gpu-1: {long} (#42)"), 42, "zh")
    assert (
        len(Twiml("zh").call(said, URL)) <= 4000 and len(said) <= 300 and len(quote(said)) <= 4500
    )


def test_another_key_is_asked_for_again() -> None:
    again = Twiml("en").ask_again(URL)
    assert twiml_faults(again) == "" and "<Gather" in again
    reply = Twiml("en").reply("Acknowledged. You have it.")
    assert spoken_by(reply) == ["Acknowledged. You have it"] and "<Hangup" in reply
