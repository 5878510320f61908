"""Tables of quality: identity preservation, prompt consistency, and their footnotes and provenance."""
