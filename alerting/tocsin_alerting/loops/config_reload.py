"""Reload: the files are read again, checked as a whole in a thread, and put in force at once.

What is wrong keeps what runs. Files that were changed and have been still for a while are read by
themselves; but a reload that nobody asked for must not take away what somebody is being paged for.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from tocsin_alerting.config.reading import ReadConfig, Stamps
from tocsin_exporter.clock import Clock
from tocsin_exporter.threads import Threads, in_thread

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
STILL_SECONDS = 5.0
BY_FILE = "a file has changed"
_NO_THREAD = "can't start new thread"
_MORE_THREADS = "; allow the agent more (TasksMax=, pids_limit, ulimit -u), and reload again"
_HOW_TO_APPLY = "send SIGHUP or POST /-/reload to apply it all the same"


class ReloadFailed(ValueError):
    """The message is what is wrong, a line each; what ran runs on."""


@dataclass(frozen=True, slots=True)
class ReloadStatus:
    """How the last reload ended, or the start. `error` is why it failed, "" if it did not; `held`
    what keeps changed files from being applied without being asked; `needs_restart` the keys whose
    new values wait for one, as what is in force says. `success_ms`: since when that is."""

    success_ms: int
    at_ms: int
    error: str = ""
    held: str = ""
    needs_restart: Sequence[str] = ()

    @property
    def successful(self) -> bool:
        return not self.error


class FileWatch:
    """Which files a reload has read, and since when they have looked as they do."""

    def __init__(self, loaded: Stamps, now_s: float) -> None:
        self._loaded = self._seen = loaded
        self._since_s = now_s

    def observe(self, stamps: Stamps, now_s: float) -> bool:
        """Whether they are others than were loaded, and have been still for long enough."""
        if stamps != self._seen:
            self._seen, self._since_s = stamps, now_s
        return stamps != self._loaded and now_s - self._since_s >= STILL_SECONDS

    def loaded(self, stamps: Stamps) -> None:
        self._loaded = stamps


async def _nothing(read: ReadConfig) -> None:
    """Is to be prepared."""


@dataclass(frozen=True, slots=True)
class ReloadSteps:
    """What a reload is made of. `read` and `stamps` are called in a thread; `objections` says why
    nobody should apply it without being asked, `prepare` does what may fail and changes nothing,
    `apply` puts it in force, `discard` lets go of what is not. `began` and `ended` hear of each
    reload."""

    read: Callable[[], ReadConfig]
    stamps: Callable[[], Stamps]
    objections: Callable[[ReadConfig], Sequence[str]]
    apply: Callable[[ReadConfig], Awaitable[None]]
    discard: Callable[[ReadConfig], Awaitable[None]]
    prepare: Callable[[ReadConfig], Awaitable[None]] = _nothing
    began: Callable[[], None] = lambda: None
    ended: Callable[[], None] = lambda: None


class ConfigReload:
    """One reload at a time. `status` is how the last one ended."""

    def __init__(
        self, steps: ReloadSteps, status: ReloadStatus, started: Stamps, clock: Clock
    ) -> None:
        self.status = status
        self._steps, self._clock = steps, clock
        self._thread = Threads(1, "reload")
        self._one_at_a_time = asyncio.Lock()
        self.watch = FileWatch(started, clock.monotonic())
        self._hung_up = asyncio.Event()

    async def reload(self, why: str, *, asked: bool = True) -> Sequence[str]:
        """Read and apply; the keys that need a restart. `asked`: somebody wants it as it is.
        Raises ReloadFailed."""
        async with self._one_at_a_time:
            self._steps.began()
            try:
                return await self._reload(why, asked)
            finally:
                self._steps.ended()

    async def _reload(self, why: str, asked: bool) -> Sequence[str]:
        self.watch.loaded(await in_thread(self._steps.stamps, self._thread))
        try:
            read = await in_thread(self._steps.read, self._thread)
        except Exception as error:  # why: whatever a file makes of us, what runs runs on
            raise self._failed(why, error) from None
        held = [] if asked else self._steps.objections(read)
        if held:
            await self._steps.discard(read)
            self._hold(held)
            return ()
        try:
            await self._steps.prepare(read)
        except Exception as error:  # why: as above; a shortage of threads shows here
            await self._steps.discard(read)
            raise self._failed(why, error) from None
        try:
            await self._steps.apply(read)
        except Exception as error:  # why: a fault of ours, which must be told
            log.exception("configuration reload failed half-way; restart the agent")
            raise self._failed(why, error) from None
        self.watch.loaded(read.stamps)  # it may watch other files than before
        return self._succeeded(why, read)

    async def run(self) -> None:
        """Look at the files, and take what SIGHUP asks for, for ever."""
        while True:
            why = await self._wait()
            try:
                if why:
                    await self.reload(why, asked=why != BY_FILE)
            except ReloadFailed:
                continue  # it is in the log and in the status

    def hang_up(self) -> None:
        """SIGHUP came."""
        self._hung_up.set()

    async def _wait(self) -> str:
        """Until the next look; why there is to be a reload, "" for none."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):  # `wait_for` may swallow our cancellation
                await self._hung_up.wait()
        except TimeoutError:
            stamps = await in_thread(self._steps.stamps, self._thread)
            changed = self.watch.observe(stamps, self._clock.monotonic())
            return BY_FILE if changed else ""
        self._hung_up.clear()
        return "SIGHUP"

    def _failed(self, why: str, error: Exception) -> ReloadFailed:
        words = str(error) or type(error).__name__
        if words == _NO_THREAD:
            words += _MORE_THREADS
        if not isinstance(error, ValueError | OSError | RuntimeError):
            log.error("configuration reload failed", exc_info=error)
            words = f"{type(error).__name__}: {words}"
        log.error("configuration reload failed (%s), what ran runs on: %s", why, words)
        self.status = replace(self.status, at_ms=self._clock.now_ms(), error=words, held="")
        return ReloadFailed(words)

    def _hold(self, reasons: Sequence[str]) -> None:
        held = f"{'; '.join(reasons)}; {_HOW_TO_APPLY}"
        log.warning("configuration reload refused without being asked: %s", held)
        now_ms = self._clock.now_ms()
        self.status = replace(self.status, at_ms=now_ms, error="", held=held)

    def _succeeded(self, why: str, read: ReadConfig) -> Sequence[str]:
        now_ms = self._clock.now_ms()
        self.status = ReloadStatus(now_ms, now_ms, needs_restart=tuple(read.needs_restart))
        log.info("configuration reloaded (%s)", why)
        for key in read.needs_restart:
            log.warning("configuration key ignored: %s needs a restart", key)
        return read.needs_restart
