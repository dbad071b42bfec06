"""SLURM's partitions: their limits, and whether a job of a cluster profile fits into one.

SLURM itself rejects a job that can never run only if its administrator chose so (`EnforcePartLimits`); otherwise such
a job waits for ever.
"""

import re
from dataclasses import dataclass

from nfrepro.errors import InputError, did_you_mean
from nfrepro.launch.cluster import Cluster
from nfrepro.launch.scheduler import ask

FIELDS = "%P|%l|%D|%c|%m|%G"
_TIME = re.compile(r"(?:(\d+)-)?(\d+):(\d+):(\d+)|(\d+):(\d+)")
_GPUS = re.compile(r"gpu:(?:[^:,(]+:)?(\d+)")


@dataclass(frozen=True)
class Nodes:
    """A group of identical nodes in a partition."""

    partition: str
    default: bool
    minutes: float | None  # time limit of a job; None: no limit, or unknown
    count: int
    cpus: int
    memory_mb: int
    gpus: int


def check(cluster: Cluster) -> None:
    """Raises `InputError` if no partition of the profile has nodes for its jobs. Skips what SLURM hides."""
    found = parse(ask("sinfo", "--noheader", "--exact", "--all", f"--format={FIELDS}"))
    named = cluster.partition.split(",") if cluster.partition else [nodes.partition for nodes in found if nodes.default]
    known = sorted({nodes.partition for nodes in found})
    for name in named:
        if known and name not in known:
            raise InputError(f"partition {name}: unknown{did_you_mean(name, known)}; there is: {', '.join(known)}")
    reasons = [misfit(cluster, [nodes for nodes in found if nodes.partition == name]) for name in dict.fromkeys(named)]
    if reasons and all(reasons):
        raise InputError(f"{reasons[0]}; nothing was submitted")


def misfit(cluster: Cluster, partition: list[Nodes]) -> str | None:
    """The reason why no job of the profile can ever run in a partition; None if one can, or if that is unknown."""
    if not partition:
        return None
    name, minutes = partition[0].partition, partition[0].minutes
    # A quality of service may lift a partition's limit.
    if minutes is not None and cluster.timeout_min > minutes and cluster.qos is None:
        return f"timeout_min: {cluster.timeout_min}, but partition {name} ends every job after {minutes:g} min"
    memory = round((cluster.mem_gb or 0) * 1024)
    cpus = cluster.tasks_per_node * cluster.cpus_per_task
    for key, wanted, most in (
        ("gpus_per_run", cluster.gpus_per_node, max(nodes.gpus for nodes in partition)),
        ("cpus_per_run", cpus, max(nodes.cpus for nodes in partition)),
        ("mem_gb", memory, max(nodes.memory_mb for nodes in partition)),
    ):
        if wanted > most:
            unit = " MB" if key == "mem_gb" else ""
            return f"{key}: a job wants {wanted}{unit} of a node, but no node of partition {name} has more than {most}"
    fitting = [n for n in partition if n.gpus >= cluster.gpus_per_node and n.cpus >= cpus and n.memory_mb >= memory]
    if sum(nodes.count for nodes in fitting) < cluster.nodes_per_run:
        return f"nodes_per_run: {cluster.nodes_per_run}, but partition {name} has fewer nodes for such a job"
    return None


def parse(text: str) -> list[Nodes]:
    """Parses the output of `sinfo` in the format `FIELDS`; skips malformed lines."""
    found = []
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) != 6 or not all(field.isdigit() for field in fields[2:5]):
            continue
        name, limit, count, cpus, memory, gres = fields
        gpus = sum(map(int, _GPUS.findall(gres)))
        found.append(
            Nodes(name.rstrip("*"), name.endswith("*"), _minutes(limit), int(count), int(cpus), int(memory), gpus)
        )
    return found


def _minutes(limit: str) -> float | None:
    """`1-12:00:00` or `30:00` in minutes."""
    matched = _TIME.fullmatch(limit)
    if matched is None:
        return None
    days, hours, minutes, seconds, short_minutes, short_seconds = (int(part or 0) for part in matched.groups())
    return days * 1440 + hours * 60 + minutes + short_minutes + (seconds + short_seconds) / 60
