"""Whatever a crash leaves of the store's log and of the journal: nobody hears "resolved" of it.

The bad series stays bad to the end in these stories, so every clear would be made of missing data.
"""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from support.killed_rules import MortalRules, Samples

GOOD: Samples = {"up": 1.0, "m0": 0.0, "m1": 0.0, "n": 1.0}
BAD: Samples = {"up": 1.0, "m0": 0.0, "m1": 9.0, "n": 1.0}
OTHERS: Samples = {"up": 1.0, "m0": 0.0, "n": 1.0}
DOWN: Samples = {"up": 0.0}
RULES = (
    "m > 5",
    "m > 5 and on (instance) n == 1",
    "sum by (instance) (m) > 5",
    "sum(m) > 5",
    "max_over_time(m[2m]) > 5",
    "max by (instance) (avg_over_time(m[1m])) > 5",
)
SECOND = 1_000
DAY_S = 86_400
YEAR_S = 365 * DAY_S


async def _until_paged(one: MortalRules, bad: Samples) -> None:
    for _ in range(4):
        await one.tick(GOOD)
    for _ in range(20):
        await one.tick(bad)
        if one.states:
            return
    raise AssertionError("nobody was paged")


def _resolutions(one: MortalRules) -> set[str]:
    """Whatever says that it is over."""
    over = {"RESOLVED", "CLOSED", "resolved", "fired_and_resolved", "clear"}
    return over & {*map(str, one.states), *map(str, one.reasons), *map(str, one.says)}


@settings(max_examples=examples(120), deadline=None)
@given(
    expr=st.sampled_from(RULES),
    log_share=st.one_of(st.none(), st.floats(0, 1)),
    transactions=st.floats(0, 1),
    more=st.integers(0, 6),
    down_s=st.sampled_from([0, 3, 40, 200, 400, 7200]),
    after=st.lists(st.sampled_from(["silent", "others", "bad"]), max_size=12),
)
def test_no_prefix_of_log_and_journal_makes_a_clear(
    expr: str,
    log_share: float | None,
    transactions: float,
    more: int,
    down_s: int,
    after: list[str],
) -> None:
    async def story(folder: Path) -> None:
        async with MortalRules(folder, expr) as one:
            await _until_paged(one, BAD)
            for _ in range(more):
                await one.tick(BAD)
            one.crash(log_share, round(transactions * len(one.journal.batches)))
            one.now_ms += down_s * SECOND
            await one.begin()
            assert not _resolutions(one)
            for what in after:
                sent = {"silent": (), "others": (OTHERS,), "bad": (OTHERS, BAD)}[what]
                await one.tick(*sent)
                assert not _resolutions(one)

    with TemporaryDirectory() as folder:
        asyncio.run(story(Path(folder) / "samples"))


@pytest.mark.parametrize("bad", [BAD, DOWN])
@pytest.mark.parametrize("log_share", [0.0, None, 0.8])
async def test_a_page_that_outlived_its_samples_is_unknown_until_they_come(
    tmp_path: Path, log_share: float | None, bad: Samples
) -> None:
    """Also a rule on `up`, which is never in doubt while its data comes."""
    expr = "up == 0" if bad is DOWN else "m > 5"
    async with MortalRules(tmp_path / "samples", expr) as one:
        await _until_paged(one, bad)
        one.crash(log_share, len(one.journal.batches))
        await one.begin()
        for _ in range(100):
            await one.tick()
        assert (one.says, "resolved" in one.reasons) == (["unknown"], False)
        await one.tick(GOOD)
        assert one.states == ["RESOLVED"]


async def test_a_source_that_was_silent_for_hours_is_unknown_after_a_restart(
    tmp_path: Path,
) -> None:
    async with MortalRules(tmp_path / "samples", "m > 5") as one:
        await _until_paged(one, BAD)
        for _ in range(20):
            one.now_ms += 600 * SECOND
            await one.tick()
            one.kept.store.expire(one.now_ms)
        assert one.says == ["unknown"]
        one.crash(1.0, len(one.journal.batches))
        await one.begin()
        for _ in range(100):
            await one.tick()
        assert (one.says, "resolved" in one.reasons) == (["unknown"], False)
        await one.tick(GOOD)
        assert one.states == ["RESOLVED"]


async def test_the_incident_alone_is_enough_to_be_in_doubt(tmp_path: Path) -> None:
    """Killed between the incident's transaction and that of the rule's rows."""
    async with MortalRules(tmp_path / "samples", "m > 5") as one:
        await _until_paged(one, BAD)
        batches = one.journal.batches
        (paged,) = [at for at, batch in enumerate(batches) if batch.incidents][:1]
        assert not any(batch.instances for batch in batches[: paged + 1])
        one.crash(0.0, paged + 1)
        await one.begin()
        await one.tick(OTHERS)
        assert one.says == ["unknown"]
        await one.tick(BAD)
        assert one.says == ["firing"]
        await one.tick(GOOD)
        assert one.states == ["RESOLVED"]


