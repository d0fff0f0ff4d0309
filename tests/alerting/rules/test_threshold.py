"""What an expression compares: the side to look at, and its limit."""

import pytest

from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.parser.printer import print_expr
from tocsin_alerting.rules.threshold import comparison, unit


@pytest.mark.parametrize(
    ("query", "measured", "op", "limit"),
    [
        ("temp > 80", "temp", ">", 80),
        ("(temp) >= (80)", "temp", ">=", 80),
        ("temp < -5", "temp", "<", -5),
        ("up == 0", "up", "==", 0),
        ("80 < temp", "temp", ">", 80),
        ("(-1) >= temp", "temp", "<=", -1),
        ("rate(e[5m]) / rate(r[5m]) > 0.03", "rate(e[5m]) / rate(r[5m])", ">", 0.03),
        ("temp > on (gpu) limit", "temp", ">", "limit"),
        ("(temp > 80) and on (gpu) busy > 1", "temp", ">", 80),
        ("temp > 80 unless off", "temp", ">", 80),
        ("absent(up)", "absent(up)", "", None),
        ("a > 1 or b > 2", "a > 1 or b > 2", "", None),
        ("a and b > 2", "a and b > 2", "", None),
    ],
)
def test_the_comparison(query: str, measured: str, op: str, limit: float | str | None) -> None:
    found = comparison(parse(query))
    assert (print_expr(found.measured), found.op) == (measured, op)
    known = isinstance(found.limit, float | None)
    assert (found.limit if known else print_expr(found.limit)) == limit  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "ratio"),
        ("DCGM_FI_DEV_GPU_TEMP", "celsius"),
        ("time() - last_over_time(gpu_xid_last_timestamp_seconds[5m])", "seconds"),
        ("histogram_quantile(0.95, sum by (le) (rate(x_seconds_bucket[5m])))", "seconds"),
        ("rate(x_seconds_sum[5m]) / rate(x_seconds_count[5m])", "seconds"),
        ('sum(rate(r_total{s="e"}[5m])) / sum(rate(r_total[5m]))', "ratio"),
        ("rate(tokens_total[5m]) / rate(r_total[5m])", "number"),
        ("1 - avg by (instance) (rate(node_cpu_seconds_total[5m]))", "seconds/s"),
        ("rate(a_bytes_total[5m]) + rate(b_bytes_total[5m])", "bytes/s"),
        ("a_bytes and b", "bytes"),
        ("a_bytes or b", "number"),
        ("a_bytes / 1024", "number"),
        ("count(a_bytes)", "number"),
        ("time()", "moment"),
        ("up", "number"),
    ],
)
def test_the_unit(query: str, found: str) -> None:
    assert unit(parse(query)) == found
