"""When within its interval a Prometheus evaluates a group (rules/group.go, EvalTimestamp).

It spreads the groups by a hash of file and name, so that a restart keeps the moment. The hash is
xxHash64 over the labels `file` and `name` as its build keeps them: with a 0xff behind each text
until 2.43, with the length before each since then.
"""

from collections.abc import Callable, Collection, Iterable

from tocsin_alerting.promql.parser.ast import VectorSelector
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.rules.state import GroupState
from tocsin_exporter.snapshot import Source

_MASK = (1 << 64) - 1
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
_STRIPE, _LANES = 32, 4
_LONG = 255  # from this length on, the length takes three bytes more


class GroupPhases:
    """A group that reads what we scrape ourselves (`own`) runs with the scrapes, which come at the
    multiples of their intervals; any other one when a Prometheus beside us runs it."""

    def __init__(
        self,
        own: Callable[[], Collection[Source]],
        semantics: Semantics = 3,
        touched: Callable[[VectorSelector], frozenset[Source]] = lambda selector: frozenset(),
    ) -> None:
        """`touched` gives the sources of the samples that there are of a selector."""
        self._own, self._touched = own, touched
        self._semantics: Semantics = semantics

    def of(self, progress: GroupState) -> int:
        """With the scrapes for good, once it was seen to read one of them, which may be silent now
        and then. Until its rules, which wait for the first scrapes, have all run, the samples that
        there are say whose it reads, as those of the last run."""
        progress.reads_own = progress.reads_own or self._reads_own(progress)
        has_run = all(rule.evaluated_ms for rule in progress.rules)
        progress.fraction_ns = 0
        if progress.reads_own or (not has_run and self._touches_own(progress)):
            return 0
        about = (*progress.group.key, progress.interval_ms, self._semantics)
        phase, progress.fraction_ns = divmod(phase_ns(*about), 1_000_000)
        return phase

    def _touches_own(self, progress: GroupState) -> bool:
        asked = (selector for rule in progress.rules for selector in rule.inputs)
        found = frozenset[Source]().union(*map(self._touched, asked))
        return not found.isdisjoint(self._own())

    def _reads_own(self, progress: GroupState) -> bool:
        own = self._own()
        return any(
            any(map(seen.__contains__, own))
            for rule in progress.rules
            for seen in (rule.measured_seen, rule.presence_seen)
        )


def phase_ms(file: str, name: str, interval_ms: int, semantics: Semantics = 3) -> int:
    """By how much its evaluations come after the multiples of the interval."""
    return phase_ns(file, name, interval_ms, semantics) // 1_000_000


def phase_ns(file: str, name: str, interval_ms: int, semantics: Semantics = 3) -> int:
    """The same, as exactly as a Prometheus tells it in `activeAt`."""
    encode = _with_lengths if semantics == 3 else _with_ends
    return xxhash64(encode(("file", file, "name", name))) % (interval_ms * 1_000_000)


def _with_ends(texts: Iterable[str]) -> bytes:
    return b"".join(text.encode() + b"\xff" for text in texts)


def _with_lengths(texts: Iterable[str]) -> bytes:
    encoded = (text.encode() for text in texts)
    return b"".join(_length(len(text)) + text for text in encoded)


def _length(count: int) -> bytes:
    return bytes([count]) if count < _LONG else b"\xff" + count.to_bytes(3, "little")


def xxhash64(data: bytes) -> int:
    """With the seed 0."""
    at, lanes = 0, [(_P1 + _P2) & _MASK, _P2, 0, -_P1 & _MASK]
    while at + _STRIPE <= len(data):
        for lane in range(_LANES):
            lanes[lane] = _round(lanes[lane], _word(data, at + 8 * lane, 8))
        at += _STRIPE
    mixed = _merged(lanes) if at else _P5
    mixed = (mixed + len(data)) & _MASK
    while at + 8 <= len(data):
        mixed = _rotated(mixed ^ _round(0, _word(data, at, 8)), 27) * _P1 + _P4 & _MASK
        at += 8
    if at + 4 <= len(data):
        mixed = _rotated(mixed ^ _word(data, at, 4) * _P1 & _MASK, 23) * _P2 + _P3 & _MASK
        at += 4
    for byte in data[at:]:
        mixed = _rotated(mixed ^ byte * _P5 & _MASK, 11) * _P1 & _MASK
    return _avalanched(mixed)


def _word(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK


def _round(lane: int, word: int) -> int:
    return _rotated(lane + word * _P2 & _MASK, 31) * _P1 & _MASK


def _merged(lanes: list[int]) -> int:
    rotations = zip(lanes, (1, 7, 12, 18), strict=True)
    mixed = sum(_rotated(lane, bits) for lane, bits in rotations) & _MASK
    for lane in lanes:
        mixed = ((mixed ^ _round(0, lane)) * _P1 + _P4) & _MASK
    return mixed


def _avalanched(mixed: int) -> int:
    mixed = (mixed ^ mixed >> 33) * _P2 & _MASK
    mixed = (mixed ^ mixed >> 29) * _P3 & _MASK
    return mixed ^ mixed >> 32