async def test_a_restart_that_lost_nothing_resolves_at_once(tmp_path: Path) -> None:
    for number, expr in enumerate((*RULES[:4], "m > 5 unless on (instance) nosuch")):
        async with MortalRules(tmp_path / str(number), expr) as one:
            await _until_paged(one, BAD)
            one.crash(1.0, len(one.journal.batches))
            await one.begin()
            await one.tick(GOOD)
            assert one.states == ["RESOLVED"], expr


async def test_without_the_series_itself_its_source_must_speak_as_long_as_the_rule_looks_back(
    tmp_path: Path,
) -> None:
    async with MortalRules(tmp_path / "samples", "sum by (instance) (m) > 5") as one:
        await _until_paged(one, BAD)
        one.crash(None, len(one.journal.batches))
        await one.begin()
        for _ in range(59):
            await one.tick(GOOD)
            assert one.says == ["unknown"]
        for _ in range(3):
            await one.tick(GOOD)
        assert one.states == ["RESOLVED"]


@pytest.mark.parametrize("back_s", [30, 600, 7_200, 90 * DAY_S, 20 * YEAR_S])
@pytest.mark.parametrize("expr", [*RULES, "absent(nothing)", "m > 5 unless on (instance) nosuch"])
async def test_a_clock_set_back_while_the_agent_was_down_changes_nothing(
    tmp_path: Path, expr: str, back_s: int
) -> None:
    """Nor does one that was ahead in the last run, and one that becomes right later."""
    async with MortalRules(tmp_path / "samples", expr) as one:
        await _until_paged(one, BAD)
        for _ in range(2):
            one.crash(1.0, len(one.journal.batches))
            one.now_ms -= back_s * SECOND
            await one.begin()
            await one.tick()
            await one.tick(BAD)
            assert (one.says, _resolutions(one)) == (["firing"], set())
            assert one.refused == {}
        one.set_clock(2 * back_s)
        await one.tick(BAD)
        assert (one.says, _resolutions(one)) == (["firing"], set())
        for _ in range(30):
            await one.tick({**GOOD, "nothing": 1.0, "nosuch": 1.0})
        assert one.states == ["RESOLVED"]
        assert one.refused == {}


@pytest.mark.parametrize("back_s", [30, 7_200, 20 * YEAR_S])
async def test_what_waits_when_the_clock_is_set_back_fires_no_later(
    tmp_path: Path, back_s: int
) -> None:
    """A minute of bad samples; the rest of them after the restart."""
    async with MortalRules(tmp_path / "samples", "m > 5", 60 * SECOND) as one:
        for _ in range(7):
            await one.tick(BAD)
        one.crash(1.0, len(one.journal.batches))
        one.now_ms -= back_s * SECOND
        await one.begin()
        for _ in range(5):
            await one.tick(BAD)
            assert one.states == []
        await one.tick(BAD)
        await one.tick(BAD)
        assert one.says == ["firing"]


@pytest.mark.parametrize("step_s", [7_200, -7_200])
async def test_a_clock_that_is_set_before_the_first_evaluation_changes_nothing(
    tmp_path: Path, step_s: int
) -> None:
    async with MortalRules(tmp_path / "samples", "m > 5", 60 * SECOND) as one:
        for _ in range(7):
            await one.tick(BAD)
        one.crash(1.0, len(one.journal.batches))
        await one.begin()
        one.set_clock(step_s)
        for _ in range(5):
            await one.tick(BAD)
            assert one.states == []
        await one.tick(BAD)
        assert one.says == ["firing"]


@pytest.mark.parametrize("journal", [False, True])
async def test_a_clock_set_back_between_two_crashes_moves_each_time_once(
    tmp_path: Path, journal: bool
) -> None:
    """The second comes when the one that was begun has written the journal, or the log."""
    async with MortalRules(tmp_path / "samples", "m > 5", 60 * SECOND) as one:
        for _ in range(7):
            await one.tick(BAD)
        log, batches = one.kept.wal.read_bytes(), len(one.journal.batches)
        one.crash(1.0, batches)
        one.now_ms -= 7_200 * SECOND
        await one.begin()
        if not journal:
            one.kept.disk.tick()
            one.crash(1.0, batches)
        else:
            one.crash(1.0, len(one.journal.batches))
            one.kept.wal.write_bytes(log)
        await one.begin()
        for _ in range(7):
            await one.tick(BAD)
        assert one.says == ["firing"]
        assert one.refused == {}


