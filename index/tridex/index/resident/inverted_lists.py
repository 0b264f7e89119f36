"""Candidate documents by centroid inverted lists, for segments too large to score every document of.

Every token belongs to its nearest centroid, and a centroid's list holds the documents of its tokens (PLAID: Santhanam
et al. 2022). A query token probes the centroids nearest to it, and a document's approximate score is

    sum over query tokens i of max(b_i, max over probed centroids c whose list holds the document of <Q_i, c>)

where b_i is <Q_i, c> of the best centroid that was not probed: no document can gain more than that from a token that it
was not found by. The best documents by that are then scored exactly.

The lists are made in the background (Follower.make), once a search has wanted them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tridex.kernels import Columns, Segment, decode_columns, scale_queries, spherical_k_means

MIN_LISTED_DOCUMENTS = 1024
"""Documents of a segment that is worth lists: fewer are scored exactly in milliseconds."""

_CENTROIDS_PER_ROOT = 4
"""Centroids per square root of the tokens, rounded down to a power of two. PLAID takes 16; training and assigning cost
as much per centroid, and they cost seconds on a CPU."""

_MAX_CENTROIDS = 2**16

_SAMPLE_PER_CENTROID = 32
_ITERATIONS = 8

_ENTRIES_AT_A_TIME = 1 << 20
"""Entries of lists gathered at a time, or one query token's: 24 MiB."""

_TOKENS_AT_A_TIME = 1 << 15
"""Tokens decoded at a time: 16 MiB at 128 dimensions."""


@dataclass(frozen=True)
class InvertedLists:
    """The documents of each centroid's tokens, each once a centroid, ascending. All on the segment's device.

    Attributes:
        centroids: float32 [centroids, dim].
        rows: int32 [entries]: the documents' rows, one list after the other.
        starts: int64 [centroids + 1]: centroid c has the entries starts[c] to starts[c + 1].
    """

    centroids: torch.Tensor
    rows: torch.Tensor
    starts: torch.Tensor


class ListsSlot:
    """Where a segment keeps its lists once they are made; a Slot (extras.py)."""

    def __init__(self, wanted: bool = False) -> None:
        self.wanted = wanted
        """Whether a search could have used them."""
        self.lists: InvertedLists | None = None
        self.retry_at = 0.0

    @property
    def has_any(self) -> bool:
        """Whether they are made."""
        return self.lists is not None

    def is_wanted(self, segment: Segment) -> bool:
        """Whether a search could have used them, and they are not made."""
        return self.wanted and self.lists is None and segment.tokens > 0

    def needed_bytes(self, segment: Segment) -> int:
        """What they take at most."""
        return lists_bytes(segment)

    def make(self, segment: Segment) -> None:
        """Makes them: some seconds for a million tokens."""
        self.lists = make_lists(segment)

    def drop(self) -> None:
        """Lets them go; searches under way keep them."""
        self.lists = None


def lists_bytes(segment: Segment) -> int:
    """Most bytes that a segment's lists take: every token in a list, and the centroids."""
    book = segment.codebook
    centroids = _centroids(segment.tokens) if book is None else len(book.centroids)
    return 4 * segment.tokens + centroids * 4 * segment.dim + 8 * (centroids + 1)


