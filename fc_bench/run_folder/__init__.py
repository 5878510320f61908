"""The run folder: its settings, records and provenance, and the lock that guards them."""
