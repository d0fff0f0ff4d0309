"""Token ids to text as they come, never half a character, and stop strings never shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_UNFINISHED = "\ufffd"


class Detokenizer:
    """The text of one growing answer.

    A token can be a fragment of a UTF-8 character, and some tokenizers drop the space before the
    first word of what they decode. So the last few tokens are decoded with and without the new ones
    and the difference is the new text; it is held back while it ends in a broken character.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(s for s in stop if s)
        self._ids: list[int] = []
        self._context = 0  # decoding starts here: the tokens whose text is already out, kept for
        self._read = 0  # their effect on the next ones, end here
        self._held = ""
        self.stopped = False

    def feed(self, ids: Sequence[int]) -> str:
        """The text that `ids` make certain; empty after a stop string was met (see `stopped`)."""
        if self.stopped:
            return ""
        self._ids.extend(ids)
        before = self._decode(self._ids[self._context : self._read])
        after = self._decode(self._ids[self._context :])
        if len(after) <= len(before) or after.endswith(_UNFINISHED):
            return ""
        self._context, self._read = self._read, len(self._ids)
        return self._release(after[len(before) :])

    def flush(self) -> str:
        """What is still held back at the end; a character that never became whole is dropped."""
        if self.stopped:
            return ""
        before = self._decode(self._ids[self._context : self._read])
        after = self._decode(self._ids[self._context :])
        self._context = self._read = len(self._ids)
        text = self._release(after[len(before) :].rstrip(_UNFINISHED))
        rest, self._held = self._held, ""
        return text if self.stopped else text + rest

    def _release(self, text: str) -> str:
        if not self._stop:
            return text
        text = self._held + text
        self._held = ""
        stops = [at for at in map(text.find, self._stop) if at >= 0]
        if stops:
            self.stopped = True
            return text[: min(stops)]
        keep = max(overlap(text, s) for s in self._stop)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` could be the beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
