"""kselftest in guests: a collection of Linux's own tests, built from a kernel's source, each one a check.

`build` makes the programs, `script` says which tests there are, `facts` what each needs and is known to fail,
`check` runs one, `judge` says what came of it.
"""
