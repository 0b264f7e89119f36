"""Measures of a run, computed by ir_measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ir_measures
from ir_measures.measures import Measure

from tridex.common import TridexError

from .dataset import Qrels

Run = Mapping[str, Mapping[str, float]]
"""The documents that were found for each query, with their scores."""

DEFAULT_MEASURES = ("nDCG@10", "RR@10", "R@10", "R@100")


class MeasureError(TridexError):
    """A measure that ir_measures does not know."""


@dataclass(frozen=True)
class Evaluation:
    """Each measure's value for every judged query; a query without hits counts with 0."""

    by_query: dict[str, dict[str, float]]

    @property
    def means(self) -> dict[str, float]:
        """Each measure's mean over all judged queries."""
        return {name: sum(values.values()) / len(values) for name, values in self.by_query.items()}


def parse_measures(names: Sequence[str]) -> list[Measure]:
    """Measures by the names that ir_measures gives them: nDCG@10, RR@10 (MRR@10), R@100. Raises MeasureError."""
    return [_parse(name) for name in names]


def check_depth(measures: Sequence[Measure], top_k: int) -> None:
    """Raises MeasureError where a measure looks at more documents than are asked for."""
    for measure in measures:
        if (cutoff := measure.params.get("cutoff", 0)) > top_k:
            raise MeasureError(
                f"measure {measure} looks at {cutoff} documents and {top_k} are asked for; expected a larger top_k"
            )


def _parse(name: str) -> Measure:
    try:
        return ir_measures.parse_measure(name)
    except (NameError, ValueError, TypeError, SyntaxError) as error:
        raise MeasureError(
            f"measure {name!r} is not known; expected names of ir_measures such as {', '.join(DEFAULT_MEASURES)}"
        ) from error


def evaluate(qrels: Qrels, run: Run, measures: Sequence[Measure]) -> Evaluation:
    """Measures a run against the judgements."""
    found = {query: dict(run.get(query, {})) for query in qrels}
    by_query: dict[str, dict[str, float]] = {str(measure): dict.fromkeys(qrels, 0.0) for measure in measures}
    for value in ir_measures.iter_calc(list(measures), qrels, found):
        by_query[str(value.measure)][value.query_id] = float(value.value)
    return Evaluation(by_query)
