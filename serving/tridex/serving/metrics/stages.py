"""Where the time of searches goes, read from the metrics of a running server."""

from __future__ import annotations

import urllib.request
from collections import defaultdict
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tridex.protocol.labels import APPROXIMATE
from tridex.protocol.parameters import SEARCH_MODES

from .table import STAGE_BATCHES, STAGE_DURATION, Stage

SEARCH_STAGES = tuple(
    stage.value for stage in (Stage.WAIT, Stage.TOKENISE, Stage.ENCODE, Stage.SCORE, Stage.FETCH, Stage.ANSWER)
)
"""Of a search by MaxSim, in their order; together they are its time in the model."""

_QUANTITIES = {
    f"{STAGE_DURATION.name}_sum": "seconds",
    f"{STAGE_DURATION.name}_count": "requests",
    STAGE_BATCHES.name: "batches",
}


@dataclass(frozen=True)
class StageTotal:
    """What a stage has done, all in all or for a while."""

    seconds: float = 0.0
    requests: float = 0.0
    batches: float = 0.0

    def since(self, before: StageTotal) -> StageTotal:
        """What it has done since then."""
        return StageTotal(self.seconds - before.seconds, self.requests - before.requests, self.batches - before.batches)


def read_stages(metrics_url: str) -> dict[str, StageTotal]:
    """Each stage, of the searches of all modes. Raises OSError where no server answers."""
    with urllib.request.urlopen(metrics_url, timeout=10) as answer:
        text = answer.read().decode()
    amounts: dict[str, dict[str, float]] = {stage.value: defaultdict(float) for stage in Stage}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            quantity = _QUANTITIES.get(sample.name)
            if quantity and sample.labels["mode"].removeprefix(APPROXIMATE) in SEARCH_MODES:
                amounts[sample.labels["stage"]][quantity] += sample.value
    return {stage: StageTotal(**of_stage) for stage, of_stage in amounts.items()}
