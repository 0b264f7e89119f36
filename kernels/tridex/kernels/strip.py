"""Document tokens made ready for the tiles of vector_tile.py, a strip at a time.

float32, and bfloat16 where the CPU multiplies it, are read where they lie. The others are converted:

    float16                  to float32
    bfloat16, float8         to pairs of bfloat16, which holds float8's numbers; else to float32
    int8, residual levels    to bytes 128 above the number, four to a word: the instruction multiplies unsigned bytes by
                             signed ones, and starts from -128 * sum(query). Else to float32.

The integers' sums are whole numbers below 2^24 for any dim up to 1,040: float32 has the same bits as the instruction.
"""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .codecs import Codec
from .conversion import (
    HAS_SHUFFLE,
    SHUFFLED_BYTES,
    bfloat16_to_floats,
    bfloat16_to_pairs,
    float8_to_floats,
    float8_to_pairs,
    halves_to_floats,
    integers_to_floats,
    integers_to_quads,
    quads_to_floats,
    shuffle_crumbs,
    shuffle_nibbles,
)
from .vector_tile import HAS_PAIRS, HAS_QUADS, PANEL, ROWS

STRIP = 16 * ROWS
"""Tokens in a strip: 64 KiB of float32 at 128 dimensions. 8 * ROWS took 5 to 15 % longer for a query of 16 tokens."""

FLOATS, PAIRS, QUADS = range(3)
"""What a word holds: one float32 number, two of bfloat16, four integers of 8 bits."""

NUMBERS_PER_WORD = (1, 2, 4)

FLOAT32, FLOAT16, BFLOAT16, FLOAT8, INT8, RESIDUAL4, RESIDUAL2 = range(7)
CODECS = {codec: number for number, codec in enumerate(Codec)}


def kind_of(codec: Codec) -> int:
    """FLOATS, PAIRS or QUADS: what this CPU multiplies for the codec."""
    if codec.has_scales:
        return QUADS if HAS_QUADS else FLOATS
    return PAIRS if HAS_PAIRS and codec in (Codec.BFLOAT16, Codec.FLOAT8) else FLOATS


class Tokens(NamedTuple):
    """A segment's tokens."""

    codes: NDArray[np.uint8]
    """[tokens, bytes]"""
    scales: NDArray[np.uint8]
    """[tokens, 2], float16's bytes; [0, 2] where the codec has none."""
    centroid_ids: NDArray[np.uint16]
    """[tokens]; empty where the codec has none."""
    levels: NDArray[np.uint8]
    """[16], 128 above a residual's values; any for the codecs without."""


class Strip(NamedTuple):
    """Up to STRIP tokens."""

    words: NDArray[np.uint32]
    """[STRIP, W]"""
    octets: NDArray[np.uint8]
    """[STRIP, 4 W], the bytes of words."""
    places: NDArray[np.int64]
    """[STRIP], the row of each token in `words`, or in the segment's codes where those are read."""
    scales: NDArray[np.float32]
    """[STRIP, 1]"""
    term_ids: NDArray[np.int64]
    """[STRIP], the centroid of each token; 0 without centroids."""
    dots: NDArray[np.float32]
    """[STRIP, PANEL]"""
    levels: NDArray[np.uint8]
    """[1, 4 W], room for a token's levels."""


@njit(nogil=True)
def empty_strip(width: int, in_place: bool) -> Strip:
    """A strip of tokens of `width` words; in_place: to be read where they lie, where place 0 is sure to be one."""
    words = np.zeros((STRIP, width), np.uint32)
    return Strip(
        words,
        words.view(np.uint8),
        np.zeros(STRIP, np.int64) if in_place else np.arange(STRIP),
        np.ones((STRIP, 1), np.float32),
        np.zeros(STRIP, np.int64),
        np.empty((STRIP, PANEL), np.float32),
        np.empty((1, 4 * width), np.uint8),
    )


@njit(nogil=True)
def reads_in_place(codec: int, kind: int, dim: int) -> bool:
    """Whether the tiles read the segment's codes: whole words of what they multiply."""
    return codec == FLOAT32 or (codec == BFLOAT16 and kind == PAIRS and dim % 2 == 0)


@njit(nogil=True)
def load_tokens(codec: int, kind: int, dim: int, tokens: Tokens, token: int, count: int, strip: Strip, at: int) -> None:
    """Puts `count` tokens of a segment, from `token` on, into the strip from `at` on."""
    codes, out = tokens.codes, strip.octets
    if reads_in_place(codec, kind, dim):
        for j in range(count):
            strip.places[at + j] = token + j
    elif codec == FLOAT16:
        for j in range(count):
            halves_to_floats(codes, token + j, out, at + j, dim)
    elif codec == BFLOAT16:
        for j in range(count):
            if kind == PAIRS:
                bfloat16_to_pairs(codes, token + j, out, at + j, dim)
            else:
                bfloat16_to_floats(codes, token + j, out, at + j, dim)
    elif codec == FLOAT8:
        for j in range(count):
            if kind == PAIRS:
                float8_to_pairs(codes, token + j, out, at + j, dim)
            else:
                float8_to_floats(codes, token + j, out, at + j, dim)
    else:
        for j in range(count):
            halves_to_floats(tokens.scales, token + j, strip.scales, at + j, 1)
        if codec == INT8:
            for j in range(count):
                if kind == QUADS:
                    integers_to_quads(codes, token + j, out, at + j, dim)
                else:
                    integers_to_floats(codes, token + j, out, at + j, dim)
        else:
            for j in range(count):
                strip.term_ids[at + j] = tokens.centroid_ids[token + j]
                levels, place = (out, at + j) if kind == QUADS else (strip.levels, 0)
                if not HAS_SHUFFLE or codes.shape[1] < SHUFFLED_BYTES:
                    _look_up(4 if codec == RESIDUAL4 else 2, codes[token + j], tokens.levels, levels[place])
                elif codec == RESIDUAL4:
                    shuffle_nibbles(codes, token + j, tokens.levels, levels, place)
                else:
                    shuffle_crumbs(codes, token + j, tokens.levels, levels, place)
                if kind == FLOATS:
                    quads_to_floats(levels, place, out, at + j, dim)


@njit(nogil=True)
def _look_up(bits: int, codes: NDArray[np.uint8], levels: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """The levels of a token's codes, as the shuffles look them up."""
    for part in range(8 // bits):
        for i in range(len(codes)):
            out[part * len(codes) + i] = levels[(codes[i] >> (part * bits)) & ((1 << bits) - 1)]
