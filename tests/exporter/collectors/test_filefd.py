from support.site import only, recorded_site, table
from tocsin_exporter.collectors.filefd import filefd


async def test_allocated_and_maximum() -> None:
    rows = table(await filefd(recorded_site()).collect())
    assert only(rows, "node_filefd_allocated") == 592
    assert only(rows, "node_filefd_maximum") == 2466193
