"""MaxSim side by side: Tridex in every codec against torch, maxsim-cpu, late-interaction-kernels and flash-maxsim.

Parity is checked before anything is timed: ours against the float64 reference on a sample, every other library's
result against ours on the measured documents. Then all contenders of a row take turns. Of a library's forms the one
that is fastest on the row's own data is measured. Losses are published. On a GPU ours is measured twice, launched and
as the replay of what was captured before, and with the time that either takes the host.

    python -m benchmarks.maxsim            every row, figures to benchmarks/results/ and docs/benchmarks.md
    python -m benchmarks.maxsim --quick    small documents, under a minute, printed only
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec

import torch
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress

from tridex import kernels
from tridex.kernels import Codec

from . import maxsim_contenders as on_any
from . import maxsim_corpus as data
from . import maxsim_gpu_contenders as on_gpu
from . import roofline
from .maxsim_contenders import CANDIDATES, Contender
from .maxsim_corpus import SHAPES, Corpus, Shape
from .maxsim_parity import SAMPLE, check_against_ours, check_against_reference, check_replays
from .maxsim_table import tables
from .publishing import device_name, publish
from .timing import host_us, percentiles, side_by_side, take_turns

BATCHES = (1, 8, 32)
RERANK_BATCHES = (1, 8)
"""Queries of a rerank, over the last shape's documents."""


@dataclass(frozen=True)
class Limits:
    """What is measured on a device, so that a run ends in minutes."""

    tokens: float
    """At most, in a corpus; a shape of more is cut to its first documents."""
    batched_tokens: float
    """At most, of tokens times queries; batches see the corpus's first documents."""
    seconds: float
    """Of a row, all its contenders together; ROUNDS of timing.py have the last word."""


LIMITS = {
    "cpu": Limits(tokens=3e6, batched_tokens=6e6, seconds=12),
    "cuda": Limits(tokens=math.inf, batched_tokens=math.inf, seconds=1.5),
    "quick": Limits(tokens=6e4, batched_tokens=1.2e5, seconds=0.1),
}


@dataclass(frozen=True)
class Row:
    """One contender's times in one cell."""

    job: str
    shape: str
    documents: int
    """That each query is scored against."""
    tokens: int
    """Of these documents."""
    batch: int
    library: str
    form: str
    precision: str
    rounds: int
    ms: dict[str, float]
    host_us: float | None
    """Until one call of ours on a GPU returns, which waits for nothing."""
    gb_per_s: float
    tflop_per_s: float
    roofline_percent: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    quick = parser.parse_args().quick
    limits = LIMITS["quick" if quick else device.type]
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=160)
    with console.status("measuring the device"):
        ceiling = roofline.measure(device)
    console.print(f"{ceiling}")
    rows: list[Row] = []
    for found in measure(device, SHAPES, BATCHES, limits, ceiling, console):
        rows += found
        console.print(Markdown(tables([asdict(row) for row in found])))
        if not quick:  # After each shape, so that a run that is stopped leaves what it measured.
            words = (f"Roofline, measured: {ceiling}.", tables([asdict(row) for row in rows]), left_out(rows, limits))
            results: dict[str, object] = {"roofline": asdict(ceiling), "rows": [asdict(row) for row in rows]}
            publish(device_name(), results, "\n\n".join(words), installed(), section="Kernels")
    console.print(left_out(rows, limits))


def installed() -> list[str]:
    """The packages whose versions the figures depend on."""
    others = ("maxsim-cpu", "late-interaction-kernels", "flash-maxsim")
    return ["numpy", "torch", "triton", "numba", *(name for name in others if find_spec(name.replace("-", "_")))]


def measure(
    device: torch.device,
    shapes: Sequence[Shape],
    batches: Sequence[int],
    limits: Limits,
    ceiling: roofline.Roofline,
    console: Console,
) -> Iterator[list[Row]]:
    """Each shape's rows, and at last the rerank's; of searches that the limits make the same, the first."""
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("encoding", total=len(Codec) + len(shapes) * len(batches) + len(RERANK_BATCHES))
        kernels.warm_up(device, data.DIM, Codec)  # It chooses the kernels, too.
        pools = []
        for codec in Codec:
            pools.append(data.pool(codec, device, int(min(data.POOL_TOKENS, limits.tokens))))
            progress.advance(task)
        check_against_reference(data.corpus(SAMPLE, pools, math.inf))
        measured: set[tuple[float, int, bool]] = set()
        for shape in shapes:
            rows: list[Row] = []
            corpus = data.corpus(shape, pools, limits.tokens)
            for batch in batches:
                progress.update(task, advance=1, description=f"{shape.name}, {batch} queries")
                part = (
                    corpus.first(len(shape.lengths(min(limits.tokens, limits.batched_tokens / batch))))
                    if batch > 1
                    else corpus
                )
                size = (part.documents, batch, shape.ragged)
                if size not in measured:
                    measured.add(size)
                    rows += _search_rows(part, batch, device, limits, ceiling)
            if rows:
                yield rows
        rows = []
        for batch in RERANK_BATCHES:
            progress.update(task, advance=1, description=f"rerank, {batch} queries")
            rows += _rerank_rows(corpus, batch, device, limits, ceiling)
        yield rows


