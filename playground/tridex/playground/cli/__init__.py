"""The command line's `try`."""
