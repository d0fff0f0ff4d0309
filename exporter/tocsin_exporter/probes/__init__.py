"""Probes: what a service answers from outside, by the modules of blackbox_exporter."""
