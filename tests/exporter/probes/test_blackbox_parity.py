"""The real blackbox_exporter and ours, asked the same of the same servers with the same modules."""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support.blackbox import Page, asked, page_of, running_blackbox, types_of
from support.probed import Probed, probed_servers
from tocsin_alerting.config.probe_modules import load_modules
from tocsin_exporter.exposition import render
from tocsin_exporter.probe_endpoint import snapshot_of
from tocsin_exporter.probes.loop import ProbeLoop
from tocsin_exporter.probes.modules import ProbeModule

# Debian's 0.23 does not have them yet: they came with 0.26 and 0.28.
_NEWER = {"probe_timeout_seconds", "probe_tls_cipher_info"}
_NEWER_LABELS = {"serialnumber"}
_TIMES = ("probe_duration_seconds", "probe_dns_lookup_time_seconds")

MODULES = Path(__file__).with_name("blackbox.yml")

_BOTH = {
    "http2",
    "http2_well",
    "dot",
    "grpc",
    "grpc_tls",
    "starttls",
    "banner",
    "tls",
    "ca",
    "named",
}
_BOTH |= {
    "gzip",
    "deflate",
    "br",
    "login",
    "host",
    "a",
    "a_tcp",
    "soa",
    "rr_format",
    "rr_all",
    "post",
}


def _cases(at: Probed) -> list[tuple[str, str]]:
    """Pairs of target and module."""
    http, https = f"http://127.0.0.1:{at.http}", f"https://127.0.0.1:{at.https}"
    pages = (
        ("get", "ok chunked until-close created empty missing broken moved moved-303 nowhere"),
        ("get", "to-ftp old garbage cut cookie redirects/3 redirects/10 redirects/11 gzip method"),
        ("post", "method moved moved-303 moved-308"),
        ("head", "ok moved"),
        ("stay", "moved ok"),
        ("stay_moved", "moved"),
        ("stay_match", "moved moved-words"),
        ("only404", "missing ok"),
        ("not_well", "ok chunked"),
        ("well", "ok missing"),
        ("unwell", "ok"),
        ("header_bad", "ok twice missing"),
        ("header_good", "ok twice chunked"),
        ("header_may", "ok"),
        ("header_must", "ok"),
        ("gzip", "gzip ok"),
        ("deflate", "deflate ok"),
        ("br", "br"),
        ("gzip_well", "gzip"),
        ("small", "ok chunked"),
        ("small_match", "ok"),
        ("large", "ok"),
        ("login", "secret"),
        ("login_bad", "secret"),
        ("host", "host"),
        ("must_tls", "ok"),
        ("http1", "ok old"),
        ("short", "hang"),
        ("only6", "ok"),
    )
    cases = [(f"{http}/{path}", module) for module, paths in pages for path in paths.split()]
    cases += [(f"{https}/ok", m) for m in ("get", "ca", "skip", "named", "no_tls", "must_tls")]
    cases += [(f"{https}/moved", "ca"), (f"{https}/ok", "http2")]
    cases += [(f"https://127.0.0.1:{at.http2}/{path}", "http2") for path in ("ok", "missing")]
    cases += [(f"https://127.0.0.1:{at.http2}/ok", m) for m in ("http2_well", "get")]
    tls = (at.expired, at.wrong_host, at.stranger)
    cases += [(f"https://127.0.0.1:{port}/ok", m) for port in tls for m in ("ca", "skip")]
    cases += [
        (f"https://127.0.0.1:{at.wrong_host}/ok", "named"),
        (f"127.0.0.1:{at.http}/ok", "get"),
    ]
    cases += [(f"localhost:{at.http}/ok", "get4"), ("http://127.0.0.1:1/", "get")]
    cases += [(f"https://localhost:{at.cn_only}/ok", m) for m in ("ca", "skip")]
    cases += [("http://no-such-host.invalid/", "get"), (f"https://127.0.0.1:{at.http}/ok", "ca")]
    cases += [(f"127.0.0.1:{at.lines}", m) for m in ("tcp", "banner", "no_banner", "silent")]
    cases += [("127.0.0.1:1", "tcp"), ("127.0.0.1", "tcp"), (f"127.0.0.1:{at.lines}", "tls_skip")]
    cases += [(f"127.0.0.1:{at.tls_lines}", m) for m in ("tls", "tls_skip", "tls_system")]
    cases += [(f"127.0.0.1:{at.starttls}", m) for m in ("starttls", "starttls_bad")]
    dns = "a a_tcp soa any unknown unknown_ok dns_refused dns_hang dns_garbage rr_match rr_format"
    dns += " rr_not rr_none rr_all rr_all_but rr_authority rr_additional rr_txt rr_empty"
    cases += [(f"127.0.0.1:{at.dns}", module) for module in dns.split()]
    cases += [
        ("127.0.0.1:1", "a_tcp"),
        (f"127.0.0.1:{at.dot}", "dot"),
        (f"127.0.0.1:{at.dns}", "dot"),
    ]
    cases += [(f"127.0.0.1:{at.grpc}", m) for m in ("grpc", "grpc_bad", "grpc_none")]
    cases += [(f"127.0.0.1:{at.grpc_tls}", "grpc_tls"), ("127.0.0.1:1", "grpc")]
    return [*cases, ("127.0.0.1", "icmp4"), ("127.0.0.1", "icmp")]


