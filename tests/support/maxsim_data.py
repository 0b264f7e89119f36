"""Documents, queries and segments that tests of MaxSim share: on the CPU, under the interpreter and on a GPU."""

from __future__ import annotations

import numpy as np
import torch

from tridex.kernels import LARGEST_SCORE, Codebook, Codec, Segment, encode, pack, pack_bitmap, split_rows

LENGTHS = [0, 1, 15, 16, 17, 300, 31, 32, 33, 2]
"""Tokens of documents: around the sizes that kernels cut them to."""


def documents(lengths: list[int], dim: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    drawn = [rng.standard_normal((length, dim), np.float32) for length in lengths]
    return [tokens / np.linalg.norm(tokens, axis=1, keepdims=True) for tokens in drawn]


def codebook(codec: Codec, dim: int, seed: int = 5) -> Codebook | None:
    """Of random directions, and of bucket weights that leave a large error: what is stored is what must be scored."""
    if not codec.residual_bits:
        return None
    generator = torch.Generator().manual_seed(seed)
    centroids = torch.nn.functional.normalize(torch.randn((70, dim), generator=generator), dim=-1)
    return Codebook.rounded(centroids, torch.linspace(-0.5, 0.5, 2**codec.residual_bits))


def packed(docs: list[np.ndarray], codec: Codec, device: torch.device | str = "cpu") -> Segment:
    return pack(docs, codec, device, codebook(codec, docs[0].shape[1]))


def residual_and_int8(codec: Codec, device: torch.device | str = "cpu") -> tuple[Segment, Segment]:
    """Documents in a residual codec whose step is 1, and in int8 the numbers that they are decoded to."""
    book = codebook(codec, 128)
    assert book is not None
    residual = pack(documents(LENGTHS, 128), codec, device, Codebook(book.centroids, book.bucket_weights, 1.0))
    assert residual.codebook is not None and residual.centroid_ids is not None
    numbers = residual.codebook.decode(residual.codes, residual.centroid_ids, torch.float32).to(torch.int8)
    codes = numbers.view(torch.uint8)
    return residual, Segment(Codec.INT8, 128, codes, residual.offsets, residual.live, residual.scales)


def queries(batch: int, tokens: int, dim: int, seed: int = 1) -> torch.Tensor:
    drawn = torch.randn((batch, tokens, dim), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=-1)


def of_magnitudes(exponents: list[list[int]], dim: int, seed: int) -> torch.Tensor:
    """Queries of which each token is a power of two times small whole numbers: exact, also as subnormal numbers."""
    drawn = torch.randint(-1024, 1025, (len(exponents), len(exponents[0]), dim), generator=torch.manual_seed(seed))
    return (drawn.double() * 2.0 ** (torch.tensor(exponents) - 12.0)[..., None]).float()


def assert_close_for_its_magnitude(
    results: torch.Tensor, expected: torch.Tensor, magnitude: torch.Tensor, tolerance: float
) -> None:
    """Results float32 against float64, both divided by the magnitude: what the largest summand may come to."""
    finite = expected.clamp(-LARGEST_SCORE, LARGEST_SCORE).where(expected != -torch.inf, expected)
    subnormal = 2.0**-149 / magnitude
    off = ((results.double() - finite).abs() / magnitude).where(results.double() != finite, 0.0)
    assert (off <= tolerance + subnormal).all(), (off.max(), results, finite)


def assert_powers_apart(scores: torch.Tensor, others: torch.Tensor, k: int) -> None:
    """others is 2**k * scores to the last bit, as far as float32 holds both."""
    for one, other, power in ((scores.double(), others.double(), k), (others.double(), scores.double(), -k)):
        is_normal = (one.abs() >= 2.0**-126) & (one.abs() < LARGEST_SCORE)
        true = (one * 2.0**power).clamp(-LARGEST_SCORE, LARGEST_SCORE).float().double()
        assert torch.equal(other[is_normal], true[is_normal])
    assert torch.equal(scores == -torch.inf, others == -torch.inf)


def masks(batch: int, tokens: int, seed: int = 2) -> torch.Tensor:
    return torch.rand((batch, tokens), generator=torch.Generator().manual_seed(seed)) < 0.7


def rising(count: int, dim: int = 16) -> tuple[list[np.ndarray], torch.Tensor]:
    """Documents of which each is better than the one before for the one query: every one enters a top-k's buffer."""
    direction = np.eye(1, dim, dtype=np.float32)
    return [direction * ((row + 1) / count) for row in range(count)], torch.from_numpy(direction)[None]


def far_away(codec: Codec, tokens: int, document: np.ndarray, device: torch.device | str = "cpu") -> Segment:
    """Row 0: a deleted document of so many tokens, whose memory nobody touches on a CPU. Row 1: the document."""
    dim = document.shape[1]
    rows = torch.from_numpy(encode(codec, document, codebook(codec, dim)))
    near = split_rows(codec, rows)
    total = tokens + len(document)
    far: list[torch.Tensor | None] = []
    for column in near:
        empty = None if column is None else torch.zeros((total, *column.shape[1:]), dtype=column.dtype, device=device)
        far.append(empty)
        if column is not None:
            far[-1][tokens:] = column.to(device)
    book = codebook(codec, dim)
    return Segment(
        codec,
        dim,
        far[0],
        torch.tensor([0, tokens, total], device=device),
        pack_bitmap(np.array([False, True])).to(device),
        far[1],
        far[2],
        None if book is None else book.to(device),
    )
