"""The log: pieces of a scrape that wait together are one record, and give back the same."""

import tracemalloc
from collections.abc import Iterable
from io import BytesIO

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.tsdb.persistence import AlignedRecord, SeriesRecord, WalEntry, column_record
from tocsin_alerting.tsdb.wal.codec import HEAD, WalEncoder, WalReader, merge_columns
from tocsin_exporter.snapshot import Source

A, B = Source("j", "a"), Source("j", "b")
OWNER = SeriesRecord(A, (9,), ((("__name__", "m"),),))


def column(
    at_ms: int, *cells: tuple[int, float], source: Source = A, whole: bool = False
) -> AlignedRecord:
    rows, values = zip(*cells, strict=True)
    cells_of_rows = np.array([values], np.float64)
    return AlignedRecord(source, np.array([at_ms]), np.array(rows), cells_of_rows, whole)


def shape(entries: Iterable[WalEntry]) -> list[object]:
    return [
        (one.source.instance, int(one.times[0]), one.rows.tolist())
        if isinstance(one, AlignedRecord)
        else one
        for one in entries
    ]


def read(entries: Iterable[WalEntry]) -> dict[tuple[Source, int, int], float]:
    """What a log of these gives back: the last value of each source, time and row."""
    writer, found = WalEncoder(), dict[tuple[Source, int, int], float]()
    for record in WalReader(BytesIO(HEAD + b"".join(map(writer.encode, entries)))).records():
        if isinstance(record, AlignedRecord):
            for at, cells in zip(record.times.tolist(), record.cells, strict=True):
                for row, value in zip(record.rows.tolist(), cells.tolist(), strict=True):
                    found[record.source, at, row] = value
    return found


def test_pieces_of_a_scrape_are_one_column() -> None:
    pieces = [column(1, (0, 1.0), (2, 2.0)), column(1, (1, 3.0)), column(1, (0, 4.0), source=B)]
    assert shape(merge_columns(pieces)) == [("a", 1, [0, 2, 1]), ("b", 1, [0])]


def test_what_another_sent_of_the_next_scrape_does_not_part_them() -> None:
    pieces = [column(1, (0, 1.0)), column(2, (0, 2.0)), column(1, (1, 3.0)), column(2, (1, 4.0))]
    assert shape(merge_columns(pieces)) == [("a", 1, [0, 1]), ("a", 2, [0, 1])]


def test_the_same_sample_twice_is_not_two_of_one_column() -> None:
    pieces = [column(1, (0, 1.0), (1, 2.0)), column(1, (1, 2.0))]
    assert shape(merge_columns(pieces)) == [("a", 1, [0, 1]), ("a", 1, [1])]


def test_a_row_that_changes_hands_parts_them() -> None:
    pieces: list[WalEntry] = [column(1, (9, 1.0)), OWNER, column(1, (9, 2.0), (1, 3.0))]
    assert shape(merge_columns(pieces)) == [("a", 1, [9]), OWNER, ("a", 1, [9, 1])]


def test_a_whole_scrape_stays_one_for_itself() -> None:
    pieces = [column(1, (0, 1.0)), column(1, (1, 2.0), whole=True), column(1, (2, 3.0))]
    assert shape(merge_columns(pieces)) == [("a", 1, [0]), ("a", 1, [1]), ("a", 1, [2])]


cells = st.lists(
    st.tuples(st.integers(0, 5), st.floats(0, 9)), min_size=1, unique_by=lambda c: c[0]
)
pieces = st.builds(
    lambda at, some, source: column(at, *some, source=source),
    st.integers(1, 3),
    cells,
    st.sampled_from([A, B]),
)


@given(st.lists(pieces))
def test_a_log_gives_back_the_same(pieces: list[AlignedRecord]) -> None:
    fresh: list[AlignedRecord] = []  # each row's samples ascend in time, as the store sees to
    newest: dict[tuple[Source, int], int] = {}
    for one in pieces:
        rows, at_ms = one.rows.tolist(), int(one.times[0])
        kept = [at for at, row in enumerate(rows) if newest.get((one.source, row), 0) < at_ms]
        newest |= {(one.source, rows[at]): at_ms for at in kept}
        if kept:
            fresh.append(column_record(one.source, at_ms, one.rows[kept], one.cells[0, kept]))
    assert read(merge_columns(fresh)) == read(fresh)


def test_a_long_log_is_read_with_little_memory() -> None:
    rows = np.arange(10_000)
    random = np.random.default_rng(7)
    writer, file = WalEncoder(), BytesIO()
    file.write(HEAD)
    for at_ms in range(100):
        file.write(writer.encode(column_record(A, at_ms, rows, random.random(len(rows)))))
    reader, count = WalReader(file), 0
    tracemalloc.start()
    try:
        for record in reader.records():
            count += isinstance(record, AlignedRecord)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 100 and reader.whole_bytes == reader.size > 5_000_000
    assert peak < reader.size / 4
