"""Claims of the paper as data, and the verdicts on them from stored runs."""
