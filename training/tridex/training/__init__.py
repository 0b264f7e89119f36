"""Fine-tuning ColBERT models on triplets and mining hard negatives for it, recorded by experiment trackers.

read_examples    rows of query, positive and negatives                     (examples.py)
mine             hard negatives from a served collection                   (mining.py)
train            the checkpoint, measured before and after                 (trainer.py)
"""

from typing import TYPE_CHECKING

from tridex.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .examples import Example, TrainingDataError, read_examples
    from .mining import index_positives, mine, write_examples
    from .model import Tuning
    from .tracking import TrackingError
    from .trainer import TrainingResult, TrainingSettings, train

__all__ = [
    "Example",
    "TrackingError",
    "TrainingDataError",
    "TrainingResult",
    "TrainingSettings",
    "Tuning",
    "index_positives",
    "mine",
    "read_examples",
    "train",
    "write_examples",
]

if not TYPE_CHECKING:  # which would take any name for an exported one
    __getattr__ = lazy_exports(
        __name__,
        {
            "examples": ["Example", "TrainingDataError", "read_examples"],
            "mining": ["index_positives", "mine", "write_examples"],
            "model": ["Tuning"],
            "tracking": ["TrackingError"],
            "trainer": ["TrainingResult", "TrainingSettings", "train"],
        },
    )
