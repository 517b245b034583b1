"""The rig: the model against QEMU's MMU, on generated tables, with no kernel.

run        a CPU model put to the test: every job asked, judged, counted
plan       which shapes of tables are tested on which CPU model
scenario   one job from a shape and a seed
tables     random tables, and what must be refused
job        a regime, its tables and its queries
query      what is asked, and what the answers say
judge      whether an answer is the model's
rig        a machine that runs the payload
home       how the payload itself is mapped
payload    the payload (guests/rig), assembled
layout     where things lie in memory, for host and guest
"""

from harness.rig.run import Tally, run_cpu

__all__ = ["Tally", "run_cpu"]
