"""Names to offer in a message about one that stands for nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from difflib import get_close_matches

from tridex.index.errors import MayKnow

_OFFERED = 3
"""Names that a message offers."""

_COMPARED = 1000
"""Names that are compared with the wrong one, those next to it in their order: 20 µs each."""


def near_names(
    name: str, names: Iterable[str], is_meant: Callable[[str], bool], may_know: MayKnow = lambda _: True
) -> str:
    """The names most like this one, in words, for a message's end.

    Args:
        name: What was asked for.
        names: All names, sorted; any number of them.
        is_meant: Whether a name is of the kind that was asked for.
        may_know: Whether the message may have a name; of others it says nothing, nor how many there are.
    """
    names = list(filter(may_know, names))
    few = len(names) <= _OFFERED
    if not few:
        place = bisect_left(names, name)
        compared = names[max(place - _COMPARED // 2, 0) : place + _COMPARED // 2]
        names = get_close_matches(name, compared, n=_OFFERED**2)
    near = ", ".join([other for other in names if is_meant(other)][:_OFFERED])
    return f"; {'there are' if few else 'names like it'}: {near or 'none'}"
