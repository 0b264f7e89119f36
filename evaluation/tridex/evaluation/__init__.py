"""How good a served collection is: judged collections, runs, measures, and the comparison of systems."""

from .dataset import Dataset, DatasetError, load_dataset
from .measures import DEFAULT_MEASURES, Evaluation, MeasureError, evaluate, parse_measures
from .retrieval import Retrieval, index, retrieve

__all__ = [
    "DEFAULT_MEASURES",
    "Dataset",
    "DatasetError",
    "Evaluation",
    "MeasureError",
    "Retrieval",
    "evaluate",
    "index",
    "load_dataset",
    "parse_measures",
    "retrieve",
]
