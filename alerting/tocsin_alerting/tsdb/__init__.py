"""Samples in memory and in blocks on disk: what every rule and query reads."""
