"""What lies on disk: collections as Lance datasets, the registry of names, builds, and what keeps files in order."""
