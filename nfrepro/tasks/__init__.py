"""The kinds of runs. A task is an entry in `registry.TASKS`: its options, and a function of (options, ctx)."""
