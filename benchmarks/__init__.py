"""Measurements. Each module runs as `python -m benchmarks.NAME`, writes benchmarks/results/ and its table in docs/."""
