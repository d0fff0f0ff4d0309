from support.site import recorded_site, table
from tocsin_exporter.collector_settings import CollectorSettings
from tocsin_exporter.collectors.vmstat import vmstat


async def test_the_selected_lines_and_no_others_untyped() -> None:
    samples = await vmstat(recorded_site()).collect()
    assert {name: value for (name, _), value in table(samples).items()} == {
        "node_vmstat_pgpgin": 2192209,
        "node_vmstat_pgpgout": 3747024,
        "node_vmstat_pswpin": 0,
        "node_vmstat_pswpout": 7,
        "node_vmstat_pgfault": 2456586,
        "node_vmstat_pgmajfault": 1414,
        "node_vmstat_oom_kill": 2,
    }
    assert {sample.family.type for sample in samples} == {"untyped"}


async def test_other_fields_are_chosen_by_a_pattern() -> None:
    settings = CollectorSettings({"vmstat.fields": "^nr_free_pages$"})
    rows = table(await vmstat(recorded_site(settings=settings)).collect())
    assert {name for name, _ in rows} == {"node_vmstat_nr_free_pages"}
