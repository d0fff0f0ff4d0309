"""What was found in the logs of others: `tocsin_log_*`, by source."""

from tocsin_exporter.catalogue.table import Table, counter, gauge

LOGS = Table(
    (
        gauge("tocsin_log_source_up",
              "Whether the lines of a source can be read: its files are there, journald answers.",
              "", "source"),
        counter("tocsin_log_lines_total",
                "Lines read, by how bad they say they are; unknown for those that do not say.",
                "", "source", "level"),
        counter("tocsin_log_bytes_total", "Bytes of the lines that were read.", "bytes", "source"),
        counter("tocsin_log_matches_total",
                "Lines that matched a named pattern; value is what its group of that name found.",
                "", "source", "pattern", "value"),
        gauge("tocsin_log_last_match_timestamp_seconds",
              "When a line last matched a named pattern, in seconds since 1970.",
              "seconds", "source", "pattern", "value"),
        counter("tocsin_log_withheld_lines_total",
                "Lines that matched a pattern and hold what users wrote to a model: neither kept "
                "nor counted as a match.", "", "source"),
        counter("tocsin_log_lost_lines_total",
                "Lines that nobody looked at, by reason (behind: above the budget; truncated: at "
                "least so many, before a truncation; too long).", "", "source", "reason"),
        counter("tocsin_log_lost_bytes_total", "Bytes of lost lines, where they are known.",
                "bytes", "source", "reason"),
        counter("tocsin_log_rotations_total", "Files that were renamed or removed.", "", "source"),
        counter("tocsin_log_truncations_total", "Files that were truncated.", "", "source"),
        gauge("tocsin_log_read_lag_bytes", "Bytes that are written and were not read yet.",
              "bytes", "source"),
        gauge("tocsin_log_files", "Files that are followed.", "", "source"),
        gauge("tocsin_log_positions_saved",
              "Whether positions are kept for a restart; without it a killed process may count "
              "lines twice.", "", "source"),
    )
)  # fmt: skip
