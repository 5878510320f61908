"""The metrics: one module each, registered as entry points like a plug-in's."""
