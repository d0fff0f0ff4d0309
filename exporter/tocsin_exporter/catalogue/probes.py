"""What probes find: blackbox_exporter's and smokeping_prober's names, types and labels."""

from tocsin_exporter.catalogue.table import Table, gauge, histogram
from tocsin_exporter.catalogue.table import counter as count

# smokeping_prober's default buckets, in seconds: each is twice the one before.
PING_SECONDS = tuple(5e-5 * 2**step for step in range(20))

_PING = ("ip", "host", "source", "tos")
_LEAF = ("fingerprint_sha256", "subject", "issuer", "subjectalternative", "serialnumber")

_ALL = (
    gauge("probe_success", "Whether the probe succeeded."),
    gauge("probe_duration_seconds", "Time that the probe took.", "seconds"),
    gauge("probe_timeout_seconds", "Time that the probe might have taken.", "seconds"),
    gauge("probe_dns_lookup_time_seconds", "Time to find the address of the target.", "seconds"),
    gauge("probe_ip_protocol", "The IP version of the address that was probed: 4 or 6."),
    gauge("probe_ip_addr_hash", "FNV-1a of the address that was probed: it changes with it."),
    gauge("probe_failed_due_to_regex", "Whether a regular expression failed the probe."),
)  # fmt: skip

_HTTP = (
    gauge("probe_http_duration_seconds",
          "Time of the HTTP exchange by phase (resolve, connect, tls, processing, transfer), summed"
          " over redirects.", "seconds", "phase"),
    gauge("probe_http_content_length", "Content-Length of the answer; -1 where it has none."),
    gauge("probe_http_uncompressed_body_length", "Bytes of the body after decompression."),
    gauge("probe_http_redirects", "Redirects that were followed, or refused last."),
    gauge("probe_http_ssl", "Whether the last answer came over TLS."),
    gauge("probe_http_status_code", "Status code of the last answer; 0 without any."),
    gauge("probe_http_version", "HTTP version of the last answer."),
    gauge("probe_http_last_modified_timestamp_seconds",
          "Last-Modified of the answer, in seconds since 1970.", "seconds"),
)  # fmt: skip

_TLS = (
    gauge("probe_ssl_earliest_cert_expiry",
          "When the first of the certificates shown ends, in seconds since 1970."),
    gauge("probe_ssl_last_chain_expiry_timestamp_seconds",
          "When the verified chain ends, in seconds since 1970; far in the past where none was"
          " verified.", "seconds"),
    gauge("probe_ssl_last_chain_info", "The server's certificate; always 1.", "", *_LEAF),
    gauge("probe_tls_version_info", "The version of TLS; always 1.", "", "version"),
    gauge("probe_tls_cipher_info", "The cipher suite; always 1.", "", "cipher"),
)  # fmt: skip

_DNS = (
    gauge("probe_dns_duration_seconds", "Time of the DNS request by phase.", "seconds", "phase"),
    gauge("probe_dns_answer_rrs", "Records in the answer section."),
    gauge("probe_dns_authority_rrs", "Records in the authority section."),
    gauge("probe_dns_additional_rrs", "Records in the additional section."),
    gauge("probe_dns_query_succeeded", "Whether the query was answered, whatever the answer."),
    gauge("probe_dns_serial", "Serial number of the zone, for queries of SOA."),
)  # fmt: skip

_OTHERS = (
    gauge("probe_icmp_duration_seconds", "Time of the ping by phase.", "seconds", "phase"),
    gauge("probe_icmp_reply_hop_limit", "Hop limit (TTL) of the reply."),
    gauge("probe_grpc_duration_seconds", "Time of the health check by phase.", "seconds", "phase"),
    gauge("probe_grpc_ssl", "Whether the health check went over TLS."),
    gauge("probe_grpc_status_code", "gRPC status code of the health check."),
    gauge("probe_grpc_healthcheck_response", "1 for the status that the service answered.",
          "", "serving_status"),
)  # fmt: skip

_SMOKEPING = (
    count("smokeping_requests_total", "Pings sent.", "", *_PING),
    histogram("smokeping_response_duration_seconds", "Time to the replies of pings.",
              "seconds", *_PING),
)  # fmt: skip

PROBES = Table((*_ALL, *_HTTP, *_TLS, *_DNS, *_OTHERS, *_SMOKEPING))
