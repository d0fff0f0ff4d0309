"""What the stages behind the exporter say of themselves: store, rules, incidents, messages."""

from tocsin_exporter.catalogue.table import Table, counter, gauge

_STORE = (
    gauge("tocsin_store_series", "Series that the store holds."),
    gauge("tocsin_store_series_loose", "Of these, series that are off their source's time axis."),
    gauge("tocsin_store_samples", "Samples that the store holds."),
    gauge("tocsin_store_bytes", "Memory of the store's columns.", "bytes"),
    counter("tocsin_store_samples_refused_total",
            "Samples refused: duplicate, out_of_order and the like.", "", "reason"),
    gauge("tocsin_store_series_max",
          "Series with which remote writers may bring no more; a long one counts as several."),
    gauge("tocsin_store_remote_sources", "Sources of remote writers that have a place."),
    gauge("tocsin_store_remote_sources_max", "How many may have one."),
    counter("tocsin_store_remote_sources_evicted_total",
            "Sources of remote writers that made room because they were silent for an hour."),
    counter("tocsin_store_series_refused_total",
            "Series refused, by limit: per_source, per_sender, over_series, over_sources.",
            "", "reason"),
    gauge("tocsin_store_disk_up", "Whether samples are written to disk: 0 while it takes none."),
    gauge("tocsin_store_disk_bytes", "Size of the store's segments.", "bytes"),
    gauge("tocsin_store_segments", "Segments of the store on disk."),
    counter("tocsin_store_disk_failures_total", "Writes of the store that the disk refused."),
    counter("tocsin_store_disk_lost_total",
            "Columns that waited too long for the disk; memory has them."),
    counter("tocsin_store_disk_broken_total", "Segments and logs that were found damaged."),
)  # fmt: skip

_REMOTE_WRITE = (
    counter("tocsin_remote_write_requests_total", "Requests to /api/v1/write.", "", "code"),
    counter("tocsin_remote_write_samples_total", "Samples taken over remote write."),
    counter("tocsin_remote_write_samples_refused_total",
            "Samples refused over remote write: invalid_labels, out_of_order and the like.",
            "", "reason"),
)  # fmt: skip

_GROUP = ("rule_group",)
_RULES = (
    counter("tocsin_rule_evaluations_total", "Evaluations of rules.", "", *_GROUP),
    counter("tocsin_rule_evaluation_failures_total", "Evaluations of rules that failed.",
            "", *_GROUP),
    gauge("tocsin_rule_group_rules_failing", "Rules of a group whose last evaluation failed.",
          "", *_GROUP),
    counter("tocsin_rule_group_iterations_missed_total",
            "Slots of a group that passed without an evaluation.", "", *_GROUP),
    gauge("tocsin_rule_group_interval_seconds", "Interval of a group.", "seconds", *_GROUP),
    gauge("tocsin_rule_group_last_duration_seconds", "Duration of a group's last evaluation.",
          "seconds", *_GROUP),
    gauge("tocsin_rule_group_last_evaluation_timestamp_seconds",
          "When a group was last evaluated, in seconds since 1970.", "seconds", *_GROUP),
    gauge("tocsin_alerts", "Alerts that are pending or firing.",
          "", "alertname", "severity", "state"),
)  # fmt: skip

_INCIDENTS = (
    gauge("tocsin_incidents", "Incidents that are not closed.", "", "severity", "state"),
    gauge("tocsin_journal_up", "Whether incidents are being recorded."),
    counter("tocsin_journal_late_total",
            "Steps that went on before the journal had them, for its disk is slow."),
    gauge("tocsin_set_aside_timestamp_seconds",
          "When a damaged file of ours was set aside last, in seconds since 1970.",
          "seconds", "file"),
    gauge("tocsin_timer_overdue_seconds", "How late the oldest timer of an incident is.",
          "seconds"),
    gauge("tocsin_notifications_queue_length", "Messages that wait to be sent."),
    counter("tocsin_notifications_sent_total", "Messages delivered.", "", "receiver"),
    counter("tocsin_notifications_errors_total", "Attempts to send that failed.",
            "", "receiver"),
)  # fmt: skip

_WORKER = (
    gauge("tocsin_worker_supervised", "Whether the agent keeps a demo worker running."),
    gauge("tocsin_worker_up", "Whether our own worker's process runs."),
    counter("tocsin_worker_restarts_total", "Restarts of our own worker."),
    counter("tocsin_load_requests_total", "Requests of the load generator, by outcome.",
            "", "outcome"),
)  # fmt: skip

STAGES = Table((*_STORE, *_REMOTE_WRITE, *_RULES, *_INCIDENTS, *_WORKER))
