"""XID errors: what is known of them after a restart, and when the clock is set."""

import pytest

from support.site import NOW
from tocsin_exporter.collectors.gpu_xid import XidWatcher
from tocsin_exporter.snapshot import LastSample

LAST = "gpu_xid_last_timestamp_seconds"


@pytest.mark.parametrize(("step", "at"), [(3600.0, NOW), (-5.0, NOW - 15)])
def test_when_the_clock_is_set_no_error_was_in_time_to_come(step: float, at: float) -> None:
    watcher = XidWatcher(None, lambda: NOW)
    watcher.resume([LastSample(LAST, {"UUID": "GPU-1", "gpu": "0", "xid": "79"}, NOW - 10)])
    watcher.move(step)
    assert [(s.family.name, s.value) for s in watcher.of_missing(())] == [(LAST, at)]
