"""The matrix: which cells there are, which of them cannot be, and running the rest."""
