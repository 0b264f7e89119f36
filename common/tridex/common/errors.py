"""The base of every error that Tridex raises on purpose."""

from __future__ import annotations


class TridexError(Exception):
    """Its message is one sentence for the caller: the argument, its value, and what was expected or what helps."""


class RemediableError(TridexError):
    """Of something that whoever runs the program can mend.

    Attributes:
        problem: What is wrong.
        remedy: The command that mends it, or what to do.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy
