"""Benchmarks to the instruction: what a page size, or a patch, costs. See docs/benchmarks.md.

    guest_output   what the guest's program prints
    counts         what the plugin counted between two marks
    opcode         kinds of instructions that are told apart
    profile        those counts by function of the kernel
    result         all that was measured of one kernel at one page size, and its JSON
    files          what goes into a guest, and the plugin, made and kept in the cache
    agree          two runs and the plugin's counts: what all of them say
    measure, run   a guest, measured twice; many of them
    hardware       the same program's results from a machine of its own
    statistics     medians, intervals, permutation test
    compare        two results side by side
    reasons        where the instructions went: the functions that gained and lost
    shape, held    the page tables of the large area: as they are due, as they are found
    history        results over nights
    text           the tables on a terminal
    picture, page  the report as a web page

`scripts/bench` is something else: how long granule itself takes.
"""
