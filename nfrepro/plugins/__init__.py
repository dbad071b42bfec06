"""A researcher's own code by name: finding it, checking it, and knowing which state of it a run was made with."""
