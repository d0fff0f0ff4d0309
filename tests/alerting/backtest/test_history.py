import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.backtest.history import History, PastSeries, RecordedSeries
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.values import is_stale
from tocsin_exporter.snapshot import Labels

SAMPLES = st.lists(st.tuples(st.integers(0, 50), st.floats(-5, 5)), max_size=20)


def name(text: str, pod: str) -> Labels:
    return (("__name__", text), ("pod", pod))


@given(st.lists(SAMPLES, min_size=1, max_size=4), st.integers(-5, 55), st.integers(-5, 55))
def test_a_closed_interval_of_each_series(
    given_samples: list[list[tuple[int, float]]], t0_ms: int, t1_ms: int
) -> None:
    series = {
        name("m", str(number)): ([at for at, _ in one], [value for _, value in one])
        for number, one in enumerate(given_samples)
    }
    past = PastSeries(series)
    samples = past.between(np.arange(len(series), dtype=np.int64), t0_ms, t1_ms)
    for number, one in enumerate(given_samples):
        last = dict(one)  # of two at one time the later one
        wanted = [(at, last[at]) for at in sorted(last) if t0_ms <= at <= t1_ms]
        place = slice(int(samples.offsets[number]), int(samples.offsets[number + 1]))
        got = zip(samples.times[place].tolist(), samples.values[place].tolist(), strict=True)
        assert list(got) == wanted


def test_what_a_rule_no_longer_gives_is_marked_once() -> None:
    recorded = RecordedSeries(np.arange(6, dtype=np.int64))
    column = recorded.column(name("r", "a"))
    column[[1, 2, 5]] = 1.0
    recorded.mark_stale(np.array([0, 1, 2, 4, 5]))
    assert is_stale(column).tolist() == [False, False, False, False, True, False]


def test_a_selector_sees_the_past_and_what_is_recorded() -> None:
    history = History(PastSeries({name("m", "a"): ([1], [1.0]), name("n", "a"): ([1], [2.0])}))
    recorded = RecordedSeries(np.arange(3, dtype=np.int64))
    history.add(recorded)
    pods = ((Matcher("pod", MatchOp.REGEX, "a|b"),),)
    assert history.select(pods, 0, 9).series.labels == (name("m", "a"), name("n", "a"))
    recorded.column(name("r", "b"))[1] = 3.0
    found = history.select(pods, 0, 9)
    assert found.series.labels[-1] == name("r", "b")
    assert found.series is history.select(pods, 0, 9).series
    named = ((Matcher("__name__", MatchOp.EQUAL, "n"),),)
    assert history.select(named, 0, 9).series.labels == (name("n", "a"),)
