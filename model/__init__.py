"""FastComposer and the backbones; usable without the harness."""
