"""Search modes: how a search finds and ranks its documents."""
