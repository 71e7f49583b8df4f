"""Where the work on shots is done: here, or by the workers of a cluster.

A task is a picklable function of the numbers of some shots. Tasks know nothing of files that are
written or of sums over shots: who asks for results takes care of these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, final

from ..cluster import active
from ..face.grouped import group_size
from .tasks import Imaged, Shots

if TYPE_CHECKING:
    from ..cluster.place import Cluster

T = TypeVar("T")


class AbstractRunner(ABC):
    """Where tasks are run."""

    @abstractmethod
    def together(self, shots: int, threads: int) -> int:
        """How many shots a task is to work on together.

        Args:
            shots: of the survey.
            threads: that the settings name.
        """

    @abstractmethod
    def each(
        self, task: Callable[[Shots], T], groups: Sequence[Shots]
    ) -> Iterator[tuple[Shots, T]]:
        """Run a task on each group of shots.

        Args:
            task: picklable; gives the same result wherever it is run, and however often.
            groups: numbers of the shots.

        Yields:
            Each group, and what the task has found, in any order, as they finish. A group is
            yielded once, or an exception is raised.
        """


@final
class Here(AbstractRunner):
    """In this process, one group after another; the shots of a group run side by side."""

    def together(self, shots: int, threads: int) -> int:
        """See `AbstractRunner.together`."""
        return group_size(shots, threads)

    def each(
        self, task: Callable[[Shots], T], groups: Sequence[Shots]
    ) -> Iterator[tuple[Shots, T]]:
        """See `AbstractRunner.each`."""
        for group in groups:
            yield group, task(group)


@final
class OnWorkers(AbstractRunner):
    """On the workers of a cluster, a shot a task.

    Args:
        cluster: the active one.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def together(self, shots: int, threads: int) -> int:
        """See `AbstractRunner.together`."""
        return 1

    def each(
        self, task: Callable[[Shots], T], groups: Sequence[Shots]
    ) -> Iterator[tuple[Shots, T]]:
        """See `AbstractRunner.each`. What observed traces are read from travels once, if it can;
        else they are read here, and travel with their shots."""
        sent: Callable[[Any], Any] = task
        items: Sequence[Any] = groups
        if isinstance(task, Imaged) and not self._cluster.sends(task.observed):
            sent, items = task.with_traces(groups)
        for number, found in self._cluster.map(sent, items):
            yield groups[number], found


def runner() -> AbstractRunner:
    """Where tasks are run now."""
    cluster = active()
    return Here() if cluster is None else OnWorkers(cluster)


def in_groups(shots: Sequence[int], size: int) -> list[Shots]:
    """Numbers of shots, so many at a time."""
    return [tuple(shots[n : n + size]) for n in range(0, len(shots), size)]
