"""The context in which shots are visited by the workers of a Dask client."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, final

from ..backends.workers import (
    AbstractVisits,
    Shared,
    Totals,
    Trees,
    Unread,
    Visit,
    visiting,
    visits,
)
from ..face.elsewhere import retraced
from .calls import HERE, Block, Call, Operands, check_open
from .local import local_client
from .parcels import Packer
from .worker import Done, Terms
from .workforce import Workforce

WORTH = 5e7  # points times steps of a block: about half a second, beside which a task is nothing
SENT = 256 << 20  # bytes of what observed traces are read with, at most: of a catalogue, for one
REMEMBERED = 100_000  # shots, of which it is known where they were visited


def active() -> Cluster | None:
    """The cluster whose workers visit shots now; None if this process visits them."""
    place = visits()
    return place if isinstance(place, Cluster) else None


@dataclass(frozen=True)
class _Item:
    """What a function is applied to; a `Shot`."""

    index: tuple[int, ...]
    value: Any
    mark: None = None
    cost: float = WORTH


class _Applied(Shared):
    """A function of one item, as a visit."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function, self._settled = function, False

    def settle(self, threads: int, memory: int) -> None:
        """See `Shared`: once, for a function that has a method `settled`."""
        if not self._settled and hasattr(self._function, "settled"):
            self._function = self._function.settled(threads, memory)
        self._settled = True

    def __call__(self, item: _Item) -> tuple[Any, None]:
        return self._function(item.value), None


