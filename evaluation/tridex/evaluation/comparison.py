"""Asks every system the same queries and judges what they find."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from ir_measures.measures import Measure
from rich.console import Console

from tridex.client import Client, CollectionInfo, SearchOptions
from tridex.index.resident.inverted_lists import MIN_DOCUMENTS

from .bi_encoder import BiEncoder
from .dataset import Dataset
from .measures import Evaluation, evaluate
from .report import Judged, Report, Row
from .retrieval import Ask, Retrieval, retrieve, served
from .significance import holm, paired_p_value
from .stores import CollectionError, build_missing, missing
from .systems import CANDIDATES, System

_DATA = Path(".tridex")
_LISTS_TIMEOUT_S = 300.0
_LISTS_QUERIES = 8
_LOADING_TIMEOUT_S = 120.0
"""For a collection's first search, which waits until it is on the device."""


@dataclass(frozen=True)
class Outcome:
    """What one system found."""

    system: System
    retrieval: Retrieval
    evaluation: Evaluation
    bytes_per_document: float | None
    budget_bytes_per_document: float | None


def compare_all(
    client: Client,
    datasets: Sequence[Dataset],
    systems: Sequence[System],
    measures: Sequence[Measure],
    *,
    baseline: str,
    top_k: int,
    bi_encoder: str | None,
    store: Path | None,
    repository: Path,
    runs: Path | None,
) -> Report:
    """Every system over every data set; what is missing is built first, as `prepare` does. Runs go into `runs`."""
    prepare(client, datasets, systems, store, repository)
    cache = store.parent if store else _DATA
    model = BiEncoder(bi_encoder, cache / "bi-encoder") if bi_encoder else None
    judged = []
    for dataset in datasets:
        outcomes = run_systems(client, dataset, systems, measures, top_k=top_k, bi_encoder=model)
        judged.append(judge(dataset, outcomes, baseline))
        if runs:
            write_runs(runs, dataset, outcomes)
    encoder = str(client.server_info().encoder["source"])
    return Report(encoder, baseline, [str(measure) for measure in measures], judged)


def prepare(
    client: Client, datasets: Sequence[Dataset], systems: Sequence[System], store: Path | None, repository: Path
) -> None:
    """Builds the collections that are missing, where the server's `store` is given.

    Raises CollectionError where a collection is missing and no store is given, or does not fit, before any is built.
    """
    names = [dataset.name for dataset in datasets]
    if twice := {dataset.name for i, dataset in enumerate(datasets) if dataset.name in names[:i]}:
        raise CollectionError(f"two data sets are named {min(twice)!r}; expected distinct names: collections have them")
    absent = [(dataset, missing(client, dataset, systems)) for dataset in datasets]
    collections = [system.collection(dataset.name) for dataset, those in absent for system in those]
    if collections and store is None:
        raise CollectionError(
            f"the server has no collection {', '.join(collections)}; expected --store with the folder of its "
            "collections and --repository with its model repository, to build them"
        )
    for dataset, those in absent:
        if those and store is not None:
            build_missing(client, dataset, those, store, repository)
            missing(client, dataset, systems)


def run_systems(
    client: Client,
    dataset: Dataset,
    systems: Sequence[System],
    measures: Sequence[Measure],
    *,
    top_k: int,
    bi_encoder: BiEncoder | None = None,
) -> list[Outcome]:
    """Asks the systems in turns; their collections are there. `bi_encoder` answers for the system of that name."""
    described = {
        system.name: client.describe_collection(system.collection(dataset.name))
        for system in systems
        if system.is_served
    }
    asked: dict[str, Ask] = {}
    for system in systems:
        if bi_encoder is not None and not system.is_served:
            bi_encoder.index(dataset)
            asked[system.name] = partial(bi_encoder.search, top_k=top_k)
        else:
            asked[system.name] = _served(client, dataset, system, described[system.name], top_k)
    found = retrieve(asked, dataset)
    outcomes = []
    for system in systems:
        retrieval = found[system.name]
        evaluation = evaluate(dataset.qrels, retrieval.run, measures)
        sizes: tuple[float | None, float | None] = (None, None)
        if system.has_tokens:
            info = described[system.name]
            sizes = (info.device_bytes / info.count, info.budget_bytes / info.count)
        elif bi_encoder is not None and not system.is_served:
            sizes = (bi_encoder.bytes_per_document, None)
        outcomes.append(Outcome(system, retrieval, evaluation, *sizes))
    return outcomes


