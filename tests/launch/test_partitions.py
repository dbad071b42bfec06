"""What `sinfo` says is understood, whatever its shape, and nothing is refused for what it hides."""

import pytest

from nfrepro.launch.cluster import Cluster
from nfrepro.launch.partitions import Nodes, misfit, parse

SAID = """\
main*|1-12:00:00|6|64|256000|(null)
gpu|infinite|4|128|1024000|gpu:a100:4(S:0-1),nvme:1
gpu|infinite|2|96|512000|gpu:v100:2(S:0),gpu:t4:6
short|30:00|10|8|16000|gpu:2
odd|n/a|1|many|16000|gpu:2
"""


def test_parse() -> None:
    assert parse(SAID) == [
        Nodes("main", True, 2160, 6, 64, 256000, 0),
        Nodes("gpu", False, None, 4, 128, 1024000, 4),
        Nodes("gpu", False, None, 2, 96, 512000, 8),
        Nodes("short", False, 30, 10, 8, 16000, 2),
    ]
    assert parse("") == []


@pytest.mark.parametrize(
    ("partition", "keys", "key"),
    [
        ("main", {"timeout_min": 2160}, None),
        ("main", {"timeout_min": 2161}, "timeout_min"),
        ("main", {"timeout_min": 2161, "qos": "long"}, None),
        ("gpu", {"timeout_min": 100_000}, None),
        ("gpu", {"gpus_per_run": 8, "cpus_per_run": 96}, None),
        ("gpu", {"gpus_per_run": 9, "cpus_per_run": 9}, "gpus_per_run"),
        ("gpu", {"gpus_per_run": 1, "cpus_per_run": 64, "runs_per_gpu": 2}, None),
        ("gpu", {"gpus_per_run": 1, "cpus_per_run": 64, "runs_per_gpu": 3}, "cpus_per_run"),
        ("gpu", {"gpus_per_run": 16, "cpus_per_run": 16, "nodes_per_run": 2}, None),
        # Each of these is there, but not on the same nodes, or not on enough of them.
        ("gpu", {"gpus_per_run": 8, "cpus_per_run": 128}, "nodes_per_run"),
        ("gpu", {"gpus_per_run": 24, "cpus_per_run": 24, "nodes_per_run": 3}, "nodes_per_run"),
        ("short", {"timeout_min": 30, "mem_gb": 15.6}, None),
        ("short", {"timeout_min": 30, "mem_gb": 16}, "mem_gb"),
        ("odd", {"gpus_per_run": 100, "cpus_per_run": 100}, None),
    ],
)
def test_misfit(partition: str, keys: dict[str, int], key: str | None) -> None:
    cluster = Cluster.model_validate({"timeout_min": 60, **keys})
    reason = misfit(cluster, [nodes for nodes in parse(SAID) if nodes.partition == partition])
    assert (reason or "None").split(":")[0] == str(key)
