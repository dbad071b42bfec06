"""The machine that runs would execute on, as far as their cost depends on it."""

from dataclasses import dataclass

from nfrepro.cost.estimates import DeviceType
from nfrepro.launch.cluster import Cluster
from nfrepro.launch.devices import Resources


@dataclass(frozen=True)
class Machine:
    """Where the runs would execute."""

    type: DeviceType
    name: str | None  # of the processor or GPU; None: any
    threads: int  # of each run
    at_once: int  # runs
    processes: int = 1  # of each run, which share its batches and threads; one GPU each, if there are GPUs

    @property
    def devices_per_run(self) -> int:
        """GPUs or processor cores of a run."""
        return self.processes if self.type == "cuda" else self.threads

    @property
    def threads_per_process(self) -> int:
        return max(1, self.threads // self.processes)

    @staticmethod
    def here(resources: Resources, name: str) -> "Machine":
        """This machine; `name` is that of its GPU or processor."""
        return Machine(_type(resources.devices[0]), name, resources.threads, resources.workers)

    @staticmethod
    def of(cluster: Cluster) -> "Machine":
        """The machine of a cluster profile, which does not name its GPUs or processors."""
        at_once = cluster.array_parallelism * cluster.runs_per_gpu
        return Machine(_type(cluster.runs_on), None, cluster.cpus_per_run, at_once, cluster.processes_per_run)


def _type(device: str) -> DeviceType:
    return "cuda" if device.startswith("cuda") else "cpu"
