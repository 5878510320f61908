"""The training of FastComposer: configuration, data and loop."""
