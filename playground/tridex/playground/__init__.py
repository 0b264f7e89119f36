"""The playground: one page over a file of documents, to see what ColBERT finds there and what it costs.

guessing.py         which columns of a file are ids and texts
searching.py        one question to ColBERT, the bi-encoder and BM25
local_ranking.py    the bi-encoder, in this process
timing.py           where the time of a search goes
codec_costs.py      what each codec costs on these documents
filter_controls.py  what the page can filter by
snippets.py         the same search in a program
app.py              all of that over HTTP, and the page (page/)
cli/                `tridex try`, which starts server and page

The app talks to the server through the client alone, as any other program does.
"""