def make_lists(segment: Segment) -> InvertedLists:
    """Assigns a segment's tokens to centroids: the codec's own where it has some, else to newly trained ones.

    Raises:
        ValueError: The segment has no tokens.
        ImportError: faiss is not installed.
    """
    if not segment.tokens:
        raise ValueError("segment has no tokens; expected at least one")
    if segment.codebook is not None and segment.centroid_ids is not None:
        centroids, ids = segment.codebook.directions(), segment.centroid_ids.long() & 0xFFFF
    else:
        centroids = _train(segment)
        chunks = torch.split(torch.arange(segment.tokens, device=segment.device), _TOKENS_AT_A_TIME)
        ids = torch.cat([_nearest(_directions(segment, chunk), centroids) for chunk in chunks])
    documents = torch.arange(segment.documents, device=segment.device)
    entries = torch.unique(ids * segment.documents + documents.repeat_interleave(segment.offsets.diff()))
    lengths = torch.bincount(entries // segment.documents, minlength=len(centroids))
    starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    rows = (entries % segment.documents).int()
    if segment.device.type == "cuda":
        # Searches read them on another stream.
        torch.cuda.current_stream(segment.device).synchronize()
    return InvertedLists(centroids, rows, starts)


def find_candidates(
    query: torch.Tensor, lists: InvertedLists, live: torch.Tensor, n_probe: int, n_candidates: int
) -> torch.Tensor:
    """The live documents with the best approximate scores.

    Args:
        query: Token embeddings, float [tokens, dim], without masked tokens.
        lists: The segment's.
        live: bool [documents], at least `n_candidates` of them true.
        n_probe: Centroids that each query token probes.
        n_candidates: How many documents.

    Returns:
        Their rows, int64 [n_candidates], ascending.
    """
    tokens, weights, _ = scale_queries(query[None], query.new_ones(1, len(query), dtype=torch.bool))
    scores, centroids = (tokens[0] @ lists.centroids.T).topk(min(n_probe + 1, len(lists.centroids)), dim=1)
    scores *= weights.T
    gains, centroids = (scores - scores[:, -1:])[:, :n_probe], centroids[:, :n_probe]
    starts = lists.starts[centroids]
    lengths = lists.starts[centroids + 1] - starts
    counts = lengths.sum(dim=1).tolist()
    total = torch.zeros(len(live), device=live.device)
    gained = torch.empty_like(total)
    step = max(1, _ENTRIES_AT_A_TIME // max([1, *counts]))
    for first in range(0, len(query), step):
        some = slice(first, first + step)
        rows, values = _entries(lists, starts[some].flatten(), lengths[some].flatten(), gains[some].flatten())
        by_token = zip(torch.split(rows, counts[some]), torch.split(values, counts[some]), strict=True)
        for token_rows, token_values in by_token:
            total += gained.zero_().scatter_reduce_(0, token_rows, token_values, "amax")
    total.masked_fill_(~live, -torch.inf)
    return total.topk(n_candidates, sorted=False).indices.sort().values


def _entries(
    lists: InvertedLists, starts: torch.Tensor, lengths: torch.Tensor, gains: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows int64 of these lists, one after the other, and for each its list's gain."""
    ends = lengths.cumsum(0)
    of_list = torch.repeat_interleave(lengths)  # Takes 0.1 ms, so it is not called for each token.
    rows = lists.rows[(starts - ends + lengths)[of_list] + torch.arange(len(of_list), device=starts.device)]
    return rows.long(), gains[of_list]


def _centroids(tokens: int) -> int:
    """How many are trained for so many tokens, one at least."""
    return min(1 << int(np.log2(_CENTROIDS_PER_ROOT * tokens**0.5)), _MAX_CENTROIDS, tokens)


def _train(segment: Segment) -> torch.Tensor:
    """Centroids float32 [centroids, dim] of unit length, by spherical k-means over a sample of the tokens."""
    count = _centroids(segment.tokens)
    wanted = min(_SAMPLE_PER_CENTROID * count, segment.tokens)
    sample = np.sort(np.random.default_rng(0).choice(segment.tokens, wanted, replace=False, shuffle=False))
    directions = _directions(segment, torch.from_numpy(sample).to(segment.device))
    return spherical_k_means(directions, count, iterations=_ITERATIONS)


def _directions(segment: Segment, tokens: torch.Tensor) -> torch.Tensor:
    """These tokens, decoded, at unit length: float32 [tokens, dim]."""
    scales = None if segment.scales is None else segment.scales[tokens]
    columns = Columns(segment.codes[tokens], scales, None)
    return torch.nn.functional.normalize(decode_columns(segment.codec, columns, None, torch.float32))


def _nearest(directions: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """The ids int64 [tokens] of the centroids with the largest inner products."""
    if directions.device.type != "cpu":
        return (directions @ centroids.T).argmax(dim=1)
    import faiss  # 2 s for 100,000 tokens and 8,192 centroids on two cores; torch's product and argmax took 4.

    _, ids = faiss.knn(directions.numpy(), centroids.numpy(), 1, metric=faiss.METRIC_INNER_PRODUCT)
    return torch.from_numpy(ids[:, 0])
