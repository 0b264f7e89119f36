"""The backend of CUDA devices, in the Triton language, from the arguments down to the codes.

probe.py           a Gluon kernel against its plain twin, in a process of its own
backend.py         grids, working memory, arguments of the kernels
blocks.py          documents in blocks
query_tile.py      the static table of tile shapes
kernels.py         the kernels: search, merge, rescore, explain
documents.py       tiles of tokens, maxima and sums over a block of documents
top_k.py           the best sort keys of a stream
similarity.py      products of a query tile with a tile of tokens
codes.py           what is multiplied of each codec's codes
single_search.py   a single query on sm_90: memory and launches
single_query.py    what comes before and behind its scores
gluon/             batches and single queries on sm_90: kernels that stand for the plain ones where they agree
"""
