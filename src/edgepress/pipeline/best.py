"""Which of two results is the better one to have on disk if nothing more comes."""

from collections.abc import Mapping

from edgepress.train.tasks import Task

COSTS = ("macs", "params", "weight_bytes")


def is_better(new: Mapping[str, float], old: Mapping[str, float], task: Task) -> bool:
    """Whether `new` is at least as good in something: cheaper, or better at its task. Later results win ties."""
    if any(new.get(cost, 0) < old.get(cost, 0) for cost in COSTS):
        return True
    if task.metric not in new or task.metric not in old:
        return True
    return new[task.metric] == old[task.metric] or task.is_better(new[task.metric], old[task.metric])
