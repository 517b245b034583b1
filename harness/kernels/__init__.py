"""Where kernels come from: Debian's packages, files and trees of the user's, and builds.

`store` is the one place to ask; `kernel` is what it answers with.
"""
