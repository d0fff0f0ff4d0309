"""A store that is stopped, killed and started again, against a naive model."""

import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from support.archives import Kept, cells_of
from support.examples import examples
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.query.unaligned_parts import UnalignedPart
from tocsin_alerting.tsdb.store import HOUR_MS
from tocsin_alerting.tsdb.values import ABSENT_BITS, STALE_BITS
from tocsin_exporter.snapshot import Family, Labels, Layout, Series, Snapshot, Source, labels

SOURCE = Source("j", "i")
EVERY = ((Matcher("__name__", MatchOp.EQUAL, "m"),),)
FAMILY = Family("m", "counter", "")
STEP_MS = 15_000
LOOK_BACK_MS = 300_000
FOR_EVER = 10**15
STALE = float(np.array([STALE_BITS], np.int64).view(np.float64)[0])
Model = dict[str, list[tuple[int, float]]]

values = st.sampled_from([0.0, -0.0, 1.0, 0.1, 12.5, 1e18, -3.75, math.inf, math.nan, 2.0**-1074])
page = st.tuples(
    st.just("page"),
    st.sets(st.sampled_from("abcdef")),
    st.integers(1, 150),
    st.lists(values, min_size=6, max_size=6),
)
pieces = st.tuples(st.just("pieces"), st.integers(1, 40), st.lists(values, min_size=6, max_size=6))
ragged = st.tuples(
    st.just("ragged"),
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(0, 9), st.integers(-40_000, 40_000)), min_size=1, max_size=8),
    st.lists(values, min_size=6, max_size=6),
)
event = st.sampled_from([("seal",), ("turn",), ("stop",), ("kill",), ("tear",)])
scripts = st.lists(st.one_of(page, pieces, ragged, event), max_size=14)


def layout(names: Sequence[str]) -> Layout:
    return Layout(tuple(Series(FAMILY, "m", labels(s=name)) for name in names))


def remote(name: str) -> Labels:
    return (("__name__", "m"), ("instance", "far"), ("job", "remote"), ("s", name))


class Script:
    """What was done to a store, and what must be found in it: a value at each time, or None."""

    def __init__(self, directory: Path, memory_ms: int) -> None:
        self.directory, self.memory_ms = directory, memory_ms
        self.kept = Kept(directory, memory_ms)
        self.at_ms = self.sealed_ms = 1_700_000_000_000
        self.model: Model = {}

    def page(self, names: set[str], count: int, cells: list[float]) -> None:
        form = layout(sorted(names))
        for turn in range(count):
            self._pass()
            row = np.array([cells[(i + turn) % 6] for i in range(len(names))])
            assert self.kept.store.append(Snapshot(SOURCE, self.at_ms, True, form, row))
            told = dict(zip(sorted(names), row.tolist(), strict=True))
            for name in sorted({*told, *(one for one in self.model if one in "abcdef")}):
                self.model.setdefault(name, []).append((self.at_ms, told.get(name, STALE)))

    def pieces(self, count: int, cells: list[float]) -> None:
        """Remote write: a column comes in two requests, the second one twice."""
        for turn in range(count):
            self._pass()
            one, two = cells[turn % 6], cells[(turn + 1) % 6]
            write = self.kept.store.write
            assert write([(remote("x"), self.at_ms, one)]) == 1
            assert write([(remote("y"), self.at_ms, two)]) == 1
            assert write([(remote("y"), self.at_ms, two)]) == 1
            self.model.setdefault("x", []).append((self.at_ms, one))
            self.model.setdefault("y", []).append((self.at_ms, two))

    def ragged(self, count: int, samples: list[tuple[int, int]], cells: list[float]) -> None:
        """Remote write of series with times of their own; what is out of order is refused."""
        for turn in range(count):
            self._pass()
            for which, off in samples:
                name, value = f"r{which}", cells[(turn + which) % 6]
                at_ms = self.at_ms + off * (1 + turn % 3)
                known = self.model.setdefault(name, [])
                fresh = not known or at_ms > known[-1][0]
                taken = self.kept.store.write([(remote(name), at_ms, value)])
                assert taken or not fresh
                known += [(at_ms, value)] * fresh

    def _pass(self) -> None:
        """Memory waits three times its span for a segment, and no longer."""
        self.at_ms += STEP_MS
        if self.at_ms - self.sealed_ms > 2 * self.memory_ms:
            self.seal()

    def seal(self) -> None:
        self.kept.disk.tick()
        self.sealed_ms = self.at_ms - self.memory_ms // 2
        self.kept.disk.seal(self.sealed_ms)

    def turn(self) -> None:
        self.kept.disk.tick()

    def stop(self) -> None:
        self.kept.disk.close()
        self.kept = self.kept.again()

    def kill(self) -> None:
        self.kept.disk.tick()
        self.kept = self.kept.again()

    def tear(self) -> None:
        self.kept.disk.tick()
        with self.kept.wal.open("ab") as file:
            file.write(b"\x40\x00\x00\x00torn")
        self.kept = self.kept.again()

    def check(self) -> None:
        selection = self.kept.store.select(EVERY, 0, FOR_EVER)
        found = cells_of(selection)
        assert sorted(found) == sorted(self.model)
        for name, (times, bits) in found.items():
            assert times == sorted(set(times))
            assert _seen(zip(times, bits, strict=True)) == _seen(_bits(self.model[name]))
        for part in selection.unaligned:
            self._check_stretches(part)

    def _check_stretches(self, part: UnalignedPart) -> None:
        """Stretch by stretch there is what there is as a whole."""
        first_ms = 1_700_000_000_000 - 10 * STEP_MS
        axis = range(first_ms, self.at_ms + 20 * STEP_MS, max(self.at_ms - first_ms, 7) // 7)
        pieces = [part.between(one, one + axis.step - 1) for one in axis]
        whole = part.between(axis.start, axis[-1] + axis.step - 1)
        for at in range(part.count):
            times = [one.times[one.offsets[at] : one.offsets[at + 1]] for one in pieces]
            expected = whole.times[whole.offsets[at] : whole.offsets[at + 1]]
            assert np.concatenate(times).tolist() == expected.tolist()


def _bits(samples: list[tuple[int, float]]) -> list[tuple[int, int]]:
    cells = np.array([np.nan if math.isnan(v) and v is not STALE else v for _, v in samples])
    bits = cells.view(np.int64).copy()
    bits[np.isnan(cells) & (bits != STALE_BITS)] = 0x7FF8000000000001
    return list(zip([at for at, _ in samples], bits.tolist(), strict=True))


def _seen(cells: object) -> list[tuple[int, int]]:
    """The samples, and the first stale marker after each, if it is within the look-back: a source
    that was silent for as long as memory reaches does not know any more what it had."""
    seen: list[tuple[int, int]] = []
    for at_ms, bits in cells:  # type: ignore[attr-defined]
        marks = seen and seen[-1][1] != STALE_BITS and at_ms - seen[-1][0] <= LOOK_BACK_MS
        if bits != ABSENT_BITS and (bits != STALE_BITS or marks):
            seen.append((at_ms, bits))
    return seen


@settings(deadline=None, max_examples=examples(60))
@given(scripts, st.sampled_from([600_000, HOUR_MS]))
def test_whatever_happens_the_history_is_there(
    script: list[tuple[object, ...]], memory_ms: int
) -> None:
    with TemporaryDirectory() as directory:
        run = Script(Path(directory), memory_ms)
        try:
            for what, *details in script:
                getattr(run, str(what))(*details)
                run.kept.store.expire(run.at_ms)
            run.check()
            run.stop()
            run.check()
        finally:
            run.kept.disk.abandon_wal()
