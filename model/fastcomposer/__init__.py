"""FastComposer itself: its pipeline, training forward pass, post-fuse module, localization and checkpoints."""
