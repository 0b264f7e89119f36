"""Reproduces the training of the default checkpoint, and writes the file that the package carries.

    python -m examples.training_pairs SCIFACT DEBIAN PAIRS
    python -m examples.default_checkpoint PAIRS

The result goes to export/tridex/export/default_checkpoint.safetensors. From then on, collections that were
indexed with another default checkpoint are refused.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import save_file
from sentence_transformers import MultiVectorEncoder

from tridex.export import write_default_checkpoint
from tridex.export.default_checkpoint import CHANGES
from tridex.export.low_rank import changes_of
from tridex.training import TrainingSettings, Tuning, train

SOURCES = ("claims", "titles", "sentences", "packages")
"""Without the functions: 300 steps with them, at twice the learning rate, cost 0.04 of nDCG@10 on CoSQA
(docs/quality.md)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="the folder that examples.training_pairs wrote")
    parser.add_argument("--output", type=Path, default=Path(".tridex/default-checkpoint"), help="a new folder")
    arguments = parser.parse_args()
    settings = TrainingSettings(
        model="untrained",
        data=tuple(arguments.pairs / f"{source}.jsonl" for source in SOURCES),
        output=arguments.output / "trained",
        tuning=Tuning.LORA,
        max_steps=150,
        batch_size=16,
        learning_rate=1e-4,
        projection_learning_rate=2e-4,
        held_out=0.02,
        bf16=True,
        tracking_uri=f"sqlite:///{arguments.output}/mlflow.db",
    )
    arguments.output.mkdir(parents=True)
    result = train(settings)
    pack(settings.output, write_default_checkpoint(arguments.output, "untrained"), CHANGES)
    print(
        f"held-out queries, before: {result.before}\nafter: {result.after}\n{CHANGES}: {CHANGES.stat().st_size:,} bytes"
    )


def pack(trained: Path, base: Path, file: Path) -> None:
    """Writes the differences of one checkpoint's weights from another's."""
    weights = [MultiVectorEncoder(str(folder), device="cpu").state_dict() for folder in (trained, base)]
    save_file(changes_of(*weights), file)


if __name__ == "__main__":
    main()
