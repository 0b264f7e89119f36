"""What lies in device memory: segments, the snapshots made of them, and what keeps those up with the store.

In reading order: `snapshot` (what a search reads), `indexed_segment`, `extras` (`inverted_lists`, `search_plans`,
`approximations`); `follower` with `catch_up`, `segment_loader`, `packing` and `merging`; `budget`.
"""
