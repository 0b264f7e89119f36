"""Candidate documents by centroid inverted lists, for segments too large to score every document of.

Every token belongs to its nearest centroid, and a centroid's list holds the documents of its tokens (PLAID: Santhanam
et al. 2022). A query token probes the centroids nearest to it, and a document's approximate score is

    sum over query tokens i of max(b_i, max over probed centroids c whose list holds the document of <Q_i, c>)

where b_i is <Q_i, c> of the best centroid that was not probed: no document can gain more than that from a token that it
was not found by. The best documents by that are then scored exactly.

The lists are made in the background (Follower.make), once a search has wanted them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tridex.kernels import Columns, Segment, decode_columns, scale_queries, spherical_k_means
from tridex.kernels.codebook import nearest

from .host_copy import copy_to_host

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

_SORTED_AT_A_TIME = 1 << 20
"""Tokens sorted into lists at a time: some 60 MiB."""


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


class Probes(NamedTuple):
    """The lists that a query's tokens probe, [tokens, n_probe] each."""

    starts: torch.Tensor
    """int64: where a list begins among the entries."""
    lengths: torch.Tensor
    """int64: its entries, 0 for a token that does not count."""
    gains: torch.Tensor
    """float32: what a document of the list gains."""


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
    """Most bytes that a segment's lists take once they are made: every token in a list, and the centroids."""
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
    centroids = _train(segment) if segment.codebook is None else segment.codebook.directions()
    offsets = segment.offsets.numpy(force=True)
    # In parts, so that little more is taken for a moment than the lists take twice.
    parts = [_entries_of(segment, centroids, offsets, run) for run in _runs_of_documents(offsets, _SORTED_AT_A_TIME)]
    lengths = sum((part.lengths for part in parts), torch.zeros_like(parts[0].lengths))
    starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    rows = torch.empty(sum(len(part.rows) for part in parts), dtype=torch.int32, device=segment.device)
    filled = starts[:-1].clone()
    for part in parts:
        # Where each list goes on, less where it begins in the part.
        shift = filled - (part.lengths.cumsum(0) - part.lengths)
        places = torch.arange(len(part.rows), device=segment.device)
        rows[places + shift.repeat_interleave(part.lengths, output_size=len(part.rows))] = part.rows
        filled += part.lengths
    if segment.device.type == "cuda":
        # Searches read them on another stream.
        torch.cuda.current_stream(segment.device).synchronize()
    return InvertedLists(centroids, rows, starts)


class _Entries(NamedTuple):
    """The entries of some neighbouring documents, of all lists."""

    rows: torch.Tensor
    """int32 [entries], a list's after the other's, ascending."""
    lengths: torch.Tensor
    """int64 [centroids]"""


