"""Checks that compute nodes see what jobs need: the submission's folder, writable, and the Python that runs here.

A node without them cannot report it in any file, so one node is asked directly before anything is submitted.
"""

import subprocess
import sys

from nfrepro.errors import InputError
from nfrepro.launch.submission import Submission

# How long srun waits for a free node.
SECONDS_FOR_A_NODE = 10
SECONDS_IN_ALL = 60.0
SEEN, UNSEEN = "nfrepro-seen", "nfrepro-unseen"

_LOOK = f"""\
if ! [ -r "$1/submission.json" ]; then echo "{UNSEEN} $SLURMD_NODENAME cannot read $1"
elif ! [ -w "$1/jobs" ]; then echo "{UNSEEN} $SLURMD_NODENAME cannot write in $1/jobs"
elif ! [ -x "$2" ]; then echo "{UNSEEN} $SLURMD_NODENAME has no $2"
else echo {SEEN}; fi
"""


def check(submission: Submission) -> str | None:
    """Asks one node. Returns why none could be asked, or None. Raises `InputError` if the node lacks something."""
    said, reason = _ask_a_node(submission)
    if SEEN in said:
        return None
    for line in said.splitlines():
        if line.startswith(UNSEEN):
            what = line.removeprefix(UNSEEN).strip()
            raise InputError(f"node {what}: nodes must see results and Python at the same path; nothing was submitted")
    return reason


def _ask_a_node(submission: Submission) -> tuple[str, str]:
    """The answer of a node, and the last error message of srun."""
    cluster = submission.cluster
    wanted = {
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "mem": "100M" if cluster.mem_gb else None,
    }
    options = [f"--{name}={value}" for name, value in wanted.items() if value is not None]
    limits = ["--nodes=1", "--ntasks=1", "--time=1", f"--immediate={SECONDS_FOR_A_NODE}", "--chdir=/"]
    look = ["/bin/sh", "-c", _LOOK, "sh", str(submission.folder), sys.executable]
    try:
        answer = subprocess.run(
            ["srun", "--quiet", f"--job-name={submission.arrays[0].name}-look", *limits, *options, *look],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_IN_ALL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", "srun does not answer"
    return answer.stdout, (answer.stderr.strip().splitlines() or ["srun says nothing"])[-1]
