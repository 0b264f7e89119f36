"""The command line's `tridex serve`."""
