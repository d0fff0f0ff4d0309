"""Requests to the query API made up at random: right ones, wrong ones, odd ones."""

from random import Random

from support.asking import Pairs

QUERIES = [
    *("full", "gaps", "1", "time()", "timestamp(full)", "full[1m]", "rate(full[1m])", "sum(full)"),
    *("(", '"x"', "full @ 1e9", "full offset -1h", "{}", "full{", "topk(2,full)", "1/0", "0/0"),
    *("full[1m:10s]", "day_of_week()", "minute(vector(-1))", "absent(nosuch)", "nosuch", ""),
    *("full and gaps", "full + on(instance) gaps", "full + ignoring(mode) gaps", "foo(1)"),
    *('count_values("x", full)', "full > 3 or gaps", "quantile(2, full)", "sum by (mode"),
    *('label_replace(full, "a", "$1", "instance", "(.*)")', '{__name__=~"full|gaps"}'),
    *("max_over_time(full[1h:1m] offset 5m)", "vector(scalar(sum(full)))", 'full{a="b"'),
]
MATCHES = [
    *("full", '{__name__!=""}', "{}", 'gaps{mode="a"}', "full{", "", '{mode=~".+"}', "nosuch"),
    *('{mode=~".*"}', "sum(full)", "full[1m]", "up"),
]
STEPS = [
    *("", "0", "-1", "1", "15", "0.5", "1m", "1h30m", "5ms", "0s", "1e2", "x", "1.5m", "1w"),
    *("9e9", "-5s", " 5", "30", "60", "300"),
]
PATHS = [
    *("query", "query_range", "query", "query_range", "series", "labels", "label/mode/values"),
    *("label/__name__/values", "query_exemplars", "format_query", "targets/metadata"),
]
WITH_QUERY = {"query", "query_range", "format_query", "query_exemplars"}


def _times(start: int) -> list[str]:
    """Times around those of the samples, which begin at `start` and go on for 10 minutes."""
    return [
        *("", "0", "-1", "1e3", "noon", "2023-11-14", " 5", "+5", ".5", "5."),
        *("2023-11-14T22:13:20Z", "2023-11-14T22:13:20+08:00", "2023-11-14 22:13:20"),
        *(str(start), str(start + 300), f"{start + 300}.5", str(start + 600)),
    ]


def api_request(random: Random, start: int) -> tuple[str, Pairs]:
    """A path below /api/v1 and its parameters."""
    path, pairs = random.choice(PATHS), list[tuple[str, str]]()

    def maybe(name: str, values: list[str], chance: float) -> None:
        if random.random() < chance:
            pairs.append((name, random.choice(values)))

    if path in WITH_QUERY:
        maybe("query", QUERIES, 0.97)
    if path == "query":
        pairs.append(("time", random.choice(_times(start)[1:])))
    if path not in ("query", "format_query", "targets/metadata"):
        # Which series a part of the samples touches, Prometheus tells by whole chunks.
        whole = path.startswith(("series", "label")) or random.random() < 0.6
        maybe("start", [str(start), "noon"] if whole else _times(start), 0.9)
        maybe("end", [str(start + 600), "0x10"] if whole else _times(start), 0.9)
    if path == "query_range":
        maybe("step", STEPS, 0.95)
    if path in ("query", "query_range"):
        maybe("timeout", ["1s", "x", "10", "1m"], 0.1)
    if path.startswith(("series", "label")):
        maybe("match[]", MATCHES, 0.8)
        maybe("match[]", MATCHES, 0.3)
    if path == "targets/metadata":
        maybe("match_target", MATCHES, 0.5)
        maybe("limit", ["0", "1", "x", "-1", "", "1.5"], 0.5)
    return path, pairs
