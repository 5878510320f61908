"""Examination of metrics and of the models they rest on."""
