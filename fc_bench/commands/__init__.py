"""The work of each verb of the command line, one module per verb; `cli` only parses."""
