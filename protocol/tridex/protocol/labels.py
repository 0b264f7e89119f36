"""What a request is called in metrics and in the traces of both sides, where it is no other name of the protocol."""

RERANK_TEXTS = "rerank_texts"
"""The operation of the model `rerank`: `rerank` is a search's mode."""

APPROXIMATE = "approximate_"
"""Stands before a search's mode where `exact` is false."""


def mode_label(mode: str, exact: bool) -> str:
    """A search's mode."""
    return mode if exact else f"{APPROXIMATE}{mode}"
