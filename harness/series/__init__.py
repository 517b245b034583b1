"""A patch series at each page size: what each patch breaks, with the tree below it as control.

reading     a series and its base, from a mailbox, a quilt directory or commits
affected    which checks a patch calls for, by the files that it touches
values      what was seen of a kernel, and how that is stored
logs        warnings of a build, object by object
building    a kernel of each patch at each size
running     its checks, in guests
order       what is done next
verdicts    from what was seen to the table
engine      all of it together, resumable
"""