@final
class Cluster(AbstractVisits):
    """Made by `ox.cluster`, which see. Within it, in every thread of the process, shots are visited
    by the workers of its client. It may be entered again.

    Attributes:
        client: of Dask.
    """

    client: Any
    _force: Workforce
    _operands: Operands
    _packer: Packer

    def __init__(
        self,
        client: Any,
        *,
        threads: int = 1,
        block: int | None = None,
        memory: int | None = None,
    ) -> None:
        if client is not None:
            _check(client)
            self._take(client)
        self._own = client is None
        self._threads, self._block, self._memory = threads, block, memory
        self._places: OrderedDict[Any, str] = OrderedDict()
        self._entered: list[ExitStack] = []

    def _take(self, client: Any) -> None:
        self.client, self._force = client, Workforce(client)
        self._operands, self._packer = Operands(client), Packer()

    def __enter__(self) -> Cluster:
        _refuse_in_a_task()
        with ExitStack() as stack:
            if self._own and not self._entered:
                self._take(stack.enter_context(local_client(self._memory)))
            check_open(self.client)
            self._force.look(anew=True)
            stack.enter_context(visiting(self))
            stack.enter_context(retraced())
            self._entered.append(stack.pop_all())
        return self

    def __exit__(self, *error: object) -> None:
        self._entered.pop().close()

    def each(
        self,
        shots: Sequence[Any],
        visit: Visit,
        take: Callable[[Any, Any], None] | None,
        threads: int,
        sums: int = 0,
    ) -> Totals:
        """See `AbstractVisits`."""
        call = self._call(visit)
        blocks = self._blocks(shots)

        def taken(block: Block, done: Done) -> None:
            if take is not None:
                for shot, found in zip(block.shots, done.found, strict=True):
                    take(shot, found)

        if sums * len(blocks) > HERE:
            return call.summed(blocks, None if take is None else taken)
        trees = Trees(b.batch for b in blocks)
        for block, done in call.each(blocks):
            taken(block, done)
            for batch, total in done.totals.items():
                trees.put((*batch, block.number), total)
        return trees.totals

    def sends(self, what: Any) -> bool:
        """See `AbstractVisits`: what can be pickled, in a size that each worker can hold, without
        numbers of a mapped file, of which each shot needs its own only."""
        try:
            parcel, needed = self._packer.packed(what)
        except Exception:  # whatever its pickling meets
            return False
        return parcel.nbytes <= SENT and not any(p.mapped for p in (parcel, *needed))

    def map(
        self, function: Callable[[Any], Any], items: Sequence[Any]
    ) -> Iterator[tuple[int, Any]]:
        """Apply a function to each item on the workers, one item a task.

        It is sent to every worker once, and an item when its turn comes: at most two for each shot
        that the workers run at once are under way. Items whose workers die are sent again.

        Args:
            function: of an item, which cloudpickle can pickle. Within it, no cluster is active. If
                it has a method `settled(threads, memory)`, what that returns for a worker's threads
                and bytes for histories is called instead.
            items: any sequence; each is asked for when its turn comes.

        Yields:
            The number of an item and the result, in the order in which they are done.

        Raises:
            Exception: what the function raised; then no more items are begun.
        """
        batch = [_Lazy(items, n) for n in range(len(items))]
        blocks = [Block((), n, [item]) for n, item in enumerate(batch)]
        for block, done in self._call(_Applied(function)).each(blocks):
            yield block.number, done.found[0]

    # ----------------------------------------------------------------

    def _call(self, visit: Visit) -> Call:
        check_open(self.client)
        if self.client.asynchronous:
            raise RuntimeError(
                "shots are asked for by the event loop of the Dask client, which would wait for "
                "itself: call from another thread, by asyncio.to_thread for example"
            )
        _refuse_in_a_task()
        self._force.look()
        self._packer.flush()
        while len(self._places) > REMEMBERED:
            self._places.popitem(last=False)
        terms = Terms(self._threads, self._force.memory)
        known = self._operands, self._packer, self._places
        return Call(self.client, self._force, *known, visit, terms)

    def _blocks(self, shots: Sequence[Any]) -> list[Block]:
        """Shots in blocks: large enough to be worth a task, and small enough that every worker gets
        some."""
        elements: defaultdict[tuple[int, ...], list[Any]] = defaultdict(list)
        for shot in shots:
            elements[shot.index[:-1]].append(shot)
        size = self._block or self._size(shots)
        blocks = []
        for batch, of_it in elements.items():
            of_it.sort(key=lambda shot: shot.index[-1])
            firsts = range(0, len(of_it), size)
            blocks += [Block(batch, n, of_it[i : i + size]) for n, i in enumerate(firsts)]
        return blocks

    def _size(self, shots: Sequence[Any]) -> int:
        cost = max(shot.cost for shot in shots)
        share = len(shots) / max(1, self._force.at_once)
        size = 1
        while size < share and size * cost < WORTH:
            size *= 2
        return size


class _Lazy(Unread):
    """An item that is taken when its turn comes; a `Shot`."""

    mark, cost = None, WORTH

    def __init__(self, items: Sequence[Any], number: int) -> None:
        self._items, self._number = items, number
        self.index = (number,)

    def arrives(self) -> _Item:
        """See `Unread`."""
        return _Item(self.index, self._items[self._number])


def _check(client: Any) -> None:
    """Raises `TypeError` or `ValueError` for what is no client, or one that cannot wait."""
    from distributed import Client

    if not isinstance(client, Client):
        raise TypeError(
            f"client={client!r}: give a dask.distributed.Client, or nothing, for workers on this "
            "machine"
        )
    if client.asynchronous:
        raise ValueError(
            "this client is asynchronous, and calls of JAX cannot be awaited: make another, "
            "Client(address), with asynchronous=False"
        )


def _refuse_in_a_task() -> None:
    """A task that waits for others on its own cluster, without giving its place to them, may wait
    for ever.

    Raises:
        RuntimeError: this is such a task.
    """
    from distributed.threadpoolexecutor import thread_state

    if getattr(thread_state, "proceed", False):
        raise RuntimeError(
            "ox.cluster in a task of a Dask worker, which would wait for shots that wait for its "
            "place: leave the cluster away, so that this task's shots run where it runs, or write "
            "`with distributed.worker_client() as client, ox.cluster(client):`"
        )
