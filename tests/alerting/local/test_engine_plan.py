"""What is watched and whether a worker is started, with real listeners on the loopback."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from support.engine_process import EngineProcess
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.incidents.changeset import EngineRow
from tocsin_alerting.local import ports, worker_process
from tocsin_alerting.local.discovery import Origin
from tocsin_alerting.local.engine_plan import make_plan
from tocsin_exporter.engine_access import EngineAccess

VLLM = Answer(body=b"vllm:num_requests_running 1\n")
NAMED = EngineAccess.of("http://h:1")
HERE = "127.0.0.1"


@contextmanager
def taken() -> Iterator[int]:
    with socket.socket() as held:
        held.bind((HERE, 0))
        held.listen()
        yield held.getsockname()[1]


def free() -> int:
    with taken() as port:
        return port


async def test_named_engines_are_watched_whatever_else_runs() -> None:
    async with WebhookSink(usual=VLLM) as sink:
        plan = await make_plan(
            [NAMED, EngineAccess.of("http://h:2")], True, HERE, free(), [sink.port]
        )
    assert [engine.url for engine in plan.engines] == ["http://h:1", "http://h:2"]
    assert not plan.start_worker
    assert sink.requests == []


async def test_an_engine_that_runs_keeps_its_memory() -> None:
    async with WebhookSink(usual=VLLM) as sink:
        plan = await make_plan([], True, HERE, free(), [sink.port])
    assert [engine.url for engine in plan.engines] == [f"http://127.0.0.1:{sink.port}"]
    assert not plan.start_worker


async def test_what_answers_on_the_demos_port_is_no_engine() -> None:
    """Another agent's demo, which leaves when it likes; also one that is remembered."""
    async with WebhookSink(usual=_models("m")) as sink:
        row, target = _row(sink.port), f"{HERE}:{sink.port}"
        for wanted in (True, False):
            plan = await make_plan([], wanted, HERE, sink.port, [free()])
            again = await make_plan([], wanted, HERE, sink.port, [], [target], [row])
            assert plan.engines == again.engines == ()
            assert not plan.start_worker and not again.start_worker
            assert sink.port not in plan.ports and target in plan.reserved
        assert sink.requests == []
    if worker_process.installed():
        plan = await make_plan([], True, "0.0.0.0", sink.port, [], remembered=[row])
        assert (plan.engines, plan.start_worker) == ((), True)


async def test_the_demos_port_is_looked_at_when_it_is_named() -> None:
    async with WebhookSink(usual=VLLM) as sink:
        plan = await make_plan([], True, HERE, sink.port, [sink.port])
    assert [engine.url for engine in plan.engines] == [f"http://127.0.0.1:{sink.port}"]
    assert plan.reserved == () and not plan.start_worker


async def test_nothing_is_followed_to_the_demos_port() -> None:
    old = free()
    with EngineProcess(free(), "vllm serve qwen") as other:
        plan = await make_plan([], True, HERE, other.port, [free()], remembered=[_row(old, "qwen")])
    assert plan.moved == () and plan.silent == (f"{HERE}:{old}",)


async def test_a_worker_is_started_only_where_one_can_be() -> None:
    plan = await make_plan([], True, HERE, free(), [])
    assert plan.ports == ()
    assert plan.start_worker is worker_process.installed()
    assert plan.why_not == ("" if worker_process.installed() else worker_process.NO_TORCH)


async def test_none_is_started_that_nobody_wants() -> None:
    plan = await make_plan([], False, HERE, free(), [])
    assert (plan.start_worker, plan.why_not) == (False, "off")


async def test_a_taken_port_is_named_with_its_owner() -> None:
    with taken() as port:
        plan = await make_plan([], True, HERE, port, [])
    assert not plan.start_worker
    if worker_process.installed():
        assert plan.why_not.startswith(f"port {port} is in use by ")
        assert f"(pid {os.getpid()})" in plan.why_not


async def test_an_address_that_is_not_ours() -> None:
    plan = await make_plan([], True, "203.0.113.7", free(), [])
    assert not plan.start_worker
    if worker_process.installed():
        assert plan.why_not.startswith("it cannot listen on 203.0.113.7: ")


async def test_an_engine_that_was_in_trouble_is_down_and_not_gone() -> None:
    """Found by itself in the last run, dead since: no worker may take its memory."""
    plan = await make_plan([], True, HERE, free(), [], troubled=["127.0.0.1:30000"])
    assert [engine.url for engine in plan.engines] == ["http://127.0.0.1:30000"]
    assert not plan.start_worker


async def test_our_own_worker_that_was_down_is_watched_before_it_answers() -> None:
    port = free()
    plan = await make_plan([], True, HERE, port, [], troubled=[f"{HERE}:{port}"])
    assert plan.start_worker is worker_process.installed()
    if worker_process.installed():
        assert [engine.url for engine in plan.engines] == [f"http://{HERE}:{port}"]


def _models(name: str) -> Answer:
    return Answer(body=json.dumps({"object": "list", "data": [{"id": name}]}).encode())


