"""Page tables for people: one translation explained, a whole half listed, compared and drawn.

    words        numbers and sizes as people write them
    half         which tables of a snapshot are meant
    layout       Linux's regions of the kernel half, by its formulas
    fields       descriptors in words, field by field
    refusal      which control refuses an access
    story        which registers rule a range, in words
    explain      one translation, every step
    survey       everything that a half maps, in rows, with totals
    difference   what differs between two halves
    json         all of these for programs
    text         all of these for a terminal
    picture      where the blocks of the drawing go
    svg          the drawing
    page         the drawing and its numbers as a web page

What tables mean is asked of `harness.vmsa` and `harness.bulk`; nothing is decided again here.
"""
