"""The command line's `tridex evaluate`, `tridex compare` and `tridex tune`."""
