"""What lies in device memory: packed segments, the snapshots that searches read, and what keeps them up to date."""
