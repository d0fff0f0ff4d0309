"""Faults of a model's answer that show in its text, for whoever has it in memory: the proxy and the
worker. Nothing but the standard library is imported here.

They are signs, and no judgement: that the engine loops, stops early, or speaks another language
than it was asked in. What is not clear is none.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

EMPTY, TRUNCATED, REPETITION, INVALID_JSON, WRONG_LANGUAGE = (
    "empty",
    "truncated",
    "repetition",
    "invalid_json",
    "wrong_language",
)
KINDS = (EMPTY, TRUNCATED, REPETITION, INVALID_JSON, WRONG_LANGUAGE)
_LOOKED_AT = 20_000  # characters
_LONGEST_LOOP = 50  # words, or characters of a text without spaces
_TIMES, _SHORTEST_RUN = 4, 24
_LONGEST_WORD = 48  # characters: what is longer is a text without spaces
_SCRIPTS = {
    "latin": re.compile("[A-Za-z\u00c0-\u024f]"),
    "han": re.compile("[\u3400-\u4dbf\u4e00-\u9fff]"),
    "kana": re.compile("[\u3040-\u30ff]"),
    "hangul": re.compile("[\uac00-\ud7af]"),
    "cyrillic": re.compile("[\u0400-\u04ff]"),
    "arabic": re.compile("[\u0600-\u06ff]"),
    "devanagari": re.compile("[\u0900-\u097f]"),
    "thai": re.compile("[\u0e00-\u0e7f]"),
    "greek": re.compile("[\u0370-\u03ff]"),
    "hebrew": re.compile("[\u0590-\u05ff]"),
}
_FEWEST_ASKED, _FEWEST_ANSWERED = 6, 20  # letters, to tell a script by
_MOST_OF_IT, _NONE_OF_IT, _SOME_KANA = 0.8, 0.05, 0.1
_NAMES_A_LANGUAGE = re.compile(
    "translat|english|chinese|japanese|korean|russian|arabic|language|latin|code|json|sql"
    "|翻译|翻訳|英文|英语|英語|中文|汉语|日语|日文|日本語|韩语|俄语|语言|代码|перев|англий",
    re.IGNORECASE,
)


def text_anomalies(text: str, prompt: str, cut: bool, told: bool = False) -> Iterator[str]:
    """The kinds of faults of a text, each once; none of JSON. `prompt` is what the user said last,
    "" where the language tells nothing. `cut`: a limit of length ended it. `told`: the engine says
    itself that it loops."""
    if not text.strip():
        yield EMPTY
        return
    if cut:
        yield TRUNCATED
    if told or repeats(text):
        yield REPETITION
    if is_other_language(prompt, text):
        yield WRONG_LANGUAGE


def repeats(text: str) -> bool:
    """Whether it ends in a loop: the same up to 50 words four times and more, 24 words at least. A
    text without spaces is looked at by its characters."""
    text = text[-_LOOKED_AT:]
    words: Sequence[str] = text.split()
    if words and len(words[-1]) > _LONGEST_WORD:
        words = words[-1]
    return any(_is_loop(words, length) for length in range(1, _LONGEST_LOOP + 1))


def _is_loop(words: Sequence[str], length: int) -> bool:
    """Whether the last ones repeat with this period; a line of one sign alone is an ornament."""
    run = max(length * (_TIMES - 1), _SHORTEST_RUN)
    if len(words) < run + length:
        return False
    tail = words[-run - length :]
    same = all(tail[n] == tail[n + length] for n in range(run))
    return same and any(word[0].isalnum() for word in tail)


def is_other_language(prompt: str, text: str) -> bool:
    """Whether a prompt in one script is answered without a letter of it. A prompt that speaks of
    languages may want that; languages of one script are not told apart."""
    if _NAMES_A_LANGUAGE.search(prompt) or "```" in text:
        return False
    wanted, given = _letters(prompt), _letters(text)
    if wanted.total() < _FEWEST_ASKED or given.total() < _FEWEST_ANSWERED:
        return False
    script, count = wanted.most_common(1)[0]
    if wanted["kana"] >= _SOME_KANA * wanted.total():
        script, count = "kana", wanted["kana"] + wanted["han"]
    if count < _MOST_OF_IT * wanted.total():
        return False
    return given[script] < _NONE_OF_IT * given.total()


def _letters(text: str) -> Counter[str]:
    text = text[:_LOOKED_AT]
    return Counter({name: len(letters.findall(text)) for name, letters in _SCRIPTS.items()})
