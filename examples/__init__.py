"""Programs that use Tridex as its users do. Run as `python -m examples.NAME`."""
