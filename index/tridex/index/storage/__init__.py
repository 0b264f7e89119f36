"""What lies on disk: each collection a Lance dataset, the registry of names, and what keeps files in order.

In reading order: `root` (the store), `registry`, `collection_folders`, `collection`, `spec` (the store format),
`document_rows` with `fields`, `metadata` and `codebook_file`; `filters` and `text_index` for reading; `compaction`,
`duplicate_ids`, `unfinished` and `writer_lock` for writing; `lance_session`, `file_errors`, `failure_kinds`,
`corruption`, `durability` and `change_time` between all of them and the files.
"""
