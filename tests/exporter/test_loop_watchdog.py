"""The watch over the event loop: what a request waits, and what is logged when the loop stands."""

import asyncio
import logging
import socket
import threading
from dataclasses import dataclass

import pytest

from tocsin_exporter.admission import is_health
from tocsin_exporter.clock import Clock
from tocsin_exporter.loop_watchdog import BLOCKED_SECONDS, LoopWatchdog, own_request


@dataclass
class Times:
    """A clock and the CPU time of the process, both set by the test."""

    now: float = 100.0
    cpu: float = 10.0

    def pass_by(self, seconds: float, cpu: float = 0.0) -> None:
        self.now += seconds
        self.cpu += cpu


def watching(times: Times, ask: object = None) -> LoopWatchdog:
    request = ask if callable(ask) else lambda: None
    return LoopWatchdog(request, lambda: times.now, lambda: times.cpu)


def said(watch: LoopWatchdog) -> dict[str, float]:
    return {sample.family.name: sample.value for sample in watch.samples()}


async def test_the_lag_is_what_a_request_waited_within_15_s() -> None:
    times = Times()
    watch = watching(times, lambda: times.pass_by(7.5))
    watch.request()
    assert said(watch)["tocsin_loop_lag_seconds"] == pytest.approx(7.5)
    times.pass_by(14.0)
    assert said(watch)["tocsin_loop_lag_seconds"] == pytest.approx(7.5)
    times.pass_by(2.0)
    assert said(watch)["tocsin_loop_lag_seconds"] == 0


async def test_a_request_without_an_answer_yet_counts_already() -> None:
    times = Times()
    seen = []

    def ask() -> None:
        times.pass_by(3.0)
        seen.append(said(watch)["tocsin_loop_lag_seconds"])

    watch = watching(times, ask)
    watch.request()
    assert seen == [pytest.approx(3.0)]


async def test_a_server_that_does_not_listen_is_no_wait() -> None:
    times = Times()

    def refused() -> None:
        times.pass_by(5.0)
        raise ConnectionRefusedError

    watch = watching(times, refused)
    watch.request()
    assert said(watch)["tocsin_loop_lag_seconds"] == 0


async def test_a_loop_that_turns_late_is_late_also_without_requests() -> None:
    times = Times()
    watch = watching(times)
    watch.start()
    watch.stop()
    watch.tick()
    times.pass_by(0.7)
    assert said(watch)["tocsin_loop_lag_seconds"] == pytest.approx(0.7)
    await asyncio.sleep(0)
    times.pass_by(0.2)
    assert said(watch) == {
        "tocsin_loop_lag_seconds": pytest.approx(0.7),
        "tocsin_loop_blocked_total": 0,
    }