def _search_rows(
    corpus: Corpus, batch: int, device: torch.device, limits: Limits, ceiling: roofline.Roofline
) -> Iterator[Row]:
    queries = data.queries(batch, device)
    contenders = list(on_any.ours(corpus, queries))
    if device.type == "cuda":
        contenders += check_replays(on_any.our_search_replayed(corpus, queries), contenders)
    others: list[Iterator[Contender]] = [on_any.torch_search(corpus, queries, codec) for codec in _torch_codecs(device)]
    if device.type == "cuda":
        others += [on_gpu.lik_search(corpus, queries), on_gpu.flash_search(corpus, queries)]
    else:
        others.append(on_any.maxsim_cpu_search(corpus, queries))
    contenders += [best for forms in others for best in _fastest_forms(list(forms), corpus, queries, device)]
    all_times = side_by_side([contender.call for contender in contenders], device, limits.seconds)
    for contender, times in zip(contenders, all_times, strict=True):
        segment = corpus.segments[contender.precision]
        read, flops = kernels.search_bytes(segment), kernels.search_flops(segment, batch * data.QUERY_TOKENS)
        size, host = (corpus.documents, corpus.tokens), _host_us(contender, device)
        yield _row("search", corpus, size, batch, contender, times, host, read, flops, ceiling)


def _rerank_rows(
    corpus: Corpus, batch: int, device: torch.device, limits: Limits, ceiling: roofline.Roofline
) -> Iterator[Row]:
    queries = data.queries(batch, device)
    chance = torch.Generator().manual_seed(4)
    candidates = min(CANDIDATES, corpus.documents)
    drawn = [torch.randperm(corpus.documents, generator=chance)[:candidates] for _ in range(batch)]
    rows = torch.stack(drawn).to(device)
    contenders = list(on_any.our_rerank(corpus, queries, rows))
    if device.type == "cuda":
        contenders += check_replays(on_any.our_rerank_replayed(corpus, queries, rows), contenders)
    others = [on_any.torch_rerank(corpus, queries, rows, codec) for codec in _torch_codecs(device)]
    if device.type == "cuda":
        others += [on_gpu.lik_rerank(corpus, queries, rows), on_gpu.flash_rerank(corpus, queries, rows)]
    else:
        others.append(on_any.maxsim_cpu_rerank(corpus, queries, rows))
    contenders += [best for forms in others for best in _fastest_forms(list(forms), corpus, queries, device)]
    all_times = side_by_side([contender.call for contender in contenders], device, limits.seconds)
    offsets = next(iter(corpus.segments.values())).offsets
    tokens = int(offsets.diff()[rows].sum())
    for contender, times in zip(contenders, all_times, strict=True):
        read = tokens * contender.precision.bytes_per_token(data.DIM)
        flops = 2 * data.QUERY_TOKENS * data.DIM * tokens
        size, host = (candidates, tokens // batch), _host_us(contender, device)
        yield _row("rerank", corpus, size, batch, contender, times, host, read, flops, ceiling)


def _torch_codecs(device: torch.device) -> tuple[Codec, ...]:
    """float16 products are slow on a CPU."""
    return (Codec.FLOAT32, Codec.BFLOAT16, *((Codec.FLOAT16,) if device.type == "cuda" else ()))


def _fastest_forms(
    forms: list[Contender], corpus: Corpus, queries: torch.Tensor, device: torch.device
) -> Iterator[Contender]:
    """Checks every form, and keeps each precision's fastest."""
    for form in forms:
        check_against_ours(form, form.call(), corpus, queries)
    for precision in {form.precision: None for form in forms}:
        rivals = [form for form in forms if form.precision is precision]
        if len(rivals) > 1:
            times = take_turns([form.call for form in rivals], device, rounds=1)
            yield rivals[times.index(min(times))]
        else:
            yield from rivals


def _host_us(contender: Contender, device: torch.device) -> float | None:
    """Of a call of ours; some of the others' wait for the device."""
    return host_us(contender.call, device) if device.type == "cuda" and contender.library == "tridex" else None


def _row(
    job: str,
    corpus: Corpus,
    size: tuple[int, int],
    batch: int,
    contender: Contender,
    times: Sequence[float],
    host: float | None,
    read: int,
    flops: int,
    ceiling: roofline.Roofline,
) -> Row:
    ms = percentiles(times)
    seconds = ms["p50"] / 1000
    return Row(
        job=job,
        shape=corpus.shape.name,
        documents=size[0],
        tokens=size[1],
        batch=batch,
        library=contender.library,
        form=contender.form,
        precision=contender.precision.value,
        rounds=len(times),
        ms=ms,
        host_us=host,
        gb_per_s=read / seconds / 1e9,
        tflop_per_s=flops / seconds / 1e12,
        roofline_percent=100 * ceiling.seconds(contender.precision, read, flops) / seconds,
    )


def left_out(rows: Sequence[Row], limits: Limits) -> str:
    """Says what the limits cut, or nothing."""
    if limits.tokens == math.inf:
        return "Every shape at its full size."
    missing = [shape.name for shape in SHAPES if shape.name not in {row.shape for row in rows}]
    words = (
        f"To end in minutes, this device's run holds at most {limits.tokens / 1e6:g} million tokens per corpus and "
        f"{limits.batched_tokens / 1e6:g} million tokens times queries per search"
    )
    return f"{words}; left out: {', '.join(missing)}." if missing else f"{words}."


if __name__ == "__main__":
    main()
