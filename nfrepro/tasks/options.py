"""The complete config of a run, task by task. No torch."""

from nfrepro.data.options import DataOptions
from nfrepro.models.options import ModelOptions
from nfrepro.options import TaskOptions
from nfrepro.training.options import TrainOptions


class TrainTask(TaskOptions):
    """Train one network on one data set and evaluate it on the test split."""

    data: DataOptions
    model: ModelOptions
    train: TrainOptions = TrainOptions()

    def label(self) -> str:
        return f"{self.model.label}-{self.data.name}-batch{self.train.batch_size}-{super().label()}"
