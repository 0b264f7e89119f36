"""Kernels for one generation of GPUs, in Gluon: the Triton language with layouts, barriers and warps' roles by hand.

They are twins of the plain kernels beside this folder, with the same bits, and serve only where they were seen to
agree (../probe.py).

roles.py       which warps do what: the table, and the kernel's constants that follow from it
search.py      the kernel of a batch: its roles are
producer.py    lists of chunks
tiles.py       tiles of tokens, copied or decoded to shared memory
consumer.py    products, maxima, sums and the best sort keys
one_warp.py    the kernel of a single query
verdict.py     whether a kernel serves on the device at hand
"""
