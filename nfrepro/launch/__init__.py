"""Execution of runs: which ones are left to do, how many execute at once, the local queue, and SLURM."""
