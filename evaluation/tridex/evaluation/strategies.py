"""How the systems of a comparison rank: everything that tells one strategy from another, in one table.

A further strategy of the server is an entry of `STRATEGIES`. A system of this process is an entry too, and a class as
`LocalSystem` in retrieval.py describes it, which the command line creates.
"""

from __future__ import annotations

from dataclasses import dataclass

from tridex.client import SearchOptions

EXACT = "exact"
BM25 = "bm25"
BI_ENCODER = "bi-encoder"

CANDIDATES = 300
"""Documents that MaxSim scores in CODEC+candidates, and in CODEC+rerank: fewer than the server's own 1,000, which is
nearly all of a small collection."""


@dataclass(frozen=True)
class Strategy:
    """One way to rank the documents of a collection."""

    search_options: SearchOptions | None
    """None where the server does not rank."""
    limits_candidates: bool = False
    """Whether MaxSim scores only `CANDIDATES` documents, or as many as are asked for."""
    needs_inverted_lists: bool = False
    uses_embeddings: bool = True
    """Whether it needs the collection's token embeddings."""
    flags: str = ""
    """The options of `tridex search` that ask for it."""
    note: str = ""
    """What to know when reading its figures."""

    def options(self, top_k: int) -> SearchOptions:
        """The options of a search for so many documents."""
        options: SearchOptions = {**(self.search_options or {}), "top_k": top_k}
        if self.limits_candidates:
            options["n_candidates"] = max(CANDIDATES, top_k)
        return options


STRATEGIES = {
    EXACT: Strategy({"mode": "maxsim"}),
    "candidates": Strategy(
        {"exact": False},
        limits_candidates=True,
        needs_inverted_lists=True,
        flags="--no-exact",
        note=f"candidates: MaxSim over the {CANDIDATES} documents that look best by centroids; their inverted lists, "
        "some 4 bytes per token, are not counted in kB/document.",
    ),
    "rerank": Strategy({"mode": "rerank"}, limits_candidates=True, flags="--mode rerank"),
    "hybrid": Strategy(
        {"mode": "hybrid"},
        flags="--mode hybrid",
        note="hybrid: exact MaxSim and BM25, fused by reciprocal rank.",
    ),
    BM25: Strategy({"mode": "bm25"}, uses_embeddings=False),
    BI_ENCODER: Strategy(
        None,
        uses_embeddings=False,
        note=f"{BI_ENCODER}: one vector per text by Sentence Transformers, compared with all others in the command's "
        "own process, without a server.",
    ),
}

OF_CODECS = ("candidates", "rerank", "hybrid")
"""Those that a codec is combined with, as CODEC+NAME."""
