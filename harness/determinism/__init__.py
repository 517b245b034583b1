"""Runs that repeat: one seed, the conditions that follow from it, and the comparison of two runs.

    seed         the one source of chance, and what is derived from it
    conditions   options of QEMU and words for the kernel
    obstacles    why a machine cannot be run so
    compare      two runs: identical, or the first difference
    record       what a report keeps, to run it again and to tell whether it was the same
    report       a cell's findings as bytes to compare

Pure values and functions: nothing here starts a guest. At the bottom of the layers, because a machine's spec
and a cell's result hold these values. What is and is not covered: docs/determinism.md.
"""
