"""How good a served collection is: judged collections (dataset), rankings (retrieval), measures.

The modules are imported one by one: the command line imports this package for every command, and pandas takes a second.
"""
