"""The memo's store by itself: what it finds, what makes room, and what threads do to it."""

import threading
import time

import numpy as np
import pytest

from ondax.histories.buffers import Pool, Stored, layout_bytes
from ondax.histories.store import Content, HistoryStore


def test_contents_compare_by_every_byte():
    a = np.arange(10_000, dtype=np.float32)
    for index in (0, 1, 4999, 9999):  # the hash looks at some of them only
        b = a.copy()
        b[index] = np.nextafter(b[index], np.float32(np.inf))
        assert Content([a]) != Content([b])
    assert Content([a]) == Content([a.copy()])
    assert hash(Content([a])) == hash(Content([a.copy()]))
    assert Content([a]) != Content([a.reshape(100, 100)])
    assert Content([a]) != Content([a.view(np.int32)])
    assert Content([a]) != Content([a, a])
    assert Content([np.array([0.0])]) != Content([np.array([-0.0])])
    assert Content([np.array([np.nan])]) == Content([np.array([np.nan])])
    assert Content([a[::2]]) == Content([a[::2].copy()])
    assert Content([a]) != "something else"
    assert Content([np.zeros((0, 3))]) == Content([np.zeros((0, 3))])


LAYOUT = (Stored("kept", (4, 8), "float64"),)
SIZE = layout_bytes(LAYOUT)


def nothing_protected(key: object) -> bool:
    return False


def file(store: HistoryStore, key: str, used: bool = False, budget: int = 10 * SIZE) -> np.ndarray:
    history = store.acquire(LAYOUT, budget, nothing_protected, wait=False)
    assert history is not None
    history.arrays["kept"].fill(hash(key))
    store.keep(key, history)
    store.release(history, used)
    return history.arrays["kept"]


def holds(store: HistoryStore, key: str) -> bool:
    found = store.find(key)
    if found is None:
        return False
    assert np.all(found.arrays["kept"] == hash(key))
    store.release(found)
    return True


def test_store_finds_what_it_keeps():
    store = HistoryStore()
    assert not holds(store, "a")
    file(store, "a")
    assert holds(store, "a")
    assert (len(store), store.nbytes) == (1, SIZE)


def test_store_drops_the_least_recently_used():
    store = HistoryStore()
    for key in "abc":
        file(store, key, budget=3 * SIZE)
    assert holds(store, "a")  # used just now
    file(store, "d", budget=3 * SIZE)
    assert [k for k in "abcd" if holds(store, k)] == ["a", "c", "d"]
    assert store.nbytes == 3 * SIZE


def test_store_takes_over_the_buffers_of_used_histories():
    """Even where the budget has room: page-faulting new memory costs as much as a solve."""
    store = HistoryStore()
    kept = file(store, "kept")
    old = file(store, "old", used=True)
    assert file(store, "new") is old
    assert file(store, "newer") is not kept
    assert [k for k in ("old", "kept", "new", "newer") if holds(store, k)] == [
        "kept",
        "new",
        "newer",
    ]


def test_store_protects_and_pins():
    store = HistoryStore()
    file(store, "a")
    file(store, "b")
    pinned = store.find("a")
    assert store.acquire(LAYOUT, 2 * SIZE, lambda key: key == "b", wait=False) is None
    store.clear()
    assert holds(store, "a")
    assert not holds(store, "b")
    store.release(pinned)
    store.clear()
    assert (len(store), store.nbytes) == (0, 0)


def test_store_counts_what_is_being_written():
    store = HistoryStore()
    writing = store.acquire(LAYOUT, 2 * SIZE, nothing_protected, wait=False)
    assert store.nbytes == SIZE
    other = store.acquire(LAYOUT, 2 * SIZE, nothing_protected, wait=False)
    assert store.acquire(LAYOUT, 2 * SIZE, nothing_protected, wait=False) is None
    buffer = writing.arrays["kept"]
    store.release(writing)  # abandoned: its buffer is spare
    assert store.nbytes == SIZE
    again = store.acquire(LAYOUT, 2 * SIZE, nothing_protected, wait=False)
    assert again.arrays["kept"] is buffer
    store.release(other)
    # larger than all
    assert (
        store.acquire((Stored("kept", (9, 8), "float64"),), SIZE, nothing_protected, wait=False)
        is None
    )