async def test_whatever_blocks_the_loop_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Real threads and a real clock: the block ends when the watch has logged it."""
    logged = threading.Event()

    class Noticing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "blocked" in record.getMessage():
                logged.set()

    def a_slow_parser() -> bool:
        return logged.wait(30)

    handler = Noticing()
    logging.getLogger("tocsin_exporter.loop_watchdog").addHandler(handler)
    watch = LoopWatchdog(lambda: None, Clock().monotonic)
    watch.start()
    try:
        assert a_slow_parser()
        async with asyncio.timeout(30):
            while "event loop recovered" not in caplog.text:
                await asyncio.sleep(0.01)
    finally:
        watch.stop()
        logging.getLogger("tocsin_exporter.loop_watchdog").removeHandler(handler)
    assert watch.blocked == 1
    assert "a_slow_parser" in caplog.text
    assert said(watch)["tocsin_loop_lag_seconds"] >= BLOCKED_SECONDS


async def test_one_block_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    times = Times()
    watch = watching(times)
    watch.start()
    watch.stop()
    for _ in range(9):
        watch.tick()
        times.pass_by(0.25, cpu=0.25)
    await asyncio.sleep(0)
    assert said(watch)["tocsin_loop_blocked_total"] == 1
    assert caplog.text.count("blocked for 1.0 s") == 1
    assert "test_one_block_is_counted_and_logged_once" in caplog.text  # where the loop is
    watch.tick()
    times.pass_by(1.5, cpu=1.5)
    watch.tick()
    assert said(watch)["tocsin_loop_blocked_total"] == 2


async def test_what_was_loaded_before_the_watch_began_is_no_block(
    caplog: pytest.LogCaptureFixture,
) -> None:
    times = Times()
    watch = watching(times)
    times.pass_by(5.5, cpu=5.5)  # the journal and the samples of the last run
    watch.start()
    watch.stop()
    times.pass_by(0.25, cpu=0.25)
    watch.tick()
    await asyncio.sleep(0)
    assert said(watch) == {"tocsin_loop_lag_seconds": 0, "tocsin_loop_blocked_total": 0}
    assert "blocked" not in caplog.text
    watch.tick()
    times.pass_by(1.5, cpu=1.5)
    watch.tick()
    assert said(watch)["tocsin_loop_blocked_total"] == 1


@pytest.mark.parametrize("asked_before", [True, False])
@pytest.mark.parametrize("loop_first", [True, False])
async def test_a_stopped_process_is_told_from_a_blocked_loop(
    loop_first: bool, asked_before: bool, caplog: pytest.LogCaptureFixture
) -> None:
    times = Times()
    watch = watching(times)
    watch.start()
    watch.stop()
    if asked_before:
        watch.tick()
    times.pass_by(20.0, cpu=0.01)
    if not (loop_first and asked_before):
        watch.tick()
    await asyncio.sleep(0)
    assert watch.blocked == 1
    assert said(watch)["tocsin_loop_lag_seconds"] == pytest.approx(20.0, abs=0.3)
    assert "the process was stopped, or had no CPU" in caplog.text


async def test_a_call_that_keeps_the_interpreters_lock_is_no_stopped_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    times = Times()
    watch = watching(times)
    watch.start()
    watch.stop()
    watch.tick()
    times.pass_by(20.0, cpu=19.0)
    watch.tick()
    assert "test_a_call_that_keeps" in caplog.text


@pytest.mark.parametrize(
    "fault", [ConnectionResetError, BrokenPipeError, ConnectionAbortedError, TimeoutError, OSError]
)
async def test_who_is_refused_or_cut_off_still_waits(fault: type[OSError]) -> None:
    """An end without an answer counted as one: the lag was low while nobody was answered."""
    times, broken = Times(), True

    def ask() -> None:
        times.pass_by(0.5)
        if broken:
            raise fault

    watch = watching(times, ask)
    for _ in range(4):
        watch.request()
        times.pass_by(1.0)
    assert said(watch)["tocsin_loop_lag_seconds"] == pytest.approx(6.0)
    broken = False
    watch.request()
    assert said(watch)["tocsin_loop_lag_seconds"] == pytest.approx(6.5)
    times.pass_by(16.0)
    assert said(watch)["tocsin_loop_lag_seconds"] == 0
    watch.request()
    assert said(watch)["tocsin_loop_lag_seconds"] == pytest.approx(0.5)


async def heads_of(bound: str, answer: bytes) -> list[bytes]:
    """What our own request says to a server that says `answer` and closes."""
    heads = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    with socket.create_server((bound, 0)) as listener:
        port = listener.getsockname()[1]
        async with await asyncio.start_server(serve, sock=listener):
            await asyncio.to_thread(own_request([listener]))
    return [head.replace(b":%d\r\n" % port, b":PORT\r\n") for head in heads]


@pytest.mark.parametrize("bound", ["0.0.0.0", "127.0.0.1"])
async def test_the_request_goes_to_our_own_listener_and_is_nothing_special(bound: str) -> None:
    """One for our health would find a place, and wait for nobody, where others are refused."""
    heads = await heads_of(bound, b"HTTP/1.1 200 OK\r\n\r\n")
    assert heads == [b"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nConnection: close\r\n\r\n"]
    assert not is_health({"path": "/"})


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 503 Service Unavailable\r\n\r\n"])
async def test_an_end_or_a_refusal_is_no_answer(answer: bytes) -> None:
    with pytest.raises(ConnectionAbortedError):
        await heads_of("127.0.0.1", answer)
