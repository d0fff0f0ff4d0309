"""Remote write: requests of Prometheus, vmagent and OpenTelemetry collectors, decoded fast."""
