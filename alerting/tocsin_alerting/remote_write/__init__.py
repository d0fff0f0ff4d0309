"""Remote write 1.0: requests of Prometheus, vmagent and OpenTelemetry collectors, decoded fast."""
