"""Text from pieces of characters and words."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_inference.detokenizer import Detokenizer, overlap


def as_bytes(ids: Sequence[int]) -> str:
    """A byte-level tokenizer: one token a byte."""
    return bytes(ids).decode("utf-8", errors="replace")


WORDS = ["▁the", "▁sea", "shore", "▁is", "▁", "wide"]


def as_words(ids: Sequence[int]) -> str:
    """A SentencePiece tokenizer: drops the space at the beginning of whatever it decodes."""
    return "".join(WORDS[i] for i in ids).replace("▁", " ").removeprefix(" ")


@given(st.text(), st.lists(st.integers(1, 5), min_size=1))
def test_any_text_in_any_pieces_comes_out_whole(text: str, sizes: list[int]) -> None:
    data = text.encode()
    out: list[str] = []
    detokenizer, at = Detokenizer(as_bytes), 0
    while at < len(data):
        size = sizes[len(out) % len(sizes)]
        out.append(detokenizer.feed(list(data[at : at + size])))
        at += size
    out.append(detokenizer.flush())
    # a genuine U+FFFD at the very end cannot be told from half a character, and is dropped too
    assert "".join(out) == text.rstrip("\ufffd")


@given(st.text(), st.text(min_size=1, max_size=4))
def test_nothing_from_a_stop_string_on_is_ever_shown(text: str, stop: str) -> None:
    detokenizer = Detokenizer(as_bytes, [stop])
    out = "".join(detokenizer.feed([byte]) for byte in text.encode()) + detokenizer.flush()
    assert stop not in out
    if stop in text:
        assert out == text[: text.index(stop)] and detokenizer.stopped
    elif not text.endswith("\ufffd"):
        assert out == text and not detokenizer.stopped


@pytest.mark.parametrize("stops", [["b", "d"], ["d", "b"], ["cd", "bc"]])
def test_of_several_stop_strings_the_first_in_the_text_ends_it(stops: list[str]) -> None:
    detokenizer = Detokenizer(as_bytes, stops)
    assert detokenizer.feed(list(b"abcd")) + detokenizer.flush() == "a"


def test_half_a_character_is_never_shown() -> None:
    detokenizer = Detokenizer(as_bytes)
    pieces = [detokenizer.feed([byte]) for byte in "a€😀".encode()]
    assert pieces == ["a", "", "", "€", "", "", "", "😀"]
    assert detokenizer.feed(list("€".encode())[:2]) == "" and detokenizer.flush() == ""


@given(st.lists(st.integers(0, len(WORDS) - 1), min_size=1, max_size=20))
def test_spaces_between_words_survive(ids: list[int]) -> None:
    detokenizer = Detokenizer(as_words)
    assert "".join(detokenizer.feed([i]) for i in ids) + detokenizer.flush() == as_words(ids)


@pytest.mark.parametrize(
    ("text", "stop", "length"),
    [("abc", "cd", 1), ("abab", "abx", 2), ("x", "y", 0), ("ab", "ab", 0)],
)
def test_overlap(text: str, stop: str, length: int) -> None:
    assert overlap(text, stop) == length
