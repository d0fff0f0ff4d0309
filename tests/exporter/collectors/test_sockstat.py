from support.site import only, recorded_site, table
from tocsin_exporter.collectors.sockstat import parse, sockstat


async def test_both_families_of_addresses() -> None:
    rows = table(await sockstat(recorded_site()).collect())
    assert only(rows, "node_sockstat_sockets_used") == 17
    assert only(rows, "node_sockstat_TCP_alloc") == 1
    assert only(rows, "node_sockstat_TCP6_inuse") == 3
    assert only(rows, "node_sockstat_FRAG_memory") == 0


def test_memory_is_counted_in_pages() -> None:
    rows = table(parse(4096, "TCP: inuse 1 mem 44"))
    assert only(rows, "node_sockstat_TCP_mem") == 44
    assert only(rows, "node_sockstat_TCP_mem_bytes") == 44 * 4096