def test_store_makes_room_for_other_layouts():
    store = HistoryStore()
    for key in "abc":
        file(store, key, budget=3 * SIZE)
    double = (Stored("kept", (8, 8), "float64"),)
    history = store.acquire(double, 3 * SIZE, nothing_protected, wait=False)
    assert history.nbytes == 2 * SIZE
    assert store.nbytes == 3 * SIZE
    assert holds(store, "c")


def test_arrays_of_one_shape_with_other_points_do_not_take_each_others_place():
    """Where the one is never written, the other holds what it computed."""
    places = (((0,), (5,), ()), ((0,), (6,), ()), ((3,), (5,), ((("z", "high"), 4),)))
    kinds = [Stored("kept", (4, 8), "float64", place=place) for place in places]
    pool = Pool()
    used = pool.take(kinds[0].use, (4, 8), "float64")
    used.fill(1)
    pool.give(kinds[0].use, used)
    assert pool.spare((kinds[0],)) == SIZE
    for other in kinds[1:]:
        assert pool.spare((other,)) == 0
        assert not pool.take(other.use, other.shape, other.dtype).any()


def test_store_waits_for_a_buffer():
    store = HistoryStore()
    writing = store.acquire(LAYOUT, SIZE, nothing_protected, wait=False)
    got = []
    waiter = threading.Thread(
        target=lambda: got.append(store.acquire(LAYOUT, SIZE, nothing_protected, wait=True))
    )
    waiter.start()
    waiter.join(0.05)
    assert waiter.is_alive()
    buffer = writing.arrays["kept"]
    store.release(writing)
    waiter.join(5)
    assert got[0].arrays["kept"] is buffer


def test_a_run_that_came_second_still_holds_its_buffer():
    """Two runs compute one history at once; the second finds it filed, and reads its own copy until
    it is done."""
    store = HistoryStore()
    first, second = (
        store.acquire(LAYOUT, 4 * SIZE, nothing_protected, wait=False) for _ in range(2)
    )
    store.keep("key", first)
    store.keep("key", second)
    third = store.acquire(LAYOUT, 4 * SIZE, nothing_protected, wait=False)
    assert third is not second
    buffer = second.arrays["kept"]
    store.release(second)
    again = store.acquire(LAYOUT, 4 * SIZE, nothing_protected, wait=False)
    assert again.arrays["kept"] is buffer
    assert store.nbytes == 3 * SIZE


@pytest.mark.parametrize("filed_first", [False, True])
def test_store_does_not_wait_for_a_history_without_arrays_that_was_dropped(filed_first: bool):
    """Its run failed, or another run was faster: nothing is left to wait for."""
    store = HistoryStore()
    if filed_first:
        first = store.acquire((), SIZE, nothing_protected, wait=False)
        store.keep("key", first)
        store.release(first)
    dropped = store.acquire((), SIZE, nothing_protected, wait=False)
    if filed_first:
        store.keep("key", dropped)
    store.release(dropped)
    file(store, "protected", budget=SIZE)
    got = []
    waiter = threading.Thread(
        target=lambda: got.append(store.acquire(LAYOUT, SIZE, lambda key: True, wait=True)),
        daemon=True,
    )
    waiter.start()
    waiter.join(5)
    assert got == [None]
    assert store.nbytes == SIZE


def test_store_under_threads():
    """Eight threads over six keys and room for four: no one ever reads another's numbers, and the
    budget holds."""
    store = HistoryStore()
    budget, errors = 4 * SIZE, []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(150):
            key = int(rng.integers(6))
            history = store.find(key)
            if history is None:
                history = store.acquire(LAYOUT, budget, nothing_protected, wait=True)
                history.arrays["kept"].fill(key)
                time.sleep(0)  # let others run
                store.keep(key, history)
            time.sleep(0)
            if not np.all(history.arrays["kept"] == key) or store.nbytes > budget:
                errors.append(key)
            store.release(history, used=bool(rng.integers(2)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not any(t.is_alive() for t in threads)
    assert errors == []
    store.clear()
    assert store.nbytes == 0
