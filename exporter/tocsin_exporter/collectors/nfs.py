"""NFS: calls of the client and of the server, /proc/net/rpc/nfs and nfsd."""

from collections.abc import Callable, Iterator, Sequence

from tocsin_exporter.catalogue import NFS
from tocsin_exporter.collectors.attributes import AttributeCollector
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import count, text
from tocsin_exporter.snapshot import Sample, labels

# Procedures in the order of the kernel, by node_exporter's names.
_VERSION_2 = (
    "Null GetAttr SetAttr Root Lookup ReadLink Read WrCache Write Create Remove Rename Link "
    "SymLink MkDir RmDir ReadDir FsStat"
).split()
_VERSION_3 = (
    "Null GetAttr SetAttr Lookup Access ReadLink Read Write Create MkDir SymLink MkNod Remove "
    "RmDir Rename Link ReadDir ReadDirPlus FsStat FsInfo PathConf Commit"
).split()
_CLIENT_4 = (
    "Null Read Write Commit Open OpenConfirm OpenNoattr OpenDowngrade Close Setattr FsInfo Renew "
    "SetClientID SetClientIDConfirm Lock Lockt Locku Access Getattr Lookup LookupRoot Remove "
    "Rename Link Symlink Create Pathconf StatFs ReadLink ReadDir ServerCaps DelegReturn GetACL "
    "SetACL FsLocations ReleaseLockowner Secinfo FsidPresent ExchangeID CreateSession "
    "DestroySession Sequence GetLeaseTime ReclaimComplete LayoutGet GetDeviceInfo LayoutCommit "
    "LayoutReturn SecinfoNoName TestStateID FreeStateID GetDeviceList BindConnToSession "
    "DestroyClientID Seek Allocate DeAllocate LayoutStats Clone"
).split()
_SERVER_4 = (
    "- - - Access Close Commit Create DelegPurge DelegReturn GetAttr GetFH Link Lock Lockt Locku "
    "Lookup LookupRoot Nverify Open OpenAttr OpenConfirm OpenDgrd PutFH - - Read ReadDir ReadLink "
    "Remove Rename Renew RestoreFH SaveFH SecInfo SetAttr Verify Write RelLockOwner"
).split()
_NOT_SHOWN = "-"

Words = Sequence[str]
Parser = Callable[[Words], Iterator[Sample]]


def nfs(host: Host) -> AttributeCollector:
    return _rpc("nfs", host, _OF_CLIENT)


def nfsd(host: Host) -> AttributeCollector:
    return _rpc("nfsd", host, _OF_SERVER)


def _rpc(name: str, host: Host, parsers: dict[str, Parser]) -> AttributeCollector:
    path = host.proc / "net/rpc" / name

    def parse(line: str) -> Iterator[Sample]:
        key, *words = line.split()
        if key in parsers:
            yield from parsers[key](words)

    return AttributeCollector(name, path, lambda lines: lines.parse(text(path), parse))


def _procedures(of: str, protocol: str, names: Sequence[str], words: Words) -> Iterator[Sample]:
    """How many there are stands first; an older kernel has fewer than we have names."""
    family = NFS[f"node_{of}_requests_total"]
    counts = words[1:]
    if len(counts) != count(words[0]):
        raise ValueError("not as many procedures as the line says")
    for place, name in enumerate(names):
        if name != _NOT_SHOWN:
            value = count(counts[place]) if place < len(counts) else 0.0
            yield Sample(family, value, labels(proto=protocol, method=name))


def _net(of: str, label: str, words: Words) -> Iterator[Sample]:
    _all, udp, tcp, connections = words[:4]
    for protocol, value in (("udp", udp), ("tcp", tcp)):
        yield Sample(NFS[f"node_{of}_packets_total"], count(value), ((label, protocol),))
    yield Sample(NFS[f"node_{of}_connections_total"], count(connections))


def _plain(words: Words, *names: str) -> Iterator[Sample]:
    """The first words are those metrics of their own."""
    for name, value in zip(names, words, strict=False):
        if name != _NOT_SHOWN:
            yield Sample(NFS[f"node_{name}"], count(value))


def _client_rpc(words: Words) -> Iterator[Sample]:
    yield from _plain(
        words,
        *("nfs_rpcs_total", "nfs_rpc_retransmissions_total"),
        "nfs_rpc_authentication_refreshes_total",
    )


def _server_rpc(words: Words) -> Iterator[Sample]:
    yield from _plain(words, "nfsd_server_rpcs_total")
    for kind, value in zip(("fmt", "auth", "cInt"), words[2:5], strict=True):
        yield Sample(NFS["node_nfsd_rpc_errors_total"], count(value), labels(error=kind))


def _reply_cache(words: Words) -> Iterator[Sample]:
    yield from _plain(
        words,
        *("nfsd_reply_cache_hits_total", "nfsd_reply_cache_misses_total"),
        "nfsd_reply_cache_nocache_total",
    )


def _read_ahead(words: Words) -> Iterator[Sample]:
    """Its size, ten depths at which something was found, and what was not."""
    yield from _plain(words, "nfsd_read_ahead_cache_size_blocks")
    yield from _plain(words[11:], "nfsd_read_ahead_cache_not_found_total")


_OF_CLIENT: dict[str, Parser] = {
    "net": lambda words: _net("nfs", "protocol", words),
    "rpc": _client_rpc,
    "proc2": lambda words: _procedures("nfs", "2", _VERSION_2, words),
    "proc3": lambda words: _procedures("nfs", "3", _VERSION_3, words),
    "proc4": lambda words: _procedures("nfs", "4", _CLIENT_4, words),
}
_OF_SERVER: dict[str, Parser] = {
    "rc": _reply_cache,
    "fh": lambda words: _plain(words, "nfsd_file_handles_stale_total"),
    "io": lambda words: _plain(
        words, "nfsd_disk_bytes_read_total", "nfsd_disk_bytes_written_total"
    ),
    "th": lambda words: _plain(words, "nfsd_server_threads"),
    "ra": _read_ahead,
    "net": lambda words: _net("nfsd", "proto", words),
    "rpc": _server_rpc,
    "proc2": lambda words: _procedures("nfsd", "2", [_NOT_SHOWN, *_VERSION_2[1:]], words),
    "proc3": lambda words: _procedures("nfsd", "3", [_NOT_SHOWN, *_VERSION_3[1:]], words),
    "proc4ops": lambda words: _procedures("nfsd", "4", _SERVER_4, words),
}
