"""How good retrieval is: judged collections, rankings of a server or of a baseline, measures, comparisons, tuning.

load_dataset    a judged collection: corpus, queries and relevance judgements    (loading.py)
compare_all     systems side by side, to a Report                                (comparison.py)
propose         a codec and pooling for a memory budget and a latency            (tuning.py)
"""

from typing import TYPE_CHECKING

from tridex.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .bi_encoder import BiEncoder
    from .comparison import Outcome, compare_all, prepared, report_on, run_systems
    from .dataset import Dataset, DatasetError
    from .loading import load_dataset
    from .measures import DEFAULT_MEASURES, MeasureError, check_depth, evaluate, parse_measures
    from .page import write_page
    from .report import DatasetReport, Report, ReportError, Row
    from .retrieval import LocalSystem, Retrieval, Retriever, index, retrieve, served_retriever
    from .stores import CollectionError
    from .strategies import BI_ENCODER
    from .systems import DEFAULT_BASELINE, DEFAULT_SYSTEMS, System, UnknownSystemError, parse_systems
    from .table import notes, sign, summary
    from .tuning import Limits, Proposal, TuningError, propose

__all__ = [
    "BI_ENCODER",
    "DEFAULT_BASELINE",
    "DEFAULT_MEASURES",
    "DEFAULT_SYSTEMS",
    "BiEncoder",
    "CollectionError",
    "Dataset",
    "DatasetError",
    "DatasetReport",
    "Limits",
    "LocalSystem",
    "MeasureError",
    "Outcome",
    "Proposal",
    "Report",
    "ReportError",
    "Retrieval",
    "Retriever",
    "Row",
    "System",
    "TuningError",
    "UnknownSystemError",
    "check_depth",
    "compare_all",
    "evaluate",
    "index",
    "load_dataset",
    "notes",
    "parse_measures",
    "parse_systems",
    "prepared",
    "propose",
    "report_on",
    "retrieve",
    "run_systems",
    "served_retriever",
    "sign",
    "summary",
    "write_page",
]

if not TYPE_CHECKING:  # which would take any name for an exported one
    __getattr__ = lazy_exports(
        __name__,
        {
            "bi_encoder": ["BiEncoder"],
            "comparison": ["Outcome", "compare_all", "prepared", "report_on", "run_systems"],
            "dataset": ["Dataset", "DatasetError"],
            "loading": ["load_dataset"],
            "measures": ["DEFAULT_MEASURES", "MeasureError", "check_depth", "evaluate", "parse_measures"],
            "page": ["write_page"],
            "report": ["DatasetReport", "Report", "ReportError", "Row"],
            "retrieval": ["LocalSystem", "Retrieval", "Retriever", "index", "retrieve", "served_retriever"],
            "stores": ["CollectionError"],
            "strategies": ["BI_ENCODER"],
            "systems": ["DEFAULT_BASELINE", "DEFAULT_SYSTEMS", "System", "UnknownSystemError", "parse_systems"],
            "table": ["notes", "sign", "summary"],
            "tuning": ["Limits", "Proposal", "TuningError", "propose"],
        },
    )
