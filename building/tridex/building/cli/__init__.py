"""The command line's `tridex index build` and `tridex index requantize`."""
