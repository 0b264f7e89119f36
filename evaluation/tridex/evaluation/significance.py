"""Whether a difference between two systems is more than chance: paired tests over the queries that both were asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

_RESAMPLES = 9999
_SEED = 0


def paired_p_value(values: Sequence[float], baseline: Sequence[float]) -> float:
    """How often a difference of means at least as large would come about if, query by query, it were chance which of
    the two systems got which value: Fisher's randomisation test, two-sided (Smucker, Allan and Carterette 2007).

    It assumes no distribution, which measures such as reciprocal rank have none of. 9,999 draws, the same every time.
    """

    def difference(a: NDArray[np.float64], b: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        means: NDArray[np.float64] = np.mean(a - b, axis=axis)
        return means

    tested = permutation_test(
        (np.asarray(values), np.asarray(baseline)),
        difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_RESAMPLES,
        rng=np.random.default_rng(_SEED),
    )
    return float(tested.pvalue)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for as many comparisons as there are (Holm 1979): below 0.05, the chance that any of them is a
    false alarm is at most 5 %.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}
