"""What a run leaves on disk: its settings, records and provenance, and the lock that guards them."""
