"""The benchmark: from a configuration to a record."""
