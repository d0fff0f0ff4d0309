"""Runs one probe: in its time, with whatever it finds, and never an exception."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpcore2

from tocsin_exporter.http import error_text, own_shortage
from tocsin_exporter.probes.addresses import Resolver
from tocsin_exporter.probes.dns import probe_dns
from tocsin_exporter.probes.findings import Findings, ProbeFailed
from tocsin_exporter.probes.grpc import probe_grpc
from tocsin_exporter.probes.http import probe_http
from tocsin_exporter.probes.icmp import probe_icmp
from tocsin_exporter.probes.modules import (
    DnsProbe,
    GrpcProbe,
    HttpProbe,
    IcmpProbe,
    ProbeModule,
    TcpProbe,
)
from tocsin_exporter.probes.tcp import probe_tcp
from tocsin_exporter.snapshot import Sample

Prober: TypeAlias = Callable[[str, Any, Resolver, Findings], Awaitable[None]]

_EXPECTED = (ProbeFailed, OSError, httpcore2.NetworkError, httpcore2.ProtocolError)

PROBERS: dict[type[Any], Prober] = {
    HttpProbe: probe_http,
    TcpProbe: probe_tcp,
    DnsProbe: probe_dns,
    IcmpProbe: probe_icmp,
    GrpcProbe: probe_grpc,
}


class NotProbed(Exception):
    """We ourselves lacked something: it tells nothing of the target."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`why` it failed, "" where it has not; `lines` are the log of the probe."""

    success: bool
    samples: list[Sample]
    lines: list[str]
    why: str = ""


async def run_probe(
    target: str,
    module: ProbeModule,
    seconds: float,
    resolver: Resolver,
    monotonic: Callable[[], float],
) -> ProbeResult:
    """Probe `target`; after `seconds` it has failed with what was found until then. Raises
    NotProbed."""
    found = Findings(monotonic)
    found.log(f"beginning probe of {target} with {module.name}, within {seconds:g} s")
    started = monotonic()
    why = await _failure(target, module, seconds, resolver, found)
    took = monotonic() - started
    found.log(f"probe failed after {took:.3f} s: {why}" if why else f"succeeded in {took:.3f} s")
    found.set("probe_success", not why)
    found.set("probe_duration_seconds", took)
    found.set("probe_timeout_seconds", seconds)
    return ProbeResult(not why, found.samples(), found.lines, why)


async def _failure(
    target: str, module: ProbeModule, seconds: float, resolver: Resolver, found: Findings
) -> str:
    try:
        async with asyncio.timeout(seconds):
            await PROBERS[type(module.probe)](target, module.probe, resolver, found)
    except TimeoutError:
        return f"no result within {seconds:g} s"
    except Exception as error:  # why: whatever an answer brings about costs this probe alone
        if lack := own_shortage(error):
            raise NotProbed(lack) from error
        return error_text(error) if isinstance(error, _EXPECTED) else _unexpected(error)
    return ""


def _unexpected(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
