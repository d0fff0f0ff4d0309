"""Mail and webhook receivers that misbehave: the page goes by the others, and by them once well."""

import json
import threading
import time
from collections.abc import Iterator
from itertools import zip_longest

import pytest

from support.fuzz_bodies import HOOK_ANSWERS
from support.neighbourhood import PAGE_SECONDS, PART, SOUND_HOOK, SOUND_MAIL, Neighbourhood

MENDED_SECONDS = 6
RETRIED_SECONDS = 45  # the first retry comes 15 s after the refusal
MAILS = {
    "hangs up": b"",
    "speaks another language": b"HTTP/1.1 200 OK\r\n\r\n",
    "never ends its greeting": b"220-" + b"x" * 500_000,
    "has no extension": PART.join([b"220 a\r\n", b"500 what\r\n", b"500 what\r\n"]),
    "refuses the sender": PART.join([b"220 a\r\n", b"250 a\r\n", b"550 no\r\n"]),
    "knows nobody": PART.join([b"220 a\r\n", b"250 a\r\n", b"250 a\r\n", b"550 5.1.1 no\r\n"]),
    "wants no text": PART.join([b"220 a\r\n", *[b"250 a\r\n"] * 3, b"554 no\r\n"]),
    "is busy": b"421 later\r\n",
    "is full": PART.join([b"220 a\r\n", b"250 a\r\n", b"452 full\r\n"]),
    "answers in bytes": b"220 \xff\xfe\r\n" + PART + b"\x00\x00\r\n",
    "says two things at once": b"220 a\r\n250 b\r\n250 c\r\n354 d\r\n",
    "is without end": PART.join([b"220 a\r\n", b"250-a\r\n" * 50_000]),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbourhood]:
    with Neighbourhood(tmp_path_factory.mktemp("receivers")) as one:
        yield one


@pytest.mark.long
def test_no_receiver_that_misbehaves_delays_another(place: Neighbourhood) -> None:
    """Of the same step: whatever mail server and webhook say, the pager is told at once."""
    with place.watched():
        for mail, hook in zip_longest(MAILS.values(), HOOK_ANSWERS, fillvalue=b""):
            place.mail.answer, place.hook.answer = mail, hook
            assert place.page_seconds() < PAGE_SECONDS
    place.mail.answer, place.hook.answer = SOUND_MAIL, SOUND_HOOK


def test_a_mail_server_that_is_wrong_for_a_moment_gets_the_page_soon(
    place: Neighbourhood,
) -> None:
    """It was tried again after 15 minutes."""
    place.mail.answer = PART.join([b"220 a\r\n", b"250 a\r\n", b"550 relaying denied\r\n"])
    began = time.monotonic()
    place.page_seconds()
    threading.Event().wait(MENDED_SECONDS)
    place.mail.answer = SOUND_MAIL
    number = max(one["number"] for one in place.data("/api/v1/incidents?state=all")["incidents"])
    states: set[str] = set()
    while states != {"sent"} and time.monotonic() - began < RETRIED_SECONDS:
        threading.Event().wait(0.5)
        messages = place.data(f"/api/v1/incidents/{number}")["messages"]
        states = {one["state"] for one in messages}
    assert states == {"sent"}, json.dumps(messages)
