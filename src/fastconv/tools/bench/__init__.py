"""The benchmark suite: every algorithm and every installed peer, compared first, then timed, beside the machine's limit.

A problem is a line (:mod:`problem`), a network's layers are a file of lines (:mod:`suites`), an engine is a small module
under :mod:`engines` that runs in a process of its own (:mod:`worker`), and a run is a list of rows (:mod:`results`).
"""
