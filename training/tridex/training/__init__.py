"""Fine-tuning ColBERT models on triplets, with tracked experiments. `make export` takes what it makes."""

from .examples import Example, TrainingDataError, hold_out, read_examples
from .model import Tuning
from .trainer import TrainingResult, TrainingSettings, train

__all__ = [
    "Example",
    "TrainingDataError",
    "TrainingResult",
    "TrainingSettings",
    "Tuning",
    "hold_out",
    "read_examples",
    "train",
]
