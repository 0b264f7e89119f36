"""The options of a search: one list for the client, the command line and the evaluation.

A new option is one line of `SearchOptions`: its type, how it is checked and sent, and its help on the command line. Its
name is that of the request parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, SupportsIndex, TypeAlias, TypedDict, get_type_hints

from tridex.protocol import limits, parameters
from tridex.protocol.parameters import SearchModeName

from . import checks

Filters: TypeAlias = Mapping[str, Any]
"""Conditions on metadata fields, as Haystack writes them."""


@dataclass(frozen=True)
class Option:
    """How an option is checked and sent, and what the command line says of it."""

    check: Callable[[str, Any], str | int | None]
    """From the option's name and value to the request parameter; None is not sent. Raises InvalidArgument."""
    default: object = None
    """An option whose default is None may be given as None, which is not checked and not sent."""
    help: str = ""
    """On the command line, which leaves out an option without help."""
    short: str = ""
    """The command line's other name for it."""


def _mode(name: str, value: SearchModeName) -> str | None:
    mode = checks.one_of(name, value, parameters.SEARCH_MODES)
    return None if mode == parameters.DEFAULT_MODE else mode


def _exact(name: str, value: bool) -> bool | None:
    return None if checks.flag(name, value) else False


def _offset(name: str, value: SupportsIndex) -> int | None:
    return checks.integer(name, value, 0, limits.MAX_TOP_K) or None


def _normalize(name: str, value: bool) -> bool | None:
    return True if checks.flag(name, value) else None


def _explain(name: str, value: bool | int) -> int | None:
    if isinstance(value, bool):
        return limits.DEFAULT_EXPLAINED if value else None
    return checks.integer(name, value, 0, limits.MAX_EXPLAINED) or None


def _explain_matrix(name: str, value: bool) -> bool | None:
    return checks.flag(name, value) or None


class SearchOptions(TypedDict, total=False):
    """Keyword arguments of `Client.search` and `Client.search_batch`, options of `tridex search`."""

    top_k: Annotated[int, Option(partial(checks.integer, minimum=1), limits.DEFAULT_TOP_K, "Hits to show.", "-k")]
    """Hits per query; 10 where left out."""
    mode: Annotated[
        SearchModeName,
        Option(
            _mode,
            parameters.DEFAULT_MODE,
            "Rank by maxsim, by bm25, by both fused (hybrid), or bm25's candidates by maxsim (rerank).",
        ),
    ]
    """What ranks the documents: "maxsim" where left out; "bm25", by the words; "rerank", MaxSim over the `n_candidates`
    best by BM25; "hybrid", the `n_candidates` best by each of the two, fused. All but "maxsim" need queries that are
    text."""
    exact: Annotated[bool, Option(_exact, True, "Let MaxSim score every document, or candidates by centroids.")]
    """False: MaxSim scores only the `n_candidates` documents of each segment that look best by centroids, for
    collections too large to score every document. True where left out."""
    n_probe: Annotated[
        int | None,
        Option(
            partial(checks.integer, minimum=1, maximum=limits.MAX_PROBE),
            help="With --no-exact: centroids that a query token probes.",
        ),
    ]
    """Centroids that each query token probes where `exact` is False; 8 where left out."""
    n_candidates: Annotated[
        int | None,
        Option(
            partial(checks.integer, minimum=1, maximum=limits.MAX_CANDIDATES),
            help="Documents that the first stage hands on.",
        ),
    ]
    """Documents that the first stage hands on; the larger of 1000 and `top_k` where left out."""
    maxsim_weight: Annotated[
        float | None,
        Option(checks.weight, help="Hybrid by a weighted sum of normalised scores: MaxSim's share, 0 to 1."),
    ]
    """In mode "hybrid": MaxSim's share, 0 to 1, of a weighted sum of min-max normalised scores. Where left out, the
    rankings are fused by reciprocal rank."""
    offset: Annotated[int, Option(_offset, 0, "Hits to leave out, the best ones.")]
    """Hits of each query that are left out, the best ones: 20 with a `top_k` of 10 is the third page. 0 where left out;
    with `top_k` at most 10,000."""
    min_score: Annotated[float | None, Option(checks.decimal, help="Leave out hits with a lower score.")]
    """Hits with a lower score are left out; with `normalize`, by the normalised score."""
    normalize: Annotated[bool, Option(_normalize, False, "Scores from 0 to 1.")]
    """Scores from 0 to 1 that mean the same for short and long queries: MaxSim divided by the query's tokens, the mean
    of their cosines; of "hybrid", the share of the best score that there can be. "bm25" has no largest score and
    refuses it. False where left out: raw scores."""
    filters: Annotated[Filters | None, Option(checks.filters_json)]
    """Conditions on metadata fields that every hit fulfils, as in Haystack: {"field": "year", "operator": ">=",
    "value": 2020} with ==, !=, <, <=, >, >=, in, not in, starts_with, contains, contains_any and contains_all,
    joined by {"operator": "AND", "conditions": [...]}, OR and NOT. A missing field equals None and nothing else."""
    with_text: Annotated[bool, Option(checks.flag, True)]
    """Whether hits have their texts; True where left out."""
    with_metadata: Annotated[bool, Option(checks.flag, True)]
    """Whether hits have their metadata; True where left out."""
    explain: Annotated[bool | int, Option(_explain, False)]
    """Which words hits were found by, as `Hit.explanation`: True for the best 10 hits of each query, or how many, 64 at
    most. Not in mode "bm25". False where left out."""
    explain_matrix: Annotated[bool, Option(_explain_matrix, False)]
    """Whether explanations hold every similarity, too; False where left out."""
    min_version: Annotated[
        int | None,
        Option(partial(checks.integer, minimum=0), help="See at least this store version; `upsert --json` prints it."),
    ]
    """The store version that the search sees at least. Where left out, it sees this client's own last write to the
    collection; 0 asks for no version at all."""


SEARCH_OPTIONS: Mapping[str, Option] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(SearchOptions, include_extras=True).items()
}


def search_parameters(options: SearchOptions) -> dict[str, str | int]:
    """The request parameters of a search. Raises InvalidArgument, and TypeError for an option that does not exist."""
    given: Mapping[str, Any] = {**options}
    if unknown := given.keys() - SEARCH_OPTIONS.keys():
        raise TypeError(f"search() got an unexpected keyword argument {min(unknown)!r}")
    sent: dict[str, str | int] = {}
    for name, option in SEARCH_OPTIONS.items():
        value = given.get(name, option.default)
        parameter = None if value is option.default is None else option.check(name, value)
        if parameter is not None:
            sent[name] = parameter
    return sent
