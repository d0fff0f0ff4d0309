from support.site import recorded_site, table
from tocsin_exporter.collectors.uname import uname


async def test_the_names_of_the_machine() -> None:
    (((name, labels), value),) = table(await uname(recorded_site()).collect()).items()
    assert (name, value) == ("node_uname_info", 1)
    assert dict(labels) == {
        "sysname": "Linux",
        "release": "6.1.0-18-amd64",
        "version": "#1 SMP",
        "nodename": "gpu-7",
        "domainname": "(none)",
        "machine": "x86_64",
    }
