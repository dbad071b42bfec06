"""Names of the files in a run's folder."""

RECORD = "run.json"
METRICS = "metrics.jsonl"
ERROR = "error.txt"

# The folder beside the runs in which those that are done are redone.
REDO = ".redo"
