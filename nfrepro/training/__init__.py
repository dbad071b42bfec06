"""Training: recipe, loop, evaluation, checkpoints."""
