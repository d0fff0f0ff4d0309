"""DNS probes where blackbox_exporter is no guide: a hostile server."""

import asyncio
import time
from typing import cast

from tocsin_exporter.probes.addresses import Resolver
from tocsin_exporter.probes.modules import DnsProbe, ProbeModule
from tocsin_exporter.probes.prober import run_probe


class Flooding(asyncio.DatagramProtocol):
    """Answers to other queries first, then to this one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for _ in range(100):
            self.transport.sendto(bytes([data[0] ^ 1]) + data[1:], addr)
        self.transport.sendto(data[:2] + b"\x80" + data[3:], addr)


async def test_answers_to_other_queries_leave_turns_to_others() -> None:
    loop, turns = asyncio.get_running_loop(), 0
    transport, _ = await loop.create_datagram_endpoint(Flooding, ("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    going = asyncio.create_task(other())
    module = ProbeModule("m", DnsProbe("a.test", query_type="A"))
    result = await run_probe(f"127.0.0.1:{port}", module, 5, Resolver(), time.monotonic)
    going.cancel()
    transport.close()
    assert result.success and turns > 50, result.why
