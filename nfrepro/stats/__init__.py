"""Statistics of runs: intervals, tests and fits."""
