"""What a selector chose holds while others take and release rows."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tocsin_alerting.tsdb.head.aligned import AlignedHead
from tocsin_alerting.tsdb.head.unaligned import UnalignedHead
from tocsin_alerting.tsdb.matchers import Matcher, MatchMemo, MatchOp
from tocsin_alerting.tsdb.query.selection import AlignedMatch, resolve
from tocsin_alerting.tsdb.series_index import NO_LIMIT, MatcherSets, SeriesIndex
from tocsin_exporter.snapshot import Labels, Source, labels

HERE = Source("j", "i")
EVEN: MatcherSets = tuple(
    (Matcher("__name__", MatchOp.EQUAL, "m"), Matcher("s", MatchOp.EQUAL, str(number)))
    for number in range(0, 10, 2)
)
SETS = (EVEN, ((Matcher("s", MatchOp.REGEX, "[02468]"),),))
# (whether of the loose series, which series, whether it comes or goes)
Changes = list[tuple[bool, int, bool]]
CHANGES = st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.booleans()), max_size=8)


def series(number: int) -> Labels:
    return labels(__name__="m", s=str(number), job="j", instance="i")


def change(table: AlignedHead, loose: UnalignedHead, changes: Changes) -> None:
    for in_loose, number, comes in changes:
        rows = loose.index if in_loose else table.index
        if comes:
            rows.ensure(series(number))
        elif (row := rows.get(series(number))) >= 0:
            rows.release([row])


def matches(owner: Labels) -> bool:
    return dict(owner)["s"] in "02468"


def check_owners(one: AlignedMatch) -> None:
    assert one.head.index.labels_of(one.rows.tolist()) == one.labels


TAKEN_OVER: Changes = [(False, 0, False), (False, 1, True)]  # one row, by another series


@settings(deadline=None, max_examples=300)
@example(EVEN, [(False, 0, True)], [[], [], TAKEN_OVER], [])
@example(EVEN, [(False, 0, True)], [], TAKEN_OVER)
@given(st.sampled_from(SETS), CHANGES, st.lists(CHANGES, max_size=6), CHANGES)
def test_nobody_gets_the_row_of_another(
    sets: MatcherSets, before: Changes, during: list[Changes], after: Changes
) -> None:
    table, loose = (
        AlignedHead(SeriesIndex(NO_LIMIT, lambda: None)),
        UnalignedHead(SeriesIndex(NO_LIMIT, lambda: None)),
    )
    change(table, loose, before)
    steady = {one for one in map(series, range(0, 10, 2)) if table.index.get(one) >= 0}
    gone = {series(number) for many in (*during, after) for _, number, comes in many if not comes}
    left = iter(during)
    verdicts = MatchMemo(lambda: change(table, loose, next(left, [])))
    found = resolve(sets, {HERE: table}, loose, None, verdicts)
    change(table, loose, after)
    still = found.still_owned()
    assert all(map(matches, still.series.labels))
    assert len(set(still.series.labels)) == len(still.series.labels)
    for one in (*still.with_rows, *still.aligned.values()):
        check_owners(one)
    if still.unaligned is not None:
        assert loose.index.labels_of(still.unaligned.rows.tolist()) == still.unaligned.labels
        for one, who in still.unaligned.aligned:
            check_owners(one)
            assert one.labels == tuple(still.unaligned.labels[at] for at in who.tolist())
    assert steady - gone <= set(still.series.labels)
