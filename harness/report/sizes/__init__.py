"""How large kernels are, side by side: `granule kernels size`.

comparison   what was measured, and what differs from what
sheet        its two tables, for every writer
terminal     the tables on a terminal
json         all of it for programs
picture      the drawing
page         drawing and tables as a web page
"""