def judge(dataset: Dataset, outcomes: Sequence[Outcome], baseline: str) -> Judged:
    """The report of one collection: each system's means, and whether they differ from those of the baseline."""
    there = {outcome.system.name: outcome for outcome in outcomes}
    tested = {name: outcome.evaluation for name, outcome in there.items() if name != baseline}
    p_values = {
        measure: holm({name: _p_value(one, there[baseline].evaluation, measure) for name, one in tested.items()})
        for measure in there[baseline].evaluation.by_query
    }
    documents = sum(1 for _ in dataset.documents())
    rows = [_row(outcome, p_values) for outcome in outcomes]
    return Judged(dataset.name, dataset.split, documents, len(dataset.queries), rows)


def write_runs(folder: Path, dataset: Dataset, outcomes: Sequence[Outcome]) -> None:
    """A TREC run file for each system."""
    folder.mkdir(parents=True, exist_ok=True)
    for outcome in outcomes:
        name = outcome.system.name
        outcome.retrieval.write(folder / f"{dataset.name}.{name}.trec", name)


def _row(outcome: Outcome, p_values: Mapping[str, Mapping[str, float]]) -> Row:
    system = outcome.system
    return Row(
        system=system.name,
        codec=system.codec if system.has_tokens else None,
        pooling_factor=system.pooling_factor,
        way=system.way,
        measures=outcome.evaluation.means,
        p_values={measure: values[system.name] for measure, values in p_values.items() if system.name in values},
        **outcome.retrieval.percentiles(),
        bytes_per_document=outcome.bytes_per_document,
        budget_bytes_per_document=outcome.budget_bytes_per_document,
    )


def _p_value(one: Evaluation, other: Evaluation, measure: str) -> float:
    queries = one.by_query[measure]
    return paired_p_value(list(queries.values()), [other.by_query[measure][query] for query in queries])


def _served(client: Client, dataset: Dataset, system: System, info: CollectionInfo, top_k: int) -> Ask:
    """Asks the server, which has loaded the collection, and made its inverted lists where they are wanted."""
    name = system.collection(dataset.name)
    text = next(iter(dataset.queries.values()))
    client.search(name, text, min_version=info.version, timeout_s=_LOADING_TIMEOUT_S)
    if system.way == "candidates":
        _await_lists(client, name, info.count, dataset)
    depth = max(CANDIDATES, top_k)
    options: dict[str, SearchOptions] = {
        "exact": {"top_k": top_k, "mode": "maxsim"},
        "candidates": {"top_k": top_k, "exact": False, "n_candidates": depth},
        "rerank": {"top_k": top_k, "mode": "rerank", "n_candidates": depth},
        "hybrid": {"top_k": top_k, "mode": "hybrid"},
        "bm25": {"top_k": top_k, "mode": "bm25"},
    }
    return served(client, name, **options[system.way])


def _await_lists(client: Client, collection: str, documents: int, dataset: Dataset) -> None:
    """Returns once a search by candidates differs from an exact one, which it does not while the lists are being made.

    With one probe and ten candidates hardly any query finds all of its ten best. Gives up after some minutes, and where
    the collection is too small for lists: then it is searched exactly.
    """
    if documents < MIN_DOCUMENTS:
        return
    texts = list(islice(dataset.queries.values(), _LISTS_QUERIES))
    exact = [[hit.id for hit in hits] for hits in client.search_batch(collection, texts)]
    deadline = time.monotonic() + _LISTS_TIMEOUT_S
    with Console(stderr=True).status(f"inverted lists of {collection}"):
        while time.monotonic() < deadline:
            found = client.search_batch(collection, texts, exact=False, n_probe=1, n_candidates=10)
            if [[hit.id for hit in hits] for hits in found] != exact:
                return
            time.sleep(0.5)