def _entries_of(segment: Segment, centroids: torch.Tensor, offsets: NDArray[np.int64], rows: range) -> _Entries:
    """Of the documents of these rows."""
    first, end = int(offsets[rows.start]), int(offsets[rows.stop])
    if segment.centroid_ids is None:
        chunks = torch.split(torch.arange(first, end, device=segment.device), _TOKENS_AT_A_TIME)
        ids = torch.cat([_nearest(_directions(segment, chunk), centroids) for chunk in chunks])
    else:
        ids = segment.centroid_ids[first:end].long() & 0xFFFF
    documents = torch.arange(rows.start, rows.stop, device=segment.device)
    tokens_of = segment.offsets[rows.start : rows.stop + 1].diff()
    of_tokens = documents.repeat_interleave(tokens_of, output_size=end - first)
    entries = torch.unique(ids * segment.documents + of_tokens)
    lengths = torch.bincount(entries // segment.documents, minlength=len(centroids))
    return _Entries((entries % segment.documents).int(), lengths)


def _runs_of_documents(offsets: NDArray[np.int64], tokens: int) -> Iterator[range]:
    """The rows of neighbouring documents that have up to so many tokens together, one at least, or are one document."""
    first = 0
    while first < len(offsets) - 1:
        end = max(first + 1, int(np.searchsorted(offsets, offsets[first] + tokens, side="right")) - 1)
        if offsets[end] > offsets[first]:
            yield range(first, end)
        first = end


def probe(query: torch.Tensor, mask: torch.Tensor, lists: InvertedLists, n_probe: int) -> Probes:
    """Looks up the centroids nearest to a query's tokens; waits for no device.

    Args:
        query: Token embeddings, float [tokens, dim].
        mask: bool [tokens]: False where a token does not count.
        lists: The segment's.
        n_probe: Centroids that each query token probes.
    """
    if query.device.type == "cpu":
        query, mask = _without_masked(query, mask)
    tokens, weights, _ = scale_queries(query[None], mask[None])
    scores, centroids = (tokens[0] @ lists.centroids.T).topk(min(n_probe + 1, len(lists.centroids)), dim=1)
    scores *= weights.T
    gains, centroids = (scores - scores[:, -1:])[:, :n_probe], centroids[:, :n_probe]
    starts = lists.starts[centroids]
    lengths = (lists.starts[centroids + 1] - starts) * mask[:, None]
    return Probes(starts, lengths, gains)


def _without_masked(query: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For a CPU, which multiplies less then, and always the same for one query. A GPU would be waited for, to learn how
    many tokens are left."""
    return query[mask], mask[mask]


def count_entries(probes: Sequence[Probes]) -> list[list[int]]:
    """How many entries each token's lists have, of several queries: waits for the device, once for all of them."""
    if not probes:
        return []
    (counts,) = copy_to_host(torch.cat([one.lengths.sum(dim=1) for one in probes]))()
    entries = iter(counts.tolist())
    return [list(islice(entries, len(one.lengths))) for one in probes]


def find_candidates(
    probes: Probes, entries: list[int], lists: InvertedLists, live: torch.Tensor, n_candidates: int
) -> torch.Tensor:
    """The live documents with the best approximate scores for a query; waits for no device.

    Args:
        probes: The query's.
        entries: Of each of its tokens, from `count_entries`.
        lists: The segment's.
        live: bool [documents], at least `n_candidates` of them true.
        n_candidates: How many documents.

    Returns:
        Their rows, int64 [n_candidates], ascending.
    """
    total = torch.zeros(len(live), device=live.device)
    gained = torch.empty_like(total)
    step = max(1, _ENTRIES_AT_A_TIME // max([1, *entries]))
    for first in range(0, len(entries), step):
        some = slice(first, first + step)
        flat = Probes(*(part[some].flatten() for part in probes))
        rows, values = _entries(lists, flat, sum(entries[some]))
        by_token = zip(torch.split(rows, entries[some]), torch.split(values, entries[some]), strict=True)
        for token_rows, token_values in by_token:
            if len(token_rows):
                total += gained.zero_().scatter_reduce_(0, token_rows, token_values, "amax")
    total.masked_fill_(~live, -torch.inf)
    return total.topk(n_candidates, sorted=False).indices.sort().values


def _entries(lists: InvertedLists, probes: Probes, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows int64 of the lists of some tokens, one list after the other, and for each its list's gain.

    `probes` is flattened; `count`: how many rows they are.
    """
    starts, lengths, gains = probes
    # Takes 0.1 ms, so it is not called for each token.
    of_list = torch.repeat_interleave(lengths, output_size=count)
    rows = lists.rows[(starts - lengths.cumsum(0) + lengths)[of_list] + torch.arange(count, device=starts.device)]
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
        return nearest(directions, centroids)
    import faiss  # 2 s for 100,000 tokens and 8,192 centroids on two cores; torch's product and argmax took 4.

    _, ids = faiss.knn(directions.numpy(), centroids.numpy(), 1, metric=faiss.METRIC_INNER_PRODUCT)
    return torch.from_numpy(ids[:, 0])
