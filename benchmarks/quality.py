"""How well each system ranks, and its cost: BM25, a bi-encoder, every codec, pooled tokens, candidates, hybrid.

Over every dataset with judgements below --corpora that is not too large for two cores, through a server of its own on
the default checkpoint. Collections and vectors are cached below --data, by checkpoint.

    python -m benchmarks.quality --corpora DIR [--also untrained]
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from tridex.client import Client
from tridex.encoding import latest_version_dir, load_artifact
from tridex.evaluation import (
    BI_ENCODER,
    DEFAULT_BASELINE,
    DEFAULT_MEASURES,
    DEFAULT_SYSTEMS,
    BiEncoder,
    Dataset,
    LocalSystem,
    Outcome,
    Report,
    Row,
    System,
    load_dataset,
    notes,
    parse_measures,
    parse_systems,
    prepared,
    report_on,
    run_systems,
    sign,
    summary,
    write_page,
)
from tridex.export import BUILT_IN, backbone_dir, export_checkpoint, export_default
from tridex.serving.server import TritonServer
from tridex.serving.settings import ServerSettings

from .environment import free_ports
from .publishing import publish

DOCS = Path(__file__).parent.parent / "docs" / "quality-table.md"
PACKAGES = ("numpy", "onnxruntime", "torch", "sentence-transformers", "ir-measures", "nvidia-pytriton")
MOST_DOCUMENTS = 10_000
TOP_K = 100
DEFAULT = "default"

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, required=True, help="a folder of BEIR folders")
    parser.add_argument("--only", nargs="*", help="names of datasets; all where left out")
    parser.add_argument(
        "--also", help="a checkpoint for one more row; 'untrained': the default's encoder with a random projection"
    )
    parser.add_argument("--systems", default=",".join(DEFAULT_SYSTEMS), help="as for `tridex compare`")
    parser.add_argument("--data", type=Path, default=Path(".tridex"), help="where collections are cached")
    parser.add_argument("--dry", action="store_true", help="write the page and publish nothing")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that the server is stopped too.
    data = arguments.data / "quality"
    datasets = datasets_below(arguments.corpora, arguments.only)
    if not datasets:
        raise SystemExit(f"no collection with judgements and up to {MOST_DOCUMENTS:,} documents in {arguments.corpora}")
    systems = parse_systems(arguments.systems.split(","))
    encoder, outcomes = measured(DEFAULT, datasets, systems, data)
    if arguments.also:
        name = f"{DEFAULT_BASELINE}, {Path(arguments.also).name}"
        further = [replace(system, name=name) for system in parse_systems([DEFAULT_BASELINE])]
        _, others = measured(arguments.also, datasets, further, data)
        outcomes = [[*one, *other] for one, other in zip(outcomes, others, strict=True)]
    reports = [report_on(dataset, found, DEFAULT_BASELINE) for dataset, found in zip(datasets, outcomes, strict=True)]
    report = Report(encoder, DEFAULT_BASELINE, list(DEFAULT_MEASURES), reports)
    page = data / "quality.html"
    write_page(page, report)
    markdown = table(report)
    console.print(Markdown(markdown))
    console.print(f"The page with plots: {page}")
    if not arguments.dry:
        publish("quality", report.to_dict(), markdown, PACKAGES, docs=DOCS)


def datasets_below(folder: Path, only: Sequence[str] | None) -> list[Dataset]:
    """The datasets below a folder that have judgements and are not too large, or those of these names."""
    datasets = []
    for path in sorted(path.parent for path in folder.glob("*/qrels")):
        if only is None or path.name in only:
            dataset = load_dataset(path)
            count = sum(1 for _ in dataset.documents())
            if only is None and count > MOST_DOCUMENTS:
                console.print(f"{path.name} is left out: {count:,} documents (--only {path.name} measures it)")
                continue
            datasets.append(dataset)
    return datasets


def measured(
    model: str, datasets: Sequence[Dataset], systems: Sequence[System], data: Path
) -> tuple[str, list[list[Outcome]]]:
    """The checkpoint's name, and what every system finds in every collection, through a server on that checkpoint."""
    local: dict[str, LocalSystem] = {}
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        export(model, repository)
        manifest = load_artifact(latest_version_dir(repository / "encoder")).manifest
        store = data / manifest.fingerprint[:12] / "store"
        grpc_port, http_port, metrics_port = free_ports(3)
        settings = ServerSettings(
            repository=repository, store=store, grpc_port=grpc_port, http_port=http_port, metrics_port=metrics_port
        )
        server = TritonServer(settings)
        with server, Client(server.address, timeout_s=120) as client:
            if any(not system.is_served for system in systems):
                local[BI_ENCODER] = BiEncoder(str(backbone_dir()), data / "bi-encoder")
            measures = parse_measures(DEFAULT_MEASURES)
            with prepared(client, datasets, systems, store, repository, keep=True) as collections:
                return manifest.source, [
                    run_systems(client, dataset, systems, measures, held, top_k=TOP_K, local=local)
                    for dataset, held in zip(datasets, collections, strict=True)
                ]


def export(model: str, repository: Path) -> None:
    """Exports a checkpoint by its name: the default one, the untrained one, a folder or a Hub id."""
    if model in BUILT_IN:
        export_default(repository, name=model)
    else:
        export_checkpoint(model, repository=repository)


def table(report: Report) -> str:
    """Every system: its averages, the first measure in each dataset, and its cost."""
    first, *rest = report.measures
    single = len(report.collections) == 1
    names = [] if single else [one.name for one in report.collections]
    largest = max(range(len(report.collections)), key=lambda i: report.collections[i].documents)
    slowest = report.collections[largest]
    (baseline,) = [row for row in report.average if row.system == report.baseline]
    heads = [
        "system", first, f"less {report.baseline}'s", *rest, *names, "kB/document",
        f"p50 ms ({slowest.name})", f"p95 ms ({slowest.name})",
    ]  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for i, row in enumerate(report.average):
        values = [f"{row.measures[name]:.4f}" for name in rest]
        each = [_in_collection(one.rows, i, report) for one in report.collections if not single]
        size = "-" if row.bytes_per_document is None else f"{row.bytes_per_document / 1000:,.1f}"
        times = [f"{slowest.rows[i].p50_ms:.1f}", f"{slowest.rows[i].p95_ms:.1f}"]
        better = sign(row, first, report.average, report.baseline)
        quality = [
            f"{row.measures[first]:.4f} {better}".strip(),
            f"{row.measures[first] - baseline.measures[first]:+.4f}",
        ]
        lines.append("| " + " | ".join([row.system, *quality, *values, *each, size, *times]) + " |")
    means = "" if single else f" The columns {first} to {rest[-1]} are means over the collections."
    return "\n".join([*lines, "", summary(report) + means, *(f"\n{note}" for note in notes(report))])


def _in_collection(rows: Sequence[Row], i: int, report: Report) -> str:
    first = report.measures[0]
    return f"{rows[i].measures[first]:.3f} {sign(rows[i], first, rows, report.baseline)}".strip()


if __name__ == "__main__":
    main()
