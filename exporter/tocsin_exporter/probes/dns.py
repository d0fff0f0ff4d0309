"""DNS: one query to the target, and what its answer must and must not hold."""

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

from tocsin_exporter.lookup import Address
from tocsin_exporter.probes.addresses import Resolver, choose, connected, source_address, split_port
from tocsin_exporter.probes.findings import Findings, ProbeFailed
from tocsin_exporter.probes.modules import DnsProbe, RecordChecks
from tocsin_exporter.probes.tls_facts import client_context

if TYPE_CHECKING:
    from dns.message import Message

_DURATION = "probe_dns_duration_seconds"
_PORTS = {False: 53, True: 853}
_MOST_BYTES = 65535


async def probe_dns(target: str, probe: DnsProbe, resolver: Resolver, found: Findings) -> None:
    """Raises ProbeFailed, OSError."""
    found.phases(_DURATION, "resolve", "connect", "request")
    found.register(
        *("probe_dns_answer_rrs", "probe_dns_authority_rrs", "probe_dns_additional_rrs"),
        "probe_dns_query_succeeded",
    )
    host, port = _server(target, probe)
    address = await choose(host, probe.family, resolver, found)
    found.add(_DURATION, found.get("probe_dns_lookup_time_seconds"), "resolve")
    query = _query(probe)
    wire = await _ask(address, host, port, query.to_wire(), probe, found)
    answer, extra = _read(wire, query)
    _record(answer, extra, probe, found)
    _check(answer, extra, probe)


def _server(target: str, probe: DnsProbe) -> tuple[str, int]:
    """A target without a port has the usual one."""
    try:
        return split_port(target)
    except ProbeFailed:
        return target.strip("[]"), _PORTS[probe.over_tls]


def _query(probe: DnsProbe) -> "Message":
    import dns.flags
    import dns.message

    flags = dns.flags.RD if probe.recursion_desired else 0
    try:
        return dns.message.make_query(
            probe.query_name, probe.query_type, probe.query_class, flags=flags
        )
    except Exception as error:  # why: the library has many for a name, a type, a class
        raise ProbeFailed(f"the query cannot be made: {error}") from None


async def _ask(
    address: Address, host: str, port: int, wire: bytes, probe: DnsProbe, found: Findings
) -> bytes:
    started = found.monotonic()
    if probe.transport == "udp":
        return await _over_udp(address, port, wire, probe.source_ip_address, started, found)
    opened = await connected(address, port, probe.source_ip_address)
    context = client_context(probe.tls, "dns") if probe.over_tls else None
    name = (probe.tls.server_name or host) if context else None
    streams = await asyncio.open_connection(sock=opened, ssl=context, server_hostname=name)
    reader, writer = streams
    asked = _phase("connect", started, found)
    try:
        writer.write(struct.pack("!H", len(wire)) + wire)
        await writer.drain()
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        answer = await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        raise ProbeFailed("the server closed the connection") from None
    finally:
        writer.transport.abort()
    _phase("request", asked, found)
    return answer


async def _over_udp(
    address: Address, port: int, wire: bytes, source: str, started: float, found: Findings
) -> bytes:
    family, at = address
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_DGRAM) as opened:
        opened.setblocking(False)
        if source:
            opened.bind((source_address(source), 0))
        opened.connect((at[0], port, *at[2:]))
        asked = _phase("connect", started, found)
        opened.send(wire)
        while True:
            answer = await loop.sock_recv(opened, _MOST_BYTES)
            if answer[:2] == wire[:2]:
                _phase("request", asked, found)
                return answer
            await asyncio.sleep(0)  # a packet that waits already is read without a pause


def _phase(name: str, since: float, found: Findings) -> float:
    now = found.monotonic()
    found.add(_DURATION, now - since, name)
    return now


def _read(wire: bytes, query: "Message") -> tuple["Message", int]:
    """The answer, and how many records its additional section has."""
    import dns.exception
    import dns.message

    try:
        answer = dns.message.from_wire(wire, one_rr_per_rrset=True, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError, struct.error) as error:
        raise ProbeFailed(f"the answer cannot be read: {error}") from None
    if answer.id != query.id:
        raise ProbeFailed("the answer is to another query")
    return answer, struct.unpack("!H", wire[10:12])[0]


def _record(answer: "Message", extra: int, probe: DnsProbe, found: Findings) -> None:
    import dns.rcode
    import dns.rdatatype

    found.log(f"answered {dns.rcode.to_text(answer.rcode())}")
    found.set("probe_dns_answer_rrs", len(answer.answer))
    found.set("probe_dns_authority_rrs", len(answer.authority))
    found.set("probe_dns_additional_rrs", extra)
    found.set("probe_dns_query_succeeded", 1)
    if probe.query_type == "SOA":
        found.register("probe_dns_serial")
        for record in (one for rrset in answer.answer for one in rrset):
            if record.rdtype == dns.rdatatype.SOA:
                found.set("probe_dns_serial", getattr(record, "serial", 0))


def _check(answer: "Message", extra: int, probe: DnsProbe) -> None:
    """Raises ProbeFailed for an answer that is not as wanted."""
    import dns.rcode

    code = dns.rcode.to_text(answer.rcode())
    if code not in probe.valid_rcodes:
        raise ProbeFailed(f"rcode {code} is none of valid_rcodes")
    sections = (
        ("answer", answer.answer, probe.answer),
        ("authority", answer.authority, probe.authority),
        ("additional", answer.additional, probe.additional),
    )
    for name, section, checks in sections:
        texts = [_text(line) for rrset in section for line in rrset.to_text().split("\n")]
        if why := _wrong(texts, checks):
            raise ProbeFailed(f"{name}: {why}")


def _text(line: str) -> str:
    """As Go's library writes a record: tabs up to its data."""
    return "\t".join(line.split(" ", 4))


def _wrong(texts: list[str], checks: RecordChecks) -> str:
    if not texts and (checks.fail_if_not_matches or checks.fail_if_none_matches):
        return "there is no record to match"
    for text in texts:
        if any(pattern.search(text) for pattern in checks.fail_if_matches):
            return f"a record matches: {text}"
        if not all(pattern.search(text) for pattern in checks.fail_if_not_matches):
            return f"a record does not match: {text}"
    return _wrong_together(texts, checks)


def _wrong_together(texts: list[str], checks: RecordChecks) -> str:
    every, none = checks.fail_if_all_match, checks.fail_if_none_matches
    if every and all(pattern.search(text) for text in texts for pattern in every):
        # blackbox_exporter fails when a record is *not* matched, whatever the key's name says.
        return ""
    if every:
        return "not all records match"
    if none and not any(pattern.search(text) for text in texts for pattern in none):
        return "no record matches"
    return ""
