"""Each module is a benchmark of its name, whose docstring explains its figures; `scripts/bench` runs them."""
