"""What a selector chose holds while others take and release rows."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tocsin_alerting.store.loose import Loose
from tocsin_alerting.store.matchers import Matcher, MatchOp, Verdicts
from tocsin_alerting.store.rows import NO_LIMIT, MatcherSets, Rows
from tocsin_alerting.store.selection import Chosen, resolve
from tocsin_alerting.store.table import Table
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


def change(table: Table, loose: Loose, changes: Changes) -> None:
    for in_loose, number, comes in changes:
        rows = loose.rows if in_loose else table.rows
        if comes:
            rows.take(series(number))
        elif (row := rows.known(series(number))) >= 0:
            rows.release([row])


def matches(owner: Labels) -> bool:
    return dict(owner)["s"] in "02468"


def check_owners(one: Chosen) -> None:
    assert one.table.rows.labels(one.rows.tolist()) == one.labels


TAKEN_OVER: Changes = [(False, 0, False), (False, 1, True)]  # one row, by another series


@settings(deadline=None, max_examples=300)
@example(EVEN, [(False, 0, True)], [[], [], TAKEN_OVER], [])
@example(EVEN, [(False, 0, True)], [], TAKEN_OVER)
@given(st.sampled_from(SETS), CHANGES, st.lists(CHANGES, max_size=6), CHANGES)
def test_nobody_gets_the_row_of_another(
    sets: MatcherSets, before: Changes, during: list[Changes], after: Changes
) -> None:
    table, loose = Table(Rows(NO_LIMIT, lambda: None)), Loose(Rows(NO_LIMIT, lambda: None))
    change(table, loose, before)
    steady = {one for one in map(series, range(0, 10, 2)) if table.rows.known(one) >= 0}
    gone = {series(number) for many in (*during, after) for _, number, comes in many if not comes}
    left = iter(during)
    verdicts = Verdicts(lambda: change(table, loose, next(left, [])))
    found = resolve(sets, {HERE: table}, loose, None, verdicts)
    change(table, loose, after)
    still = found.still()
    assert all(map(matches, still.series.labels))
    assert len(set(still.series.labels)) == len(still.series.labels)
    for one in (*still.touched, *still.chosen.values()):
        check_owners(one)
    if still.strays is not None:
        assert loose.rows.labels(still.strays.rows.tolist()) == still.strays.labels
        for one, who in still.strays.held:
            check_owners(one)
            assert one.labels == tuple(still.strays.labels[at] for at in who.tolist())
    assert steady - gone <= set(still.series.labels)
