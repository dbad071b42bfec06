"""Names of the files in a run's folder."""

RECORD = "run.json"
METRICS = "metrics.jsonl"
ERROR = "error.txt"

# The folder, next to the runs, in which finished runs are redone.
REDO = ".redo"
