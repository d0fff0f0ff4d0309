"""When files are read again, and what becomes of what they say."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.reading import ReadConfig, Stamps
from tocsin_alerting.loops.config_reload import (
    BY_FILE,
    STILL_SECONDS,
    ConfigReload,
    FileWatch,
    ReloadFailed,
    ReloadStatus,
    ReloadSteps,
)
from tocsin_exporter.clock import Clock

OLD: Stamps = {"a": (1,)}
NEW: Stamps = {"a": (2,)}


def test_files_are_read_once_they_have_been_still() -> None:
    watch = FileWatch(OLD, 0.0)
    assert not watch.observe(OLD, 100.0)
    assert not watch.observe(NEW, 101.0)
    assert not watch.observe({"a": (3,)}, 101.0 + STILL_SECONDS)  # still being written
    assert not watch.observe({"a": (3,)}, 105.0 + STILL_SECONDS)
    assert watch.observe({"a": (3,)}, 101.0 + 2 * STILL_SECONDS)
    watch.loaded({"a": (3,)})
    assert not watch.observe({"a": (3,)}, 200.0)


def test_a_file_that_comes_and_goes_again_is_no_change() -> None:
    watch = FileWatch(OLD, 0.0)
    assert not watch.observe({**OLD, "b": (1,)}, 1.0)
    assert not watch.observe(OLD, 2.0)
    assert not watch.observe(OLD, 60.0)


@dataclass
class Files:
    """What is read, objected to and put in force."""

    error: Exception | None = None
    objections: Sequence[str] = ()
    apply_error: Exception | None = None
    needs_restart: Sequence[str] = ()
    stamps: Stamps = field(default_factory=lambda: OLD)
    also: Stamps = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def read(self) -> ReadConfig:
        if self.error is not None:
            raise self.error
        stamps = {**self.stamps, **self.also}
        return ReadConfig(Config(), (), needs_restart=self.needs_restart, stamps=stamps)

    async def apply(self, read: ReadConfig) -> None:
        if self.apply_error is not None:
            raise self.apply_error
        self.done.append("applied")

    async def discard(self, read: ReadConfig) -> None:
        self.done.append("discarded")

    def reload(self) -> ConfigReload:
        steps = ReloadSteps(
            read=self.read,
            stamps=lambda: self.stamps,
            objections=lambda read: self.objections,
            apply=self.apply,
            discard=self.discard,
            began=lambda: self.done.append("began"),
            ended=lambda: self.done.append("ended"),
        )
        return ConfigReload(steps, ReloadStatus(1, 1), self.stamps, Clock())


async def test_what_is_right_holds_and_says_what_waits_for_a_restart() -> None:
    files = Files(needs_restart=("web.listen_address",))
    reload = files.reload()
    assert list(await reload.reload("SIGHUP")) == ["web.listen_address"]
    assert files.done == ["began", "applied", "ended"]
    assert reload.status.successful and reload.status.success_ms > 1
    assert reload.status.needs_restart == ("web.listen_address",)


async def test_what_waits_for_a_restart_waits_until_something_else_holds() -> None:
    files = Files(needs_restart=("web.listen_address",))
    reload = files.reload()
    await reload.reload("SIGHUP")
    files.objections = ["it would remove everything"]
    await reload.reload(BY_FILE, asked=False)
    assert list(reload.status.needs_restart) == ["web.listen_address"]
    files.error = ValueError("wrong")
    with pytest.raises(ReloadFailed):
        await reload.reload("SIGHUP")
    assert list(reload.status.needs_restart) == ["web.listen_address"]
    files.error, files.needs_restart = None, ()
    await reload.reload("SIGHUP")
    assert not list(reload.status.needs_restart)


async def test_files_that_were_not_watched_before_are_no_second_change() -> None:
    """A pattern that is new in rule_files: its files were read by the reload that brought it."""
    files = Files(also={"rules/new.yml": (7,)})
    reload = files.reload()
    await reload.reload("SIGHUP")
    watch = reload.watch
    now_s = 1e9
    files.stamps = {**files.stamps, **files.also}  # as they are looked at from now on
    assert not watch.observe(files.stamps, now_s)
    assert not watch.observe(files.stamps, now_s + 10 * STILL_SECONDS)
    assert not watch.observe({**files.stamps, "rules/new.yml": (8,)}, now_s + 100)
    assert watch.observe({**files.stamps, "rules/new.yml": (8,)}, now_s + 200)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("a.yml:1:2: wrong"), "a.yml:1:2: wrong"),
        (KeyError("x"), "KeyError: 'x'"),
        (
            RuntimeError("can't start new thread"),
            "can't start new thread; allow the agent more (TasksMax=, pids_limit, ulimit -u), and"
            " reload again",
        ),
    ],
)
async def test_what_is_wrong_keeps_what_runs(
    error: Exception, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    files = Files(error=error)
    reload = files.reload()
    with pytest.raises(ReloadFailed, match="x|wrong|thread"):
        await reload.reload("SIGHUP")
    assert files.done == ["began", "ended"]
    assert (reload.status.error, reload.status.success_ms) == (words, 1)
    assert words in caplog.text
    files.error = None
    await reload.reload("SIGHUP")
    assert reload.status.successful


async def test_a_fault_while_it_is_applied_is_told() -> None:
    files = Files(apply_error=RuntimeError("half"))
    reload = files.reload()
    with pytest.raises(ReloadFailed):
        await reload.reload("SIGHUP")
    assert reload.status.error == "half"


async def test_what_nobody_asked_for_waits_where_there_are_objections() -> None:
    files = Files(objections=["it would remove everything"])
    reload = files.reload()
    assert await reload.reload(BY_FILE, asked=False) == ()
    assert files.done == ["began", "discarded", "ended"]
    assert reload.status.successful
    assert reload.status.held.startswith("it would remove everything; send SIGHUP")
    await reload.reload("SIGHUP")
    assert "applied" in files.done and reload.status.held == ""


async def test_sighup_is_heard_while_another_reload_is_under_way() -> None:
    files = Files()
    reload = files.reload()
    running = asyncio.create_task(reload.run())
    reload.hang_up()
    async with asyncio.timeout(10):
        while files.done.count("applied") < 1:
            await asyncio.sleep(0)
        reload.hang_up()
        while files.done.count("applied") < 2:
            await asyncio.sleep(0)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_it_ends_although_sighup_comes_at_that_moment() -> None:
    reload = Files().reload()
    running = asyncio.create_task(reload.run())
    for _ in range(5):
        await asyncio.sleep(0)
    reload.hang_up()
    running.cancel()
    async with asyncio.timeout(5):
        await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