def _comparable(page: Page) -> Page:
    """Without what is newer than Debian's, and with measured times as whether they are any."""
    found: Page = {}
    for (name, labels), value in page.items():
        if name in _NEWER:
            continue
        if (name, value) == ("probe_ssl_earliest_cert_expiry", 0):
            continue  # without TLS, as gRPC had it before 0.26
        kept = tuple((k, v) for k, v in labels if v and k not in _NEWER_LABELS)
        measured = name in _TIMES or name.endswith("_duration_seconds")
        found[name, kept] = 0.0 if measured else value
    return found


def _difference(ours: Page, theirs: Page) -> str:
    keys = sorted({*ours, *theirs})
    return "".join(
        f"\n    {key}: ours {ours.get(key)}, theirs {theirs.get(key)}"
        for key in keys
        if ours.get(key) != theirs.get(key)
    )


@dataclass
class _Peers:
    """Both of them, asked the same: `different` is where they do not agree."""

    modules: Mapping[str, ProbeModule]
    loop: ProbeLoop
    blackbox: str
    different: list[str] = field(default_factory=list)
    succeeded: set[str] = field(default_factory=set)
    failed: int = 0
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))

    async def ask(self, target: str, name: str) -> None:
        async with self.free:
            result, theirs = await asyncio.gather(
                self.loop.probe(target, self.modules[name], self.modules[name].timeout),
                asyncio.to_thread(asked, self.blackbox, target, name),
            )
        self.succeeded |= {name} if result.success else set()
        self.failed += not result.success
        text = render([snapshot_of(result)], "text").body.decode()
        wrong = _difference(_comparable(page_of(text)), _comparable(page_of(theirs)))
        types = types_of(theirs)
        other = {n for n, kind in types_of(text).items() if types.get(n, kind) != kind}
        if wrong or other:
            self.different.append(f"{name} of {target}: {result.lines[-1]}{wrong} {other or ''}")


async def test_probes_answer_alike(tmp_path: Path) -> None:
    async with probed_servers(tmp_path) as servers:
        file = tmp_path / "blackbox.yml"
        file.write_text(re.sub(r"\bCA\b", str(servers.ca_file), MODULES.read_text()))
        with running_blackbox(file) as blackbox:
            peers = _Peers(load_modules(file), ProbeLoop(time.monotonic), blackbox)
            await asyncio.gather(*(peers.ask(*case) for case in _cases(servers)))
        peers.loop.close(wait=5)
    assert not peers.different, "\n".join(peers.different)
    assert peers.failed > 50 and peers.succeeded >= _BOTH  # or they would be alike in failing
