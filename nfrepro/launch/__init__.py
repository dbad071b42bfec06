"""Executing runs: which ones are left to do, how many at once, and the local queue that does them."""
