"""Training FastComposer: configuration, data, loop."""
