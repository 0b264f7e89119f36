"""Values that requests should not have, and some that they may. None names a path that a leak would be known by."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tridex.protocol import limits

INTEGERS = (0, 1, -1, 2, 7, 10, 64, 65, 256, 257, 1024, 10_000, 10_001, 2**31 - 1, 2**31, 2**32, 2**53 + 1)
EXTREME_INTEGERS = (2**62, 2**63 - 1, -(2**31), -(2**63))
FLOATS = (float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 0.5, 3.0, 1e308, -1e308, 5e-324, 1e38)

GOOD_TEXTS = (b"a", b"d1", b"d2", b"rivers", b"a red planet", b"the spot on the largest planet", "größer".encode())
GOOD_JSON = (b"", b"{}", b'{"year": 2020, "kind": "a"}', b'{"a": [1, {"b": null}]}', b'{"a": 1, "a": 2}')

SHORT_TEXTS = (
    *(b"", b" ", b"\t\r\n", b"\0", b"a\0b", b"a", b"rivers", b"a red planet", b"the spot on the largest planet"),
    *(b"null", b"true", b"0", b"-1", b"NaN", b"1e999", b"[]", b"{}", b'"', b'{"a": 1}', b'{"year": 2020}', b"d1"),
    *(b'{"year": "x"}', b'{"a": 1e999}', b'{"a": NaN}', b'{"\\ud800": 1}', b'{"a": 1, "a": 2}', b"[[[[[[[["),
    *(b"'; DROP TABLE x; --", b"../..", b"..\\..", b"%s%n%x", b"${x}", b"{{7*7}}", b"a AND (b OR", b'"quoted'),
    *(b"+-*~^:?!", b"[CLS]", b"[MASK] [SEP] [PAD]", b"[unused0]", b"a" * 300, b"word " * 200, b"!" * 1000),
    *(word.encode() for word in ("\u202egnirts", "e\u0301\ufeff\u200b", "\U0001f600" * 3, "\ufb00 \u0130 \xdf \ufdfa")),
    *(b"\xff", b"caf\xe9", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80\x80", b"ok \xe2\x82"),
)
LONG_TEXTS = (
    b"a" * limits.MAX_TEXT_BYTES,
    b"a" * (limits.MAX_TEXT_BYTES + 1),
    b"a b c d " * (limits.MAX_TEXT_BYTES // 8),
    b"!?" * (limits.MAX_TEXT_BYTES // 2),
    "\U0001f600".encode() * (limits.MAX_TEXT_BYTES // 4),
    b"[" * 100_000,
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    b"x" * 1_000_000,
)

NAMES = (
    "",
    " ",
    ".",
    "..",
    "-",
    "_",
    "0",
    "a" * 64,
    "a" * 65,
    "ä",
    "a b",
    "a/b",
    "a\\b",
    "a\0b",
    "a\n",
    "con",
    "x" * 5000,
)


def text(rng: Random, json_wanted: bool = False) -> bytes:
    """A string, as often as not a good one, seldom a long one."""
    if rng.random() < 0.6:
        return rng.choice(GOOD_JSON if json_wanted else GOOD_TEXTS)
    return rng.choice(LONG_TEXTS if rng.random() < 0.003 else SHORT_TEXTS)


def parameter(rng: Random, words: tuple[str, ...]) -> Any:
    """A value of any type that a parameter can have; `words` are those that parameters expect."""
    kinds = (
        lambda: rng.choice(INTEGERS),
        lambda: rng.choice((*EXTREME_INTEGERS, 2**63, 2**64 - 1)),
        lambda: rng.choice(FLOATS),
        lambda: rng.random() < 0.5,
        lambda: rng.choice(words),
        lambda: rng.choice(NAMES),
        lambda: text(rng).decode(errors="replace"),
        lambda: conditions(rng),
        lambda: json.dumps({rng.choice(("year", "kind", "a b", "")): rng.choice(("int", "str", "x", 7, None))}),
    )
    return rng.choice(kinds)()


def conditions(rng: Random) -> str:
    """A filter as JSON, right or wrong."""
    shape = rng.random()
    if shape < 0.05:
        depth = rng.choice((15, 16, 17, 1000))
        return '{"operator": "NOT", "conditions": [' * depth + json.dumps(_comparison(rng)) + "]}" * depth
    if shape < 0.1:
        return json.dumps(_comparison(rng))[: rng.randrange(1, 40)]
    if shape < 0.15:
        return json.dumps({"field": "year", "operator": "in", "value": list(range(rng.choice((0, 1, 2000, 60_000))))})
    return json.dumps(_condition(rng, 3))


def _condition(rng: Random, depth: int) -> Any:
    if depth and rng.random() < 0.4:
        operator = rng.choice(("AND", "OR", "NOT", "XOR", "", None))
        return {"operator": operator, "conditions": [_condition(rng, depth - 1) for _ in range(rng.randrange(4))]}
    return _comparison(rng)


def _comparison(rng: Random) -> Any:
    made = {
        "field": rng.choice(("year", "kind", "meta.year", "field_0", "id", "codes", "", "a'b", "1=1", 7, None)),
        "operator": rng.choice(("==", "!=", "<", ">=", "in", "not in", "LIKE", "= 1 OR 1", 0)),
        "value": rng.choice((2020, "a", "'", "\\", None, True, 1.5, -(2**63), 2**63, [], [1, "a"], {}, float("inf"))),
    }
    if rng.random() < 0.1:
        made.pop(rng.choice(sorted(made)))
    if rng.random() < 0.1:
        made["more"] = 1
    return made


def floats(rng: Random, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Numbers as embeddings have them, or one of the extremes in one place, in one row, or everywhere."""
    values = np.random.default_rng(rng.getrandbits(32)).standard_normal(shape).astype(np.float32)
    extremes = (np.nan, np.inf, -np.inf, 1e38, -1e38, 3.4e38, 1e30, 1e5, 3e4, 1e-10, 1e-40, -0.0, 0.0)
    if values.size and rng.random() < 0.5:
        values[rng.choice((..., (0, ...), (0,) * len(shape)))] = rng.choice(extremes)
    return values


def integers(rng: Random, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Mostly the ones of a mask."""
    values = np.ones(shape, np.int64)
    if values.size and rng.random() < 0.5:
        values[rng.choice((..., (0, ...), (0,) * len(shape)))] = rng.choice((0, *INTEGERS, *EXTREME_INTEGERS))
    return values
