"""What the stages behind the exporter say of themselves: store, rules, incidents, messages."""

from tocsin_exporter.catalogue.table import Table, counter, gauge, histogram

_STORE = (
    gauge("tocsin_store_series", "Series in memory."),
    gauge("tocsin_store_series_loose", "Of these, series that are off their source's time axis."),
    gauge("tocsin_store_samples", "Samples in memory."),
    gauge("tocsin_store_bytes", "Memory of the store's columns.", "bytes"),
    counter("tocsin_store_samples_refused_total",
            "Samples refused: duplicate, out_of_order and the like.", "", "reason"),
    gauge("tocsin_store_series_max",
          "Limit of series from remote writers; a long one counts as several."),
    gauge("tocsin_store_remote_sources", "Sources of remote writers."),
    gauge("tocsin_store_remote_sources_max", "Limit of sources of remote writers."),
    counter("tocsin_store_remote_sources_evicted_total",
            "Sources of remote writers dropped for new ones because they were silent for an hour."),
    counter("tocsin_store_series_refused_total",
            "Series refused, by limit: per_source, per_sender, over_series, over_sources.",
            "", "reason"),
    gauge("tocsin_store_disk_up", "Whether samples are written to disk: 0 while writes fail."),
    gauge("tocsin_store_disk_bytes", "Size of the blocks on disk.", "bytes"),
    gauge("tocsin_store_segments", "Blocks on disk."),
    counter("tocsin_store_disk_failures_total", "Failed writes of the store."),
    counter("tocsin_store_disk_lost_total",
            "Columns that waited too long for the disk; memory has them."),
    counter("tocsin_store_disk_broken_total", "Damaged blocks and WALs found."),
)  # fmt: skip

