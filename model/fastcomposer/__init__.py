"""The FastComposer method: pipeline, training forward pass, post-fuse module, localization and checkpoints."""