async def test_a_journal_that_comes_late_is_by_an_earlier_clock_too(tmp_path: Path) -> None:
    async with MortalRules(tmp_path / "samples", "m > 5") as one:
        await _until_paged(one, BAD)
        one.crash(1.0, len(one.journal.batches))
        one.now_ms -= 7_200 * SECOND
        one.journal.unreadable = True
        await one.begin()
        await one.tick(BAD)
        one.set_clock(3_600)
        one.journal.unreadable = False
        for _ in range(5):
            await one.tick(BAD)
        old = await one.dispatcher.incident(1)
        assert 0 < one.now_ms - old.opened_at_ms < 120 * SECOND


@pytest.mark.parametrize("late", [False, True])
async def test_what_waited_before_a_restart_and_ended_since_counts_no_more(
    tmp_path: Path, late: bool
) -> None:
    """Not after another restart either. `late`: the first could not read the journal."""
    async with MortalRules(tmp_path / "samples", "m > 5", 60 * SECOND) as one:
        for _ in range(7):
            await one.tick(BAD)
        one.crash(1.0, len(one.journal.batches))
        one.journal.unreadable = late
        await one.begin()
        for _ in range(10):
            await one.tick(GOOD)
            one.journal.unreadable = False
        one.crash(1.0, len(one.journal.batches))
        await one.begin()
        for _ in range(12):
            await one.tick(BAD)
            assert one.states == []
        await one.tick(BAD)
        assert one.states == ["TRIGGERED"]


async def test_a_clock_that_begins_again_in_1970(tmp_path: Path) -> None:
    """What the last run left then lies before that."""
    async with MortalRules(tmp_path / "samples", "m > 5") as one:
        await _until_paged(one, BAD)
        one.crash(1.0, len(one.journal.batches))
        one.now_ms = 10 * SECOND
        for _ in range(2):
            await one.begin()
            await one.tick()
            await one.tick(BAD)
            assert (one.says, _resolutions(one), one.refused) == (["firing"], set(), {})
            one.crash(1.0, len(one.journal.batches))
        await one.begin()
        await one.tick(GOOD)
        assert one.states == ["RESOLVED"]


async def test_a_log_of_an_older_time_shows_nothing(tmp_path: Path) -> None:
    async with MortalRules(tmp_path / "samples", "m > 5") as one:
        for _ in range(4):
            await one.tick(GOOD)
        one.kept.disk.tick()
        old = one.kept.wal.read_bytes()
        for _ in range(4):
            await one.tick(BAD)
        one.kept.wal.write_bytes(old)
        one.crash(1.0, len(one.journal.batches))
        await one.begin()
        await one.tick(OTHERS)
        assert one.says == ["unknown"]


async def test_an_earlier_time_that_it_fired_shows_nothing_of_this_one(tmp_path: Path) -> None:
    async with MortalRules(tmp_path / "samples", "m > 5") as one:
        for sent in (GOOD, BAD, BAD, GOOD, GOOD):
            await one.tick(sent)
        assert one.states == ["RESOLVED"]
        one.kept.disk.tick()
        old = one.kept.wal.read_bytes()
        for _ in range(4):
            await one.tick(BAD)
        assert one.states == ["TRIGGERED"]
        one.kept.wal.write_bytes(old)
        one.crash(1.0, len(one.journal.batches))
        await one.begin()
        await one.tick(OTHERS)
        assert one.says == ["unknown"]


async def test_a_spike_that_only_the_lost_end_held_is_unknown_until_the_window_is_full(
    tmp_path: Path,
) -> None:
    async with MortalRules(tmp_path / "samples", "max_over_time(m[2m]) > 5") as one:
        for _ in range(30):
            await one.tick(GOOD)
        old = one.kept.wal.read_bytes()
        for sent in (BAD, GOOD, GOOD):
            await one.tick(sent)
        assert one.says == ["firing"]
        one.kept.wal.write_bytes(old)
        one.crash(1.0, len(one.journal.batches))
        await one.begin()
        for _ in range(24):
            await one.tick(GOOD)
            assert one.says == ["unknown"]
        await one.tick(GOOD)
        assert one.states == ["RESOLVED"]


@pytest.mark.parametrize("late", [OTHERS, BAD, GOOD])
async def test_a_journal_that_comes_late_resolves_nothing_by_itself(
    tmp_path: Path, late: Samples
) -> None:
    """It could not be read at the start, the rules have run without it, and the store is lost."""
    async with MortalRules(tmp_path / "samples", "m > 5") as one:
        await _until_paged(one, BAD)
        one.crash(None, len(one.journal.batches))
        one.journal.unreadable = True
        await one.begin()
        await one.tick(OTHERS)
        assert one.states == []
        one.journal.unreadable = False
        for _ in range(3):
            await one.tick(OTHERS)
        assert (one.says, "resolved" in one.reasons) == (["unknown"], False)
        await one.tick(late)
        (says, state), *_ = zip(one.says, one.states, strict=True)
        wanted = {"unknown": OTHERS, "firing": BAD, "clear": GOOD}
        assert wanted[says] is late
        assert state == ("RESOLVED" if late is GOOD else "TRIGGERED")
