"""Asks every system the same queries and measures what they find."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from ir_measures.measures import Measure
from rich.console import Console

from tridex.client import Client, CollectionInfo
from tridex.common.device import CPU
from tridex.index import MIN_LISTED_DOCUMENTS

from .dataset import Dataset
from .measures import Evaluation, evaluate
from .report import DatasetReport, Report, Row
from .retrieval import LocalSystem, Retrieval, Retriever, retrieve, served_retriever
from .significance import holm, paired_p_value
from .stores import CollectionError, Collections, build_missing, served_collections
from .strategies import Strategy
from .systems import System

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
    local: Mapping[str, Callable[[], LocalSystem]],
    store: Path | None,
    repository: Path,
    runs: Path | None,
    keep: bool = False,
    device: str = CPU,
) -> Report:
    """Compares every system over every dataset. What is built for it is dropped at the end, whatever the end.

    Args:
        client: Connected to the server.
        datasets: Judged collections of distinct names.
        systems: What is compared.
        measures: The first is plotted, and tuned for.
        baseline: The name of the system that the others are tested against.
        top_k: Documents asked for.
        local: What creates each system of this process, by the system's name.
        store: The folder of the server's collections, where the missing ones may be built.
        repository: The server's model repository.
        runs: A folder for the rankings, in TREC's format.
        keep: Whether what is built stays, for a next comparison.
        device: "cpu" or "cuda:N", which encodes what is built.

    Raises:
        CollectionError: As of `prepared`.
    """
    running = {name: create() for name, create in local.items()}
    reports = []
    with prepared(client, datasets, systems, store, repository, keep=keep, device=device) as collections:
        for dataset, held in zip(datasets, collections, strict=True):
            outcomes = run_systems(client, dataset, systems, measures, held, top_k=top_k, local=running)
            reports.append(report_on(dataset, outcomes, baseline))
            if runs:
                write_runs(runs, dataset, outcomes)
    encoder = str(client.encoder()["source"])
    return Report(encoder, baseline, [str(measure) for measure in measures], reports)


@contextmanager
def prepared(
    client: Client,
    datasets: Sequence[Dataset],
    systems: Sequence[System],
    store: Path | None,
    repository: Path,
    *,
    keep: bool,
    device: str = CPU,
) -> Iterator[list[Collections]]:
    """The collections of each dataset. Those that are missing are built, and dropped at the end unless they are kept.

    Raises:
        CollectionError: Before any is built: a collection is missing and no store is given, or one does not fit.
    """
    names = [dataset.name for dataset in datasets]
    if twice := {dataset.name for i, dataset in enumerate(datasets) if dataset.name in names[:i]}:
        raise CollectionError(f"two datasets are named {min(twice)!r}; expected distinct names: collections have them")
    collections = [served_collections(client, dataset, systems) for dataset in datasets]
    absent = dict.fromkeys(
        system.collection(dataset.name)
        for dataset, held in zip(datasets, collections, strict=True)
        for system in systems
        if system.is_served and held.of(system) is None
    )
    if absent and store is None:
        raise CollectionError(
            f"the server has no collection {', '.join(absent)}; expected --store with the folder of its "
            "collections and --repository with its model repository, to build them"
        )
    try:
        if absent and store is not None:
            for dataset, held in zip(datasets, collections, strict=True):
                build_missing(client, dataset, systems, held, store, repository, device)
        yield collections
    finally:
        if not keep:
            for name in [name for held in collections for name in held.built]:
                client.drop_collection(name)


def systems_at_hand(client: Client, datasets: Sequence[Dataset], systems: Sequence[System]) -> list[System]:
    """Those of `systems` that need no collection to be built. Raises CollectionError."""
    collections = [served_collections(client, dataset, systems) for dataset in datasets]
    return [s for s in systems if not s.is_served or all(held.of(s) is not None for held in collections)]


def run_systems(
    client: Client,
    dataset: Dataset,
    systems: Sequence[System],
    measures: Sequence[Measure],
    collections: Collections,
    *,
    top_k: int,
    local: Mapping[str, LocalSystem],
) -> list[Outcome]:
    """Asks the systems in turns; their collections exist. `local` holds those of this process by name."""
    described = {
        system.name: client.describe_collection(collection)
        for system in systems
        if system.is_served and (collection := collections.of(system)) is not None
    }
    retrievers: dict[str, Retriever] = {}
    for system in systems:
        if system.is_served:
            retrievers[system.name] = _served(client, dataset, system.ranking, described[system.name], top_k)
        else:
            local[system.name].index(dataset)
            retrievers[system.name] = partial(local[system.name].search, top_k=top_k)
    found = retrieve(retrievers, dataset)
    outcomes = []
    for system in systems:
        retrieval = found[system.name]
        evaluation = evaluate(dataset.qrels, retrieval.run, measures)
        sizes: tuple[float | None, float | None] = (None, None)
        if system.ranking.uses_embeddings:
            info = described[system.name]
            sizes = (info.device_bytes / info.count, info.budget_bytes / info.count)
        elif not system.is_served:
            sizes = (local[system.name].bytes_per_document, None)
        outcomes.append(Outcome(system, retrieval, evaluation, *sizes))
    return outcomes


def report_on(dataset: Dataset, outcomes: Sequence[Outcome], baseline: str) -> DatasetReport:
    """The report of one collection: each system's means, and whether they differ from those of the baseline."""
    evaluations = {outcome.system.name: outcome.evaluation for outcome in outcomes}
    reference = evaluations.pop(baseline)
    p_values = {
        measure: holm({name: _p_value(one, reference, measure) for name, one in evaluations.items()})
        for measure in reference.by_query
    }
    documents = sum(1 for _ in dataset.documents())
    rows = [_row(outcome, p_values) for outcome in outcomes]
    return DatasetReport(dataset.name, dataset.split, documents, len(dataset.queries), rows)


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
        codec=system.codec if system.ranking.uses_embeddings else None,
        pooling_factor=system.pooling_factor,
        strategy=system.strategy,
        measures=outcome.evaluation.means,
        p_values={measure: values[system.name] for measure, values in p_values.items() if system.name in values},
        **outcome.retrieval.percentiles(),
        bytes_per_document=outcome.bytes_per_document,
        budget_bytes_per_document=outcome.budget_bytes_per_document,
    )


def _p_value(one: Evaluation, other: Evaluation, measure: str) -> float:
    queries = one.by_query[measure]
    return paired_p_value(list(queries.values()), [other.by_query[measure][query] for query in queries])


def _served(client: Client, dataset: Dataset, ranking: Strategy, info: CollectionInfo, top_k: int) -> Retriever:
    """Asks the server, which has loaded the collection, and built its inverted lists where they are needed."""
    text = next(iter(dataset.queries.values()))
    client.search(info.name, text, min_version=info.version, timeout_s=_LOADING_TIMEOUT_S)
    if ranking.needs_inverted_lists:
        _await_lists(client, info.name, info.count, dataset)
    return served_retriever(client, info.name, **ranking.options(top_k))


def _await_lists(client: Client, collection: str, documents: int, dataset: Dataset) -> None:
    """Returns once a candidate search differs from an exact one, which it does not before the lists are built.

    With one probe and ten candidates hardly any query finds all of its ten best. Gives up after some minutes, and at
    once where the collection is too small for lists: then every search is exact.
    """
    if documents < MIN_LISTED_DOCUMENTS:
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
