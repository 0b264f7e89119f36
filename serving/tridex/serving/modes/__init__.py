"""Search modes: one class and one file each, which says what a search needs and how it ranks a snapshot's documents."""

from .mode import FirstStage, Mode, Queries, Scan
from .table import MODES, parse_mode

__all__ = ["MODES", "FirstStage", "Mode", "Queries", "Scan", "parse_mode"]
