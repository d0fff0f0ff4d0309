"""Somebody tries ten thousand tokens while another, at the same address, has the right one."""

import asyncio
import statistics
import time
from collections import Counter
from pathlib import Path

from support.agent_process import AgentProcess
from tocsin_alerting.api.http.tokens import TokenFile

CONFIG = """
collect: {gpu: 0s, processes: 0s}
engines: [{url: "http://127.0.0.1:9"}]
rule_files: []
receivers: {desk: {type: log}}
"""
WRONG, SENDERS = 10_000, 20
MEDIAN_S = 0.1


def asked(token: str) -> bytes:
    head = "GET /api/v1/incidents HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    return f"{head}Authorization: Bearer {token}\r\n\r\n".encode()


async def answer(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
    return int(head.split()[1])


async def wrong(port: int, sender: int, seen: Counter[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(WRONG // SENDERS):
        writer.write(asked(f"tocsin_wrong-{sender}-{number}"))
        seen[await answer(reader)] += 1
    writer.close()


async def right(port: int, token: str, storm: "asyncio.Future[list[None]]") -> list[float]:
    """How long each of its requests took, as long as the storm lasts."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    waits = []
    while not storm.done():
        began = time.perf_counter()
        writer.write(asked(token))
        assert await answer(reader) == 200
        waits.append(time.perf_counter() - began)
    writer.close()
    return waits


async def test_ten_thousand_wrong_tokens_beside_a_right_one(tmp_path: Path) -> None:
    (tmp_path / "tocsin.yml").write_text(CONFIG)
    (tmp_path / "data").mkdir(mode=0o700)
    token = TokenFile(tmp_path / "data" / "tokens.json").add("li", "respond", "")
    agent = AgentProcess(tmp_path, "--config.file=tocsin.yml", "--no-worker")
    await asyncio.to_thread(agent.start)
    seen: Counter[int] = Counter()
    try:
        storm = asyncio.gather(*(wrong(agent.port, sender, seen) for sender in range(SENDERS)))
        waits = await right(agent.port, token, storm)
        await storm
    finally:
        agent.kill()
    assert set(seen) == {401, 429} and seen.total() == WRONG
    assert seen[401] >= 20 and seen[429] > WRONG * 0.9
    assert statistics.median(waits) < MEDIAN_S
    said = agent.said()
    assert "wrong token refused" in said
    assert "tocsin_wrong" not in said and token not in said
    assert said.count("wrong token refused") < 100