def _row(port: int, model: str = "m") -> EngineRow:
    return EngineRow(f"127.0.0.1:{port}", f"http://127.0.0.1:{port}", "vLLM", model)


async def test_an_engine_of_an_earlier_run_that_is_silent_is_expected() -> None:
    port = free()
    plan = await make_plan([], True, HERE, free(), [], remembered=[_row(port)])
    (engine,) = plan.engines
    assert (engine.target, engine.origin) == (f"{HERE}:{port}", Origin.REMEMBERED)
    assert engine.kind == "vLLM seen before"
    assert engine.access.expected
    assert plan.silent == (engine.target,)
    assert not plan.start_worker


async def test_an_engine_of_an_earlier_run_on_an_unusual_port_is_asked_there() -> None:
    async with WebhookSink(usual=VLLM) as sink:
        plan = await make_plan([], True, HERE, free(), [free()], remembered=[_row(sink.port)])
    assert [engine.kind for engine in plan.engines] == ["vLLM"]
    assert (plan.silent, plan.moved) == ((), ())


async def test_the_same_model_on_another_port_has_moved_and_another_model_has_not() -> None:
    old, gone = free(), free()
    async with WebhookSink(usual=_models("m")) as sink:
        rows = [_row(old), _row(gone, "n"), _row(free(), "")]
        plan = await make_plan([], True, HERE, free(), [sink.port], remembered=rows)
    assert [(was, engine.url) for was, engine in plan.moved] == [
        (f"{HERE}:{old}", f"http://127.0.0.1:{sink.port}")
    ]
    assert f"{HERE}:{old}" not in plan.silent and f"{HERE}:{gone}" in plan.silent
    assert len(plan.engines) == 3


async def test_a_remembered_twin_that_answers_is_not_where_the_silent_one_went() -> None:
    async with WebhookSink(usual=_models("m")) as sink:
        rows = [_row(free()), _row(sink.port)]
        plan = await make_plan([], True, HERE, free(), [], remembered=rows)
    assert plan.moved == () and len(plan.silent) == 1


async def test_engines_that_are_named_are_all_there_are() -> None:
    plan = await make_plan(
        [NAMED], True, HERE, free(), [], troubled=["127.0.0.1:30000"], remembered=[_row(30001)]
    )
    assert [engine.url for engine in plan.engines] == ["http://h:1"]
    assert plan.silent == ()


async def test_what_hangs_where_it_was_has_not_moved() -> None:
    with taken() as held:
        async with WebhookSink(usual=_models("m")) as sink:
            plan = await make_plan([], True, HERE, free(), [sink.port], remembered=[_row(held)])
    assert plan.moved == () and plan.silent == (f"{HERE}:{held}",)


async def test_an_engine_is_followed_to_a_port_that_is_not_usual() -> None:
    old = free()
    with EngineProcess(free(), "vllm serve qwen") as engine:
        plan = await make_plan([], True, HERE, free(), [free()], remembered=[_row(old, "qwen")])
    assert [(was, new.url) for was, new in plan.moved] == [(f"{HERE}:{old}", engine.url)]
    assert [one.url for one in plan.engines] == [engine.url]
    assert plan.silent == ()


async def test_an_engine_is_watched_once_by_the_name_that_people_were_told() -> None:
    async with WebhookSink(usual=VLLM) as sink:
        told = f"localhost:{sink.port}"
        plan = await make_plan([], True, HERE, free(), [sink.port], troubled={told})
        row = EngineRow(told, f"http://{told}", "vLLM", "", 0)
        again = await make_plan([], True, HERE, free(), [sink.port], remembered=[row])
    assert [engine.target for engine in plan.engines] == [told]
    assert [engine.target for engine in again.engines] == [told]
    assert (plan.silent, again.silent) == ((), ())


async def test_an_engine_of_another_user_is_named_and_not_read() -> None:
    """Neither one on a usual port, nor one that has taken the port of an engine that was ours."""
    async with WebhookSink(usual=VLLM) as sink:
        row, nobody = _row(sink.port), frozenset[int]()
        plan = await make_plan([], False, HERE, free(), [sink.port], owners=nobody)
        lost = await make_plan([], False, HERE, free(), [], remembered=[row], owners=nobody)
        assert sink.requests == []
        ours = await make_plan(
            [], False, HERE, free(), [sink.port], owners=frozenset({os.geteuid()})
        )
    assert plan.engines == () and [one.url for one in plan.untrusted] == [row.url]
    assert plan.untrusted[0].user == ports.user_name(os.geteuid())
    assert [one.origin for one in lost.engines] == [Origin.REMEMBERED]
    assert lost.silent == (row.target,) and lost.engines[0].access.owners == nobody
    assert [one.url for one in lost.untrusted] == [row.url]  # the banner says whose it is
    assert [one.url for one in ours.engines] == [row.url] and ours.untrusted == ()


async def test_an_engine_that_is_named_is_anybodys() -> None:
    plan = await make_plan([NAMED], False, HERE, free(), [], owners=frozenset())
    assert plan.engines[0].access.owners is None
