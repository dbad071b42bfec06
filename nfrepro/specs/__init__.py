"""Turns experiment files into runs: those of an experiment at a scale, each with its complete config and identity.

An experiment is a YAML file. It names a task, whose schema says which keys a config may have, and the values:

    title: Effect of the residual scale alpha
    claims: [C16, C35]
    extends: recipes/resnet.yaml        # or a list; relative to the experiments folder, which it never leaves
    task: train
    set:                                # nested and dotted keys, mixed freely
      model: {name: nf_resnet, depth: 50}
    grid:                               # the product of these axes, the last one fastest
      model.alpha: [0.05, 0.1, 0.2]
      seed: [0, 1, 2]
    zip:                                # axes that move together; a list of mappings for several independent zips
      train.batch_size: [128, 256]
      train.lr_per_256: [0.1, 0.2]
    arms:                               # several blocks, each with its own set, grid, zip and scales
      bn: {set: {model.name: bn_resnet}}
      extra: {set: {model.alpha: 3.0}, only: [smoke]}   # an arm of these scales only
    scales:                             # blocks for the sizes of the experiment
      smoke: {set: {train.epochs: 1}, grid: {seed: [0]}}

In grid and zip a list is always a list of values; a value that is itself a list, say of
`model.blocks`, goes into a second pair of brackets. Without axes the product is one run.

Layers, later ones winning: extended files in order, the file itself, the arm, the scale (of extended files first), the
arm's scale, the axes, `--set`. `set` merges key by key; an axis given again replaces the axis, `zip` replaces all zips
below it. A key that is an axis is narrowed under grid, not under set.
`--set key=value` pins an axis of grid, or narrows it with a list; it sets any other key.
"""

from nfrepro.specs.expansion import Run, expand
from nfrepro.specs.experiments import RENAMED, Experiment, find_experiments, load_experiment, refuse_old_name
from nfrepro.specs.identity import SCHEMA_VERSION, config_difference, id_config, identity, other_schema_version, run_id
from nfrepro.specs.new_names import old_name_notes

__all__ = [
    "RENAMED",
    "SCHEMA_VERSION",
    "Experiment",
    "Run",
    "config_difference",
    "expand",
    "find_experiments",
    "id_config",
    "identity",
    "load_experiment",
    "old_name_notes",
    "other_schema_version",
    "refuse_old_name",
    "run_id",
]
