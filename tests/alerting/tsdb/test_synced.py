"""What a power cut must not take is on the disk before anything relies on it."""

from itertools import takewhile
from pathlib import Path

import pytest

from support import synced_store
from support.sync_log import sync_log
from tocsin_alerting.tsdb.disk_persistence import WriterIntervals

Calls = list[tuple[str, str]]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Calls:
    script = Path(synced_store.__file__)
    return sync_log(script, tmp_path_factory.mktemp("synced") / "samples")


def _unfinished(name: str) -> str:
    return str(Path(name).with_suffix(".tmp"))


@pytest.mark.parametrize(("suffix", "count"), [(".seg", 2), (".log", 3)])
def test_a_file_is_synced_before_it_has_its_name_and_its_name_after_that(
    calls: Calls, suffix: str, count: int
) -> None:
    named = [at for at, (call, name) in enumerate(calls) if (call, name[-4:]) == ("rename", suffix)]
    assert len(named) == count
    for at in named:
        assert calls[at - 1] == ("sync", _unfinished(calls[at][1]))
        after = takewhile(lambda call: call[0] != "rename", calls[at + 1 :])
        assert next(call for call in after if not call[1].endswith(".tmp")) == ("sync", ".")


def test_an_old_log_goes_only_when_the_name_of_the_new_one_is_synced(calls: Calls) -> None:
    removed = [at for at, call in enumerate(calls) if call[0] == "remove" and ".log" in call[1]]
    assert len(removed) == 2
    for at in removed:
        assert calls[at - 1] == ("sync", ".")
        assert calls[at - 2][0] == "rename" and calls[at - 2][1].endswith(".log")


def test_what_was_written_is_synced_every_so_many_turns(calls: Calls) -> None:
    quiet = calls[calls.index(("remove", "sealed")) + 1 :]
    assert {call for call, _ in quiet} == {"sync"} and len({name for _, name in quiet}) == 1
    expected = synced_store.TURNS // WriterIntervals().ticks_per_sync
    assert expected <= len(quiet) <= expected + 1
