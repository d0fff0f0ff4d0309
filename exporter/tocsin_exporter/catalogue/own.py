"""What the agent says of itself: `tocsin_*` of this package, and `process_*`."""

from tocsin_exporter.catalogue.table import Table, counter, gauge, histogram
from tocsin_exporter.connections import HELP

SCRAPE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

_COLLECTOR = ("collector", "target")
_COLLECTORS = (
    gauge("tocsin_collector_duration_seconds", "Time that the last reading of a collector took.",
          "seconds", *_COLLECTOR),
    gauge("tocsin_collector_success",
          "Whether the last reading of a collector succeeded; so it has where a target of "
          "scrape_configs is down, whose up is 0.", "", *_COLLECTOR),
    gauge("tocsin_collector_age_seconds",
          "Age of the readings of a collector that are on this page.", "seconds", *_COLLECTOR),
    gauge("tocsin_collector_last_success_timestamp_seconds",
          "When a collector last succeeded, in seconds since 1970.", "seconds", *_COLLECTOR),
    counter("tocsin_collector_timeouts_total", "Readings of a collector that missed its deadline.",
            "", *_COLLECTOR),
    counter("tocsin_collector_errors_total", "Readings of a collector that failed, by error.",
            "", *_COLLECTOR, "error_type"),
    counter("tocsin_collector_lines_skipped_total",
            "Lines that a collector left out, by reason (blank, malformed).",
            "", *_COLLECTOR, "reason"),
    counter("tocsin_series_dropped_total",
            "Series that were left out, or summed as `_other`, as a label had too many values; by "
            "family.", "", *_COLLECTOR, "family"),
    gauge("tocsin_filesystem_mounts",
          "Mounts by the result of the last reading: read, error, hung, missed (no time for them).",
          "", "state"),
)  # fmt: skip

_PAGE = (
    counter("tocsin_scrapes_total", "Answered scrapes of the metrics page.",
            "", "format", "code"),
    histogram("tocsin_scrape_duration_seconds", "Time from a scrape's request to its answer.",
              "seconds"),
    gauge("tocsin_scrapes_in_flight", "Scrapes that are being answered now."),
    gauge("tocsin_exposition_bytes", "Size of the last metrics page before compression.",
          "bytes"),
    gauge("tocsin_exposition_series", "Series on the last metrics page, by job.", "", "job"),
    counter("tocsin_exposition_duplicates_total",
            "Series refused as duplicates: their name and labels are on the page already."),
)  # fmt: skip

_CONNECTIONS = (
    *(gauge(name, text) for name, text in HELP.items() if not name.endswith("_total")),
    *(counter(name, text, "", "code" if "requests" in name else "reason")
      for name, text in HELP.items() if name.endswith("_total")),
)  # fmt: skip

_LOOP = (
    gauge("tocsin_build_info", "The version that runs; always 1.",
          "", "version", "python_version"),
    gauge("tocsin_loop_lag_seconds",
          "Longest time in the last 15 s that a request to the agent itself waited for its answer,"
          " refusals included.", "seconds"),
    counter("tocsin_loop_blocked_total",
            "Times that the event loop was blocked for a second; the log shows where."),
    counter("tocsin_sampling_rounds_total", "Finished sampling rounds, by source.",
            "", "job", "target"),
    counter("tocsin_sampling_rounds_missed_total",
            "Sampling rounds skipped because the previous one had not finished.",
            "", "job", "target"),
    gauge("tocsin_scrape_pages_waiting",
          "Pages of scrape_configs that have come and wait to be read.", ""),
    counter("tocsin_scrape_page_seconds_total",
            "Time of the event loop that pages of scrape_configs took: a rate of 1 is all of it.",
            "seconds"),
    counter("tocsin_clock_steps_total",
            "Times that the wall clock was stepped and the rounds were rescheduled."),
    gauge("tocsin_clock_last_step_seconds",
          "By how much the wall clock was stepped the last time; negative: back. 0: it was not.",
          "seconds"),
    counter("tocsin_log_lines_dropped_total",
            "Log lines dropped: full, nobody read them; failed, the write failed.",
            "", "reason"),
)  # fmt: skip

_PROCESS = (
    counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.",
            "seconds"),
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.", "bytes"),
    gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", "bytes"),
    gauge("process_virtual_memory_max_bytes",
          "Maximum amount of virtual memory available in bytes.", "bytes"),
    gauge("process_open_fds", "Number of open file descriptors."),
    gauge("process_max_fds", "Maximum number of open file descriptors."),
    gauge("process_start_time_seconds",
          "Start time of the process since unix epoch in seconds.", "seconds"),
)  # fmt: skip

_PROXY = (
    counter("tocsin_proxy_requests_total",
            "Requests to the proxy, of any path, by the name of the client's key and HTTP status "
            "(499: the client left before).",
            "", "target", "client", "code"),
    counter("tocsin_proxy_client_tokens_total",
            "Tokens of answers by the name of the client's key and type: input, output.",
            "", "target", "client", "type"),
    counter("tocsin_proxy_engine_connects_total",
            "Connections that the proxy opened to the engine.", "", "target"),
    gauge("tocsin_proxy_engine_connections", "Open connections of the proxy to the engine.",
          "", "target"),
    counter("tocsin_proxy_access_log_lost_total",
            "Lines that the access log lacks, because the disk was slow or full.", "", "target"),
)  # fmt: skip

OWN = Table((*_COLLECTORS, *_PAGE, *_CONNECTIONS, *_LOOP, *_PROCESS, *_PROXY))
