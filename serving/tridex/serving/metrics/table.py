"""Every metric of Tridex, once: code, documentation and tests read this table.

`python -m tridex.serving.metrics.table` prints it as docs/reference/metrics.md has it, which a test compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(str, Enum):
    """Prometheus' types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, eq=False)
class Metric:
    """One metric family. Compared by identity: each is there once, and hashing its fields takes 2 µs."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


MAX_COLLECTIONS = 100
"""Collections that a process gives a label of their own, the first that it sees of those that it holds; the rest are
OTHER."""

OTHER = "other"

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of every histogram's buckets: a stage may take 50 µs on a GPU, a write some seconds."""


class Stage(str, Enum):
    """What a request spends its time on; the values of the label `stage`."""

    WAIT = "wait"
    """None of the others: the queue, and the turns of other requests."""
    TOKENISE = "tokenise"
    """Tokens of the units of work that the request has texts in."""
    ENCODE = "encode"
    """The encoder's work on those units."""
    SCORE = "score"
    """MaxSim, and fusing rankings."""
    BM25 = "bm25"
    """BM25, which goes on beside MaxSim."""
    FETCH = "fetch"
    """Reading texts and metadata of hits."""
    EXPLAIN = "explain"
    """Explaining hits."""
    WRITE = "write"
    """A transaction of the store."""
    ANSWER = "answer"
    """Handing the answer to Triton server."""


_OF_STAGE = ("stage", "mode")
COLLECTION = "collection"
_OF_COLLECTION = (COLLECTION,)
_OF_LANE = ("lane",)

REQUESTS = Metric("tridex_requests_total", Kind.COUNTER, ("operation", "code"), "Requests answered by models")
REQUEST_DURATION = Metric(
    "tridex_request_duration_seconds",
    Kind.HISTOGRAM,
    ("operation",),
    "Time from a request's arrival at its model to its answer, of requests that succeeded",
)
STAGE_DURATION = Metric(
    "tridex_stage_duration_seconds",
    Kind.HISTOGRAM,
    _OF_STAGE,
    "Time that a request spent in a stage, of requests that succeeded",
)
STAGE_BATCHES = Metric(
    "tridex_stage_batches_total",
    Kind.COUNTER,
    _OF_STAGE,
    "Batches in which requests went through a stage; a batch of several modes counts in shares",
)
SHED = Metric(
    "tridex_shed_requests_total",
    Kind.COUNTER,
    _OF_LANE,
    "Requests refused as overloaded before they reached a model; not in tridex_requests_total",
)
IN_FLIGHT = Metric("tridex_requests_in_flight", Kind.GAUGE, ("model",), "Requests that a model has not answered yet")
QUEUED = Metric("tridex_queue_requests", Kind.GAUGE, _OF_LANE, "Requests of a lane that are not answered yet")
QUEUE_WAIT = Metric(
    "tridex_queue_wait_seconds", Kind.GAUGE, _OF_LANE, "How long a request that comes now will wait, as estimated"
)
PENDING = Metric(
    "tridex_pending_searches", Kind.GAUGE, (), "Searches that wait for the version that they must see to be loaded"
)
COLLECTIONS = Metric(
    "tridex_collections", Kind.GAUGE, ("state",), "Collections that searches know, by state: loaded, loading, failed"
)
DOCUMENTS = Metric("tridex_collection_documents", Kind.GAUGE, _OF_COLLECTION, "Documents that searches see")
TOKENS = Metric(
    "tridex_collection_tokens", Kind.GAUGE, _OF_COLLECTION, "Tokens in device memory, those of deleted rows included"
)
DEVICE_BYTES = Metric(
    "tridex_collection_device_bytes", Kind.GAUGE, _OF_COLLECTION, "Device memory reserved for a collection"
)
DELETED_ROWS = Metric(
    "tridex_collection_deleted_rows", Kind.GAUGE, _OF_COLLECTION, "Deleted rows that still take device memory"
)
VERSIONS_BEHIND = Metric(
    "tridex_collection_versions_behind",
    Kind.GAUGE,
    _OF_COLLECTION,
    "Versions of the store that searches do not see yet; of the collections under other, the most",
)
BUDGET = Metric("tridex_memory_budget_bytes", Kind.GAUGE, (), "Device memory for collections")
BUDGET_USED = Metric(
    "tridex_memory_budget_used_bytes",
    Kind.GAUGE,
    (),
    "Device memory that collections have reserved; what gives way to them, as inverted lists do, is not counted",
)
LOAD_FAILURES = Metric(
    "tridex_load_failures_total", Kind.COUNTER, (), "Attempts to load or to follow a collection that failed"
)
COMPACTIONS = Metric("tridex_compactions_total", Kind.COUNTER, (), "Rewrites of small and half deleted files")
MAINTENANCE_FAILURES = Metric(
    "tridex_maintenance_failures_total", Kind.COUNTER, (), "Attempts to maintain a collection's files that failed"
)
RECALL_FOUND = Metric(
    "tridex_recall_hits_found_total",
    Kind.COUNTER,
    (COLLECTION, "k"),
    "Documents of the exact top k that sampled approximate searches found",
)
RECALL_EXPECTED = Metric(
    "tridex_recall_hits_expected_total",
    Kind.COUNTER,
    (COLLECTION, "k"),
    "Documents of the exact top k of sampled approximate searches",
)
BUILD_INFO = Metric(
    "tridex_build_info", Kind.GAUGE, ("version", "device"), "1; the version of Tridex and the device that searches"
)
READY = Metric("tridex_ready", Kind.GAUGE, (), "1 where the server is ready, as the health endpoint says, else 0")
RESTARTS = Metric(
    "tridex_restarts_total",
    Kind.COUNTER,
    (),
    "Starts of tritonserver after the first, as it or one of its models failed",
)
PROCESS_MEMORY = Metric(
    "tridex_process_resident_memory_bytes", Kind.GAUGE, ("process",), "Resident memory of a process of the server"
)
PROCESS_FILES = Metric(
    "tridex_process_open_fds", Kind.GAUGE, ("process",), "Open file descriptors of a process of the server"
)

METRICS = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of them, in the order of the documentation."""


def metrics_table() -> str:
    """A Markdown table of every metric."""
    rows = ["| name | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind.value} | {labels} | {metric.help} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(metrics_table())
