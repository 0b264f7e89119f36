"""The command line's `tridex train` and `tridex mine`."""
