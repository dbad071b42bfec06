"""A researcher's own code by name: finding it, checking it, and identifying the state of it that a run used."""