_REMOTE_WRITE = (
    counter("tocsin_remote_write_requests_total", "Requests to /api/v1/write.", "", "code"),
    counter("tocsin_remote_write_samples_total", "Samples stored from remote write."),
    counter("tocsin_remote_write_samples_refused_total",
            "Samples refused from remote write: invalid_labels, out_of_order and the like.",
            "", "reason"),
    counter("tocsin_otlp_requests_total", "Requests to /api/v1/otlp/v1/metrics.", "", "code"),
    counter("tocsin_otlp_samples_total", "Samples stored from OTLP."),
    counter("tocsin_otlp_samples_refused_total",
            "Samples refused from OTLP: temporality, native_histogram, out_of_order and the like.",
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

_DATASOURCES = (
    gauge("tocsin_datasource_up", "Whether an engine elsewhere answered the last query of a rule.",
          "", "datasource"),
    counter("tocsin_datasource_queries_total",
            "Queries of rules to engines elsewhere: answered, refused, or failed (no answer).",
            "", "datasource", "outcome"),
)  # fmt: skip

_ALERTMANAGERS = (
    counter("tocsin_alertmanager_alerts_sent_total",
            "Alerts that an Alertmanager took, each time that they were sent.", "", "alertmanager"),
    counter("tocsin_alertmanager_alerts_dropped_total",
            "Alerts that an Alertmanager refused, or for which no room was left.",
            "", "alertmanager"),
    counter("tocsin_alertmanager_errors_total", "Requests to an Alertmanager that failed.",
            "", "alertmanager"),
    gauge("tocsin_alertmanager_alerts_waiting", "Alerts that wait to be sent to an Alertmanager.",
          "", "alertmanager"),
)  # fmt: skip

_INCIDENTS = (
    gauge("alertmanager_build_info", "Always 1; the version of Alertmanager whose API the agent"
          " speaks, for karma, which asks for it.", "", "version"),
    gauge("tocsin_external_alerts", "Alerts of other senders: firing, or unknown because they are"
          " no longer sent.", "", "state"),
    counter("tocsin_external_alerts_received_total",
            "Alerts in posts to /api/v2/alerts: firing, resolved, invalid, or refused as too many.",
            "", "status"),
    gauge("tocsin_incidents", "Incidents that are not closed.", "", "severity", "state"),
    gauge("tocsin_incidents_muted", "Open incidents that page nobody, by what mutes them.",
          "", "by"),
    gauge("tocsin_silences", "Silences that are pending or active, or expired lately.",
          "", "state"),
    gauge("tocsin_journal_up", "Whether incidents are recorded: 0 while journal writes fail."),
    counter("tocsin_journal_late_total",
            "Steps that did not wait for the journal because its disk was slow."),
    gauge("tocsin_set_aside_timestamp_seconds",
          "When the agent last set a damaged file aside, in seconds since 1970.",
          "seconds", "file"),
    gauge("tocsin_timer_overdue_seconds", "How late the oldest timer of an incident is.",
          "seconds"),
    gauge("tocsin_notifications_queue_length", "Notifications that wait to be sent."),
    counter("tocsin_notifications_sent_total", "Notifications delivered.", "", "receiver"),
    counter("tocsin_notifications_errors_total", "Failed attempts to send a notification.",
            "", "receiver"),
    counter("tocsin_template_failures_total",
            "Texts that went out as bundled because a template of the directory failed.",
            "", "template"),
)  # fmt: skip

# Counted from the journal: they go on after a restart.
_COUNTED = (
    counter("tocsin_incidents_opened_total", "Incidents opened.", "", "alertname", "severity"),
    counter("tocsin_incidents_reopened_total",
            "Incidents that fired again after they had been resolved.", "", "alertname"),
    counter("tocsin_incidents_resolved_total",
            "Incidents that ended, by how: clear, person, false_positive, rule_removed or"
            " unknown_max (given up); the cause is what a person named.",
            "", "alertname", "severity", "how", "cause"),
    counter("tocsin_incidents_unanswered_total",
            "Incidents that ended by themselves without an acknowledgement.",
            "", "alertname", "severity"),
    histogram("tocsin_incident_ack_seconds",
              "Time from the opening of an incident to its first acknowledgement.",
              "seconds", "severity"),
    histogram("tocsin_incident_duration_seconds",
              "Time from the opening of an incident to its end.", "seconds", "severity"),
    gauge("tocsin_incident_oldest_unanswered_seconds",
          "Age of the oldest incident that nobody has acknowledged, 0 if there is none.",
          "seconds", "severity"),
    counter("tocsin_incident_recover_breaches_total",
            "Incidents that were not over within the recovery time of their policy.",
            "", "severity"),
    counter("tocsin_incident_escalations_total",
            "Steps after the first one of a policy, by time or by a person.", "", "severity"),
    gauge("tocsin_incidents_unknown",
          "Open incidents of which nobody can tell whether they still fire."),
    counter("tocsin_pages_total", "Messages delivered that ask somebody to act.",
            "", "receiver", "severity"),
    histogram("tocsin_notification_latency_seconds",
              "Time from the decision to notify to the delivery.", "seconds", "receiver"),
    counter("tocsin_notifications_failed_total",
            "Notifications given up: refused, or not delivered in time.", "", "receiver"),
)  # fmt: skip

_HEALTH = (
    gauge("tocsin_config_last_reload_successful",
          "Whether the last reload of the configuration succeeded: 0 while what the files say does"
          " not hold."),
    gauge("tocsin_config_reload_held",
          "Whether changed files wait for somebody to reload: they would take away what somebody is"
          " paged for."),
    gauge("tocsin_config_needs_restart",
          "How many keys of the configuration that holds wait for a restart."),
    gauge("tocsin_config_last_reload_success_timestamp_seconds",
          "When the configuration that holds was loaded, in seconds since 1970.", "seconds"),
    gauge("tocsin_healthy",
          "Whether scraping, evaluation, timers, outbox and journal are well: 0 withholds the"
          " heartbeat.", "", "part"),
    counter("tocsin_heartbeats_sent_total", "Heartbeats that an address of heartbeats.out took."),
    counter("tocsin_heartbeats_failed_total", "Heartbeats that an address did not take."),
    counter("tocsin_heartbeats_withheld_total",
            "Times at which a heartbeat was due and withheld because of trouble."),
    gauge("tocsin_heartbeat_last_timestamp_seconds",
          "When an expected heartbeat came last, as Unix time; absent before its first.",
          "seconds", "heartbeat"),
    gauge("tocsin_heartbeat_up",
          "Whether an expected heartbeat is there: 0 while it is missing, absent before its first.",
          "", "heartbeat"),
)  # fmt: skip

_WORKER = (
    gauge("tocsin_worker_supervised", "Whether the agent keeps a demo worker running."),
    gauge("tocsin_worker_up", "Whether the demo worker's process runs."),
    counter("tocsin_worker_restarts_total", "Restarts of the demo worker."),
    counter("tocsin_load_requests_total", "Requests of the load generator, by outcome.",
            "", "outcome"),
)  # fmt: skip

_SENT = (
    counter("tocsin_remote_write_sent_samples_total", "Samples that a receiver elsewhere took.",
            "", "receiver"),
    counter("tocsin_remote_write_sent_samples_refused_total",
            "Samples that a receiver elsewhere refused for good.", "", "receiver"),
    counter("tocsin_remote_write_send_errors_total",
            "Requests to a receiver elsewhere that failed, and are tried again.", "", "receiver"),
    gauge("tocsin_remote_write_send_behind_seconds",
          "How old samples may be that wait to be sent to a receiver elsewhere.",
          "seconds", "receiver"),
)  # fmt: skip
_ELSEWHERE = (*_DATASOURCES, *_ALERTMANAGERS, *_SENT)
STAGES = Table(
    (*_STORE, *_REMOTE_WRITE, *_RULES, *_ELSEWHERE, *_INCIDENTS, *_COUNTED, *_HEALTH, *_WORKER)
)
