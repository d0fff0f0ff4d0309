"""Random PromQL queries over a known set of metrics, the same ones for the same seed."""

from random import Random

RANGES = ("1m", "2m", "5m", "7m30s", "1h")
OFFSETS = ("", "", "", " offset 1m", " offset 5m", " offset -2m", " @ end()", " @ start()")
RANGE_FUNCTIONS = (
    "rate increase delta irate idelta changes resets deriv sum_over_time avg_over_time "
    "min_over_time max_over_time count_over_time last_over_time present_over_time "
    "stddev_over_time stdvar_over_time absent_over_time"
).split()
PLAIN_FUNCTIONS = (
    "abs ceil floor exp ln log2 log10 sqrt sgn round sin cos tan atan deg rad absent timestamp "
    "hour minute day_of_week day_of_month month year days_in_month sort sort_desc"
).split()
AGGREGATES = "sum avg min max count group stddev stdvar".split()
LABELS = ("job", "instance", "code", "zone")
ARITHMETIC = ("+", "-", "*", "/", "%", "^", "atan2")
COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")


class QueryGenerator:
    def __init__(self, seed: int, gauges: tuple[str, ...], counters: tuple[str, ...]) -> None:
        self._random = Random(seed)
        self._gauges, self._counters = gauges, counters

    def query(self) -> str:
        return self._vector(self._random.randint(1, 4))

    def _vector(self, depth: int) -> str:
        if depth <= 0:
            return self._selector()
        make = self._random.choice((
            self._ranged, self._ranged, self._plain, self._aggregate, self._aggregate,
            self._with_scalar, self._matched, self._set, self._subquery, self._special,
        ))  # fmt: skip
        return make(depth - 1)

    def _selector(self, bare: bool = False) -> str:
        choose = self._random.choice
        name = choose((*self._gauges, *self._counters))
        matcher = choose(("", "", '{code="500"}', '{zone!="a"}', '{job=~"one|two"}', '{zone=""}'))
        return f"{name}{matcher}" if bare else f"{name}{matcher}{choose(OFFSETS)}"

    def _ranged(self, _: int) -> str:
        choose = self._random.choice
        window = f"{self._selector(bare=True)}[{choose(RANGES)}]{choose(OFFSETS)}"
        if self._random.random() < 0.15:
            return f"quantile_over_time({choose((0.5, 0.9, -1, 0.25))}, {window})"
        if self._random.random() < 0.15:
            return f"predict_linear({window}, {choose((60, 3600))})"
        if self._random.random() < 0.05:
            return f"holt_winters({window}, 0.5, 0.3)"
        return f"{choose(RANGE_FUNCTIONS)}({window})"

    def _plain(self, depth: int) -> str:
        return f"{self._random.choice(PLAIN_FUNCTIONS)}({self._vector(depth)})"

    def _aggregate(self, depth: int) -> str:
        choose = self._random.choice
        clause = choose(("", f" by ({self._labels()})", f" without ({self._labels()})"))
        if self._random.random() < 0.2:
            return f"quantile{clause}({choose((0.5, 0.95, 2))}, {self._vector(depth)})"
        if self._random.random() < 0.1:
            # Of plain samples: the label shows every digit of a computed number.
            return f'count_values{clause}("value", {self._selector()})'
        return f"{choose(AGGREGATES)}{clause}({self._vector(depth)})"

    def _labels(self) -> str:
        return ", ".join(self._random.sample(LABELS, self._random.randint(0, 2)))

    def _with_scalar(self, depth: int) -> str:
        choose = self._random.choice
        operator, scalar = self._operator(), choose(("2", "0.5", "100", "time()", "scalar(g)"))
        vector = self._vector(depth)
        if self._random.random() < 0.5:
            return f"({vector}) {operator} {scalar}"
        return f"{scalar} {operator} ({vector})"

    def _operator(self) -> str:
        if self._random.random() < 0.5:
            return self._random.choice(ARITHMETIC)
        return self._random.choice(COMPARISONS) + self._random.choice(("", " bool"))

    def _matched(self, depth: int) -> str:
        choose = self._random.choice
        clause = choose((
            "", "", f" on ({self._labels()})", f" ignoring ({self._labels()})",
            f" on ({self._labels()}) group_left ()", f" ignoring ({self._labels()}) group_right ()",
            " on (instance) group_left (zone)",
        ))  # fmt: skip
        return f"({self._vector(depth)}) {self._operator()}{clause} ({self._vector(depth)})"

    def _set(self, depth: int) -> str:
        clause = self._random.choice(
            ("", f" on ({self._labels()})", f" ignoring ({self._labels()})")
        )
        operator = self._random.choice(("and", "or", "unless"))
        return f"({self._vector(depth)}) {operator}{clause} ({self._vector(depth)})"

    def _subquery(self, depth: int) -> str:
        choose = self._random.choice
        step = choose(("", "15s", "1m", "47s"))
        window = f"({self._vector(min(depth, 1))})[{choose(RANGES)}:{step}]{choose(OFFSETS)}"
        return f"{choose(RANGE_FUNCTIONS)}({window})"

    def _special(self, depth: int) -> str:
        choose = self._random.choice
        vector = self._vector(depth)
        return choose((
            f"histogram_quantile({choose((0.5, 0.9, 0))}, sum by (le, zone) (rate(b_bucket[5m])))",
            f"histogram_quantile(0.9, b_bucket{choose(OFFSETS)})",
            f"clamp({vector}, 1, 50)", f"clamp_max({vector}, 7)", f"clamp_min({vector}, 3)",
            f"-({vector})", f"round({vector}, 0.25)", f"vector(scalar({vector}))",
            f'label_replace({vector}, "zone", "$1-x", "instance", "(.).*")',
            f'label_join({vector}, "joined", "/", "job", "instance")',
        ))  # fmt: skip
