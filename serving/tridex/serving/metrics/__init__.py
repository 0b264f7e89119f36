"""The metrics on /metrics: one table of them, and what counts, writes and joins them.

Models count in their own processes (`registry`) and write what they have counted to the run folder; the launcher makes
one text of all of it (`exposition`) and puts Triton server's behind it.
"""
