"""The metrics on /metrics: one table of them, and what counts, writes and joins them.

Models count in their own processes and write what they have counted to the run folder (`registry`); the launcher joins
it with its own and with Triton server's (`exposition`).
"""
