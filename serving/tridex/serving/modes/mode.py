"""What a search mode is: the interface between a search engine and the ways to find and rank documents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import torch

from tridex.index import Found, Ranking, Snapshot
from tridex.serving.backend.service import Request


@dataclass(frozen=True)
class Queries:
    """The queries of one or more requests as token embeddings; without tokens where the mode needs none."""

    embeddings: torch.Tensor
    """float32 [queries, tokens, dim]"""
    mask: torch.Tensor
    """bool [queries, tokens], False where a token does not count."""


class FirstStage(NamedTuple):
    """The rankings that a mode asked for, one per query each; empty where it asked for none."""

    by_maxsim: list[Ranking]
    """What the mode's scan found."""
    by_bm25: list[Ranking]


class Scan(Protocol):
    """A pass of MaxSim over a snapshot's index.

    Scans that are equal are one pass for the queries of all requests of a batch that see the same snapshot.
    """

    exact: ClassVar[bool]
    """Whether every document is scored. Others are sampled by the recall monitor."""

    def find(self, snapshot: Snapshot, queries: Queries, depth: int) -> Found:
        """Starts to look for the best `depth` documents of each query."""
        ...


class Mode(ABC):
    """One way to find and rank documents, with its parameters.

    The class says which requests lead to it and what these need; an instance is one request's.
    """

    name: ClassVar[str]
    """Value of the parameter `mode`."""
    exact: ClassVar[bool] = True
    """Value of the parameter `exact`."""
    candidates_given: ClassVar[bool] = False
    """Whether the request names the documents to rank, in CANDIDATE_IDS."""
    parameters: ClassVar[tuple[str, ...]] = ()
    """Further parameters that have an effect. Those of other modes are refused."""
    needs_text: ClassVar[bool] = False
    """Whether BM25 takes part, which reads the queries' words."""
    needs_embeddings: ClassVar[bool] = True
    """Whether MaxSim takes part, so that queries that come as texts are encoded."""
    scores_are_maxsim: ClassVar[bool] = True
    """Whether the scores of the ranking are MaxSim, which some checkpoints divide by the query's number of tokens."""

    @property
    def largest_score(self) -> float | None:
        """Of scores that are not MaxSim: the best that there can be; None where there is none."""
        return None

    @classmethod
    @abstractmethod
    def parse(cls, request: Request, top_k: int) -> Mode:
        """The mode with the request's parameters. Raises RequestError INVALID_ARGUMENT."""

    def scan(self) -> Scan | None:
        """The pass over the index from which the mode takes documents, None where it makes none."""
        return None

    def depth(self, top_k: int) -> int:
        """How many documents of each first-stage ranking, by its scan and by BM25, the mode takes."""
        return top_k

    @abstractmethod
    def rank(self, snapshot: Snapshot, queries: Queries, first_stage: FirstStage) -> list[Ranking] | Found:
        """Each query's ranking, of which the best `top_k` are the answer; Found where the device has to make it."""
