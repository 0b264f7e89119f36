"""The command line's `tridex export`."""
