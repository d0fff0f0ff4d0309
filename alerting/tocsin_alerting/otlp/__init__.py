"""OpenTelemetry's metrics over OTLP: requests decoded, named as Prometheus names them, stored."""
