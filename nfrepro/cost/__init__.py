"""The cost of runs before they start: estimates, dry runs, and measurements."""
