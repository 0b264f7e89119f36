"""The CPU's backend, compiled by numba, from the arguments down to the registers.

backend.py         lays queries out, shares documents among threads, selects the best
kernels.py         the compiled loops: scores of blocks of documents, explanations
similarity.py      products of a token tile with a panel of query tokens
token_tile.py      tokens of neighbouring documents, made ready
codes.py           what is multiplied of each codec's codes
conversion.py      how conversions of codes are built
register_tile.py   the innermost loops
compiled.py        the decorator of all of them, and what numba keeps of them
"""
