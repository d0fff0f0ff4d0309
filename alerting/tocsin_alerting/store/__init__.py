"""The samples of the last hour, in columns: what every rule and query reads."""
