"""What is measured in each case, and against which target."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from .cases import CASES
from .host import OtherWork
from .measure import Contender, Times, alone_and_disturbed, in_turns
from .media_cases import ELASTIC_CASES, ORDERS, TILTED_CASES
from .report import Limit, Row, at_least, at_most, seconds
from .targets import (
    CHEAPEST,
    CLUSTER,
    CLUSTER_EXTRA,
    CPML_OVER_SPONGE,
    DEEPWAVE,
    DEVITO,
    DEVITO_FUSED,
    MEMORY,
    OUTSIDE,
    XLA_OVER_PLAIN,
)
from .worker import ROOT, Worker, WorkerError

SAME = at_most(1e-3)  # relative difference of gradients
LSRTM_ITERATIONS = 10  # of a migration that starts without a background
CPML_CELLS = 20  # the default of `ox.CPML`, and of deepwave
PLAIN = {("A", "gradient")}  # where XLA's programs have a target against plain JAX
# What a point and step of the acoustic equation must read and write: two fields, a coefficient, the
# new field; and in gradients what is kept, twice, and the sum.
LEAST_BYTES = {("ondax_contender", "forward"): 16, ("ondax_contender", "gradient"): 48}
DEEPWAVE_LIMITS = {"gradient": at_least(8), "forward": at_least(1.8)}


@dataclass
class Suite:
    """The measurements, and what they have in common.

    Attributes:
        rounds: how often each contender is measured; a third of it where one round takes many
            seconds.
        deepwave_python: an interpreter that has deepwave.
        notes: what the reader of the table should know.
        versions: of the packages measured.
    """

    rounds: int = 9
    deepwave_python: str = sys.executable
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def few_rounds(self) -> int:
        return max(3, self.rounds // 3)

    # ---------------------------------------------------------------- the cases

    def case_a(self) -> list[Row]:
        rows: list[Row] = []
        with self._workers("A") as start:
            ours = start("ondax_contender", threads=1)
            sparse = start("ondax_contender", threads=1, store_every=4)
            off_grid = start("ondax_contender", threads=1, shift=0.5)
            defaults = start("ondax_contender", threads=1, as_baselines=False)
            cheap = self._cheapest(start, "ondax_contender", threads=1)
            devito = start("devito_baseline", threads=1)
            plain = start("jax_baseline", threads=1)
            peer = self._deepwave(start, threads=1)
            peer_default = self._deepwave(start, threads=1, width=CPML_CELLS)
            g = _gradient(ours)
            rows += _devito_agrees("A", ours, devito)
            rows.append(_difference("A", "JAX's", g, _gradient(plain), SAME))
            rows.append(_difference("A", "itself with every 4th step", _gradient(sparse), g))
            if peer:
                rows.append(
                    _difference("A", "deepwave's (another absorbing layer)", g, _gradient(peer))
                )
            contenders = _both(ours, peer) | {
                "defaults": Contender(defaults, "gradient"),
                "every 4th": Contender(sparse, "gradient"),
                "off grid": Contender(off_grid, "gradient"),
                "devito": Contender(devito, "gradient"),
                "devito fused": Contender(devito, "gradient_fused"),
                "devito forward": Contender(devito, "forward"),
                "jax": Contender(plain, "gradient"),
                "jax forward": Contender(plain, "forward"),
            }
            if cheap:
                rows.append(_difference("A", f'itself, history "{CHEAPEST}"', _gradient(cheap), g))
                contenders["cheapest"] = Contender(cheap, "gradient")
            if peer_default:
                contenders["deepwave default"] = Contender(peer_default, "gradient")
            t = in_turns(contenders, self.rounds)
            rows += [
                *_against_devito("A", "", t, "A"),
                _cost(
                    "A",
                    "gradient / Devito's, imaging fused by hand",
                    t["gradient"],
                    t["devito fused"],
                ),
                _cost(
                    "A",
                    "gradient, every 4th step / Devito's",
                    t["every 4th"],
                    t["devito"],
                    at_most(0.9),
                ),
                _cost(
                    "A",
                    "gradient, points off the grid / Devito's on it",
                    t["off grid"],
                    t["devito"],
                ),
                _cost("A", "forward / Devito's with history", t["forward"], t["devito forward"]),
                _gain("A", "gradient: faster than plain JAX", t["gradient"], t["jax"]),
                _gain("A", "forward: faster than plain JAX", t["forward"], t["jax forward"]),
            ]
            if peer and peer_default:
                limits = DEEPWAVE_LIMITS | {"gradient": DEEPWAVE["A"].exact}
                rows += _against_deepwave("A", "one thread", t, limits)
                what = "gradient, each at its defaults (layers of 20 cells)"
                rows.append(
                    _gain(
                        "A", f"{what}: faster than deepwave", t["defaults"], t["deepwave default"]
                    )
                )
                rows += _cheapest_against_deepwave("A", "one thread", t, "A")
        with self._workers("A") as start:
            ours = start("ondax_contender", threads=2)
            peer = self._deepwave(start, threads=2)
            contenders = _both(ours, peer)
            t = in_turns(contenders, self.rounds)
            if peer:
                rows += _against_deepwave("A", "two threads", t, dict.fromkeys(DEEPWAVE_LIMITS))
        return rows

    def case_b(self) -> list[Row]:
        rows: list[Row] = []
        with self._workers("B") as start:
            two, one = start("ondax_contender", threads=2), start("ondax_contender", threads=1)
            peer = self._deepwave(start, threads=2)
            t = in_turns(
                _both(two, peer) | {"one thread": Contender(one, "gradient")}, self.few_rounds
            )
            if peer:
                rows += _against_deepwave("B", "two threads", t, DEEPWAVE_LIMITS)
            alone, disturbed = alone_and_disturbed(Contender(two, "gradient"), self.rounds)
            rows += [
                _gain(
                    "B",
                    "gradient: two threads over one",
                    t["gradient"],
                    t["one thread"],
                    at_least(1.8),
                ),
                _cost("B", "gradient: one core busy / alone", disturbed, alone, at_most(1.8)),
            ]
        return rows

    def case_c(self) -> list[Row]:
        with self._workers("C") as start:
            ours = start("ondax_contender", threads=1, clock=True)
            devito = start("devito_baseline", threads=1)
            rows = _devito_agrees("C", ours, devito)
            contenders = {
                "gradient": Contender(ours, "gradient"),
                "devito": Contender(devito, "gradient"),
            }
            t = in_turns(contenders, self.rounds)
            rows.append(_cost("C", "gradient / Devito's", t["gradient"], t["devito"]))
            for action in ("forward", "gradient"):
                outside = statistics.median(
                    ours.run(f"{action}_overhead")[1] for _ in range(3 * self.rounds)
                )
                what, target = f"{action}: outside the kernels", OUTSIDE[action]
                rows.append(Row("C", what, 1000 * outside, "ms", target))
        return rows

    def case_d(self) -> list[Row]:
        with self._workers("D") as start:
            ours, devito = start("ondax_contender", threads=1), start("devito_baseline", threads=1)
            cheap = self._cheapest(start, "ondax_contender", threads=1)
            rows = _devito_agrees("D", ours, devito)
            contenders = {
                "gradient": Contender(ours, "gradient"),
                "devito": Contender(devito, "gradient"),
                "devito fused": Contender(devito, "gradient_fused"),
            }
            if cheap:
                contenders["cheapest"] = Contender(cheap, "gradient")
            t = in_turns(contenders, self.few_rounds)
        return [
            *rows,
            *_against_devito("D", "", t, "D"),
            _cost(
                "D",
                "gradient / Devito's, imaging fused by hand",
                t["gradient"],
                t["devito fused"],
                DEVITO_FUSED["D"].exact,
            ),
        ]

    def case_e(self) -> list[Row]:
        return self._media("E", "devito_elastic", peers=True)

    def case_t(self) -> list[Row]:
        return self._media("T", "devito_tti", peers=False)

    def _media(self, case: str, baseline: str, peers: bool) -> list[Row]:
        """Gradients in all parameters, against the best by hand and, for elastic waves,
        deepwave's. By hand there are two TTI schemes: one whose H is blind to a checkerboard, which
        is cheaper, and the one that ondax has."""
        rows: list[Row] = []
        for order in ORDERS:
            with self._workers(case) as start:
                ours = start("ondax_media", threads=1, order=order)
                cheap = self._cheapest(start, "ondax_media", threads=1, order=order)
                devito = start(baseline, threads=1, order=order)
                seeing = None if peers else start(baseline, threads=1, order=order, seeing=True)
                peer = (
                    self._deepwave(start, 1, "deepwave_elastic", order=order)
                    if peers and order == 4
                    else None
                )
                same = seeing or devito
                hands = {"": same} | ({" (blind)": devito} if seeing else {})
                rows += [
                    Row(
                        case,
                        f"check: dot test{which}, order {order}",
                        worker.run("dot_test")[1],
                        "",
                        at_most(1e-5),
                    )
                    for which, worker in hands.items()
                ]
                rows.append(_worst(case, f"Devito's, order {order}", ours, same, SAME))
                contenders = _both(ours, peer) | {"devito": Contender(devito, "gradient")}
                if seeing:
                    blind = f"Devito's (blind), order {order}"
                    rows.append(_worst(case, blind, ours, devito))
                    contenders["devito seeing"] = Contender(seeing, "gradient")
                if cheap:
                    name = f'itself, history "{CHEAPEST}", order {order}'
                    rows.append(_worst(case, name, cheap, ours))
                    contenders["cheapest"] = Contender(cheap, "gradient")
                t = in_turns(contenders, self.rounds)
                which = " (blind to a checkerboard)" if seeing else ""
                rows += _against_devito(case, f"{which}, order {order}", t, f"{case}{order}")
                if seeing:
                    what = f"gradient / Devito's (the same scheme), order {order}"
                    rows.append(_cost(case, what, t["gradient"], t["devito seeing"]))
                if peer:
                    limits = {"gradient": DEEPWAVE[f"{case}{order}"].exact}
                    rows += _against_deepwave(case, f"order {order}", t, limits)
                    rows += _cheapest_against_deepwave(case, f"order {order}", t, f"{case}{order}")
        return rows

    def xla(self) -> list[Row]:
        """XLA's programs, `Settings(backend="xla")`, on one thread: against plain JAX, against the
        C kernels, with and without checks, and how long they take to compile."""
        rows: list[Row] = []
        for case in ("A", "C", "D", "E", "T"):
            module = "ondax_media" if case in "ET" else "ondax_contender"
            with self._workers(case) as start:
                kernels = start(module, threads=1)
                checked = start(module, threads=1, backend="xla")
                ours = start(module, threads=1, backend="xla", checks=False)
                plain = start("jax_baseline", threads=1) if case in "AC" else None
                workers = {"": ours, "checked ": checked, "kernels ": kernels}
                workers |= {"plain ": plain} if plain else {}
                t = in_turns(
                    {
                        name + action: Contender(worker, action)
                        for name, worker in workers.items()
                        for action in ("forward", "gradient")
                    },
                    self.rounds if case in "AC" else self.few_rounds,
                )
                name = "the C kernels'"
                if case in "ET":
                    rows.append(_worst("xla", f"{name}, {case}", ours, kernels, SAME))
                else:
                    found = _gradient(ours)
                    rows.append(
                        _difference("xla", f"{name}, {case}", found, _gradient(kernels), SAME)
                    )
                for action in ("gradient", "forward"):
                    what, mine = f"{action} of {case}", t[action]
                    if plain:
                        limit = at_least(XLA_OVER_PLAIN) if (case, action) in PLAIN else None
                        faster = f"{what}: faster than plain JAX"
                        rows.append(_gain("xla", faster, mine, t[f"plain {action}"], limit))
                    rows += [
                        _cost("xla", f"{what} / the C kernels", mine, t[f"kernels {action}"]),
                        _cost(
                            "xla", f"{what}: with checks / without", t[f"checked {action}"], mine
                        ),
                        Row("xla", f"{what}: compiling", ours.run(f"compile_{action}")[0], "s"),
                    ]
        return rows

    def gpu(self) -> list[Row]:
        """Forward runs and gradients on a GPU; nothing, and a note, where there is none."""
        rows: list[Row] = []
        threads = len(os.sched_getaffinity(0))
        with self._workers("A") as start:
            try:
                bandwidth = start("gpu_device").run("bandwidth")[1]
            except WorkerError as error:
                self._note(f"nothing was measured on a GPU: {error}")
                return rows
        rows.append(Row("gpu", "copying memory", bandwidth / 1e9, "GB/s"))
        for name in ("A", "B", "D", "E", "T", "G"):
            case: Any = (CASES | ELASTIC_CASES | TILTED_CASES)[name]
            module = "ondax_media" if name in "ET" else "ondax_contender"
            actions = ("forward",) if name == "G" else ("forward", "gradient")
            with self._workers(name) as start:
                ours = start(module, threads=threads, backend="xla", checks=False)
                peer = None
                if module == "ondax_contender":
                    peer = self._deepwave(start, threads=threads, device="cuda")
                contenders = {a: Contender(ours, a) for a in actions}
                contenders |= {f"deepwave {a}": Contender(peer, a) for a in actions if peer}
                t = in_turns(contenders, self.rounds)
                for action in actions:
                    what, spent = f"{action} of {name}", t[action].median
                    rate = case.updates / spent
                    rows.append(Row("gpu", what, rate / 1e9, "GPts/s", ours=seconds(spent)))
                    least = LEAST_BYTES.get((module, action))
                    if least:
                        share = rate * least / bandwidth
                        rows.append(Row("gpu", f"{what}: of what copying memory reaches", share))
                    if peer:
                        theirs = t[f"deepwave {action}"]
                        rows.append(
                            _gain("gpu", f"{what}: faster than deepwave", t[action], theirs)
                        )
                    spent = ours.run(f"compile_{action}")[0]
                    rows.append(Row("gpu", f"{what}: compiling", spent, "s"))
        return rows

    def layers(self) -> list[Row]:
        """A perfectly matched layer of 20 cells against a sponge of 40, in two and three
        dimensions."""
        rows: list[Row] = []
        for case, words in (("A", "2-D"), ("L", "3-D")):
            with self._workers(case) as start:
                sponge = start("ondax_media", threads=1)
                layer = start("ondax_media", threads=1, cpml=CPML_CELLS)
                contenders = {
                    "sponge": Contender(sponge, "gradient"),
                    "layer": Contender(layer, "gradient"),
                }
                t = in_turns(contenders, self.rounds if words == "2-D" else self.few_rounds)
                sizes = layer.run("memory_bytes")[1]
            ratio = sizes["stored"] / sizes["whole"]
            shown = {
                "ours": f"{sizes['stored'] / 1e6:.1f} MB",
                "theirs": f"{sizes['whole'] / 1e6:.1f} MB",
            }
            what = f"gradient: CPML({CPML_CELLS}) / Sponge({CASES[case].width}), {words}"
            rows += [
                _cost("layers", what, t["layer"], t["sponge"], CPML_OVER_SPONGE),
                Row("layers", f"CPML's memory / on the whole grid, {words}", ratio, **shown),
            ]
        return rows

    def cluster(self) -> list[Row]:
        """Two workers of Dask against two threads of one process."""
        rows: list[Row] = []
        with self._workers("B") as start:
            ours = start("ondax_cluster", workers=2)
            contenders = {
                f"{name} {where}": Contender(ours, f"{name} {where}")
                for name, where in product(("forward", "gradient", "objective"), ("here", "there"))
            }
            t = in_turns(contenders, self.few_rounds)
            for name in ("forward", "gradient", "objective"):
                limit = CLUSTER.get(name)
                pair = t[f"{name} there"], t[f"{name} here"]
                rows.append(_cost("cluster", f"{name} of B / by threads", *pair, limit))
            again = ours.run("made again")[1]
            what = "gradient of B: shots modelled once more"
            rows.append(Row("cluster", what, again, limit=CLUSTER["made again"]))
            killed = ours.run("one killed")[1] / t["gradient there"].median
            what = "gradient of B, one of two workers killed / none killed"
            rows.append(Row("cluster", what, killed, limit=CLUSTER["one killed"]))
        with self._workers("B") as start:
            alone = start("ondax_cluster", workers=1)
            alone.run("objective there")
            what = "objective of B: bytes through the client / model and gradient"
            limit = CLUSTER["traffic"]
            rows.append(Row("cluster", what, alone.run("traffic")[1], limit=limit))
        with self._workers("S") as start:
            ours = start("ondax_cluster", workers=2)
            for name, limit in CLUSTER_EXTRA.items():
                pair = {where: Contender(ours, f"{name} {where}") for where in ("here", "there")}
                t = in_turns(pair, self.rounds)
                extra = 1e3 * (t["there"].median - t["here"].median)
                sizes = {"ours": seconds(t["there"].median), "theirs": seconds(t["here"].median)}
                what = f"{name} of tiny shots: longer than by threads"
                rows.append(Row("cluster", what, extra, "ms", limit, **sizes))
        return rows

    def lsrtm(self) -> list[Row]:
        """Least-squares migration of case B, iteration by iteration."""
        rows: list[Row] = []
        for threads, words in ((1, "one thread"), (2, "two threads")):
            with self._workers("B") as start:
                ours = start("ondax_lsrtm", threads=threads, iterations=LSRTM_ITERATIONS)
                peer = self._deepwave(start, threads, "deepwave_born")
                if not peer:
                    break
                if not rows:
                    name = "deepwave's, 20 cells from the edges (another absorbing layer)"
                    rows.append(
                        _difference(
                            "lsrtm", name, *(_inside("B", _gradient(w)) for w in (ours, peer))
                        )
                    )
                contenders = {name: Contender(ours, name) for name in ("iteration", "afresh")}
                t = in_turns(
                    contenders | {"deepwave": Contender(peer, "iteration")}, self.few_rounds
                )
            shared = Times([s / LSRTM_ITERATIONS for s in t["afresh"].seconds])
            what = (
                f"one of {LSRTM_ITERATIONS} iterations, background included: "
                f"faster than deepwave, {words}"
            )
            rows += [
                _gain(
                    "lsrtm",
                    f"iteration: faster than deepwave, {words}",
                    t["iteration"],
                    t["deepwave"],
                    at_least(12),
                ),
                _gain("lsrtm", what, shared, t["deepwave"]),
            ]
        return rows

    def network(self) -> list[Row]:
        """A network's training step against its convolutions and wave solves, each by itself."""
        with self._workers("A") as start:
            ours = start("ondax_network", threads=1)
            names = ("step", "convolutions", "solves")
            t = in_turns({name: Contender(ours, name) for name in names}, self.rounds)
        parts = Times(
            [a + b for a, b in zip(t["convolutions"].seconds, t["solves"].seconds, strict=True)]
        )
        return [
            _cost(
                "network",
                "training step / its convolutions and two wave solves",
                t["step"],
                parts,
                at_most(1.1),
            )
        ]

    def building(self) -> list[Row]:
        """First gradients of every 2-D equation, imports not counted."""
        rows = []
        for name in ("Acoustic", "AcousticDensity", "VTI", "Viscoacoustic", "Elastic", "TTI"):
            with tempfile.TemporaryDirectory() as empty:
                environment = {"ONDAX_CACHE_DIR": f"{empty}/ondax", "TMPDIR": empty}
                for kind, limit in (("cold", 8), ("warm", 0.5)):
                    spent = float(_printed("building", environment, name))
                    rows.append(
                        Row(
                            "building",
                            f"first gradient of {name}, cache {kind}",
                            spent,
                            "s",
                            at_most(limit),
                        )
                    )
        return rows

    def startup(self) -> list[Row]:
        cold, warm = [], []
        for _ in range(self.few_rounds):
            with tempfile.TemporaryDirectory() as empty:
                # TMPDIR is where Devito itself caches
                environment = {"ONDAX_CACHE_DIR": f"{empty}/ondax", "TMPDIR": empty}
                cold.append(float(_printed("startup", environment)))
                warm.append(float(_printed("startup", environment)))
        what = "`import ondax` to the first gradient of A"
        return [
            Row("startup", f"{what}, cache warm", statistics.median(warm), "s", at_most(2.5)),
            Row("startup", f"{what}, cache cold", statistics.median(cold), "s", at_most(8)),
        ]

    def memory(self) -> list[Row]:
        rows = []
        for name, (history, limit) in product(("A", "D"), MEMORY.items()):
            try:
                _printed("memory", {}, name, history)  # compiles the kernels
                extra = int(_printed("memory", {}, name, history))
            except WorkerError as error:
                if history == "auto":
                    raise
                self._note(f'no gradient with history="{history}": {error}')
                continue
            every_step = CASES[name].history_bytes
            sizes = {"ours": f"{extra / 1e6:.0f} MB", "theirs": f"{every_step / 1e6:.0f} MB"}
            what = f'gradient of {name}, history "{history}": peak over base / float32 history'
            rows.append(Row("memory", what, extra / every_step, limit=limit, **sizes))
        return rows

    # ---------------------------------------------------------------- workers

    @contextmanager
    def _workers(self, case: str) -> Iterator[Callable[..., Worker]]:
        """Gives a function that starts workers, ends them, and notes what else kept the machine
        busy."""
        workers: list[Worker] = []
        with ExitStack() as stack:

            def start(module: str, python: str = sys.executable, **options: Any) -> Worker:
                worker = stack.enter_context(Worker(module, {"case": case, **options}, python))
                workers.append(worker)
                self.versions |= worker.facts
                return worker

            others = OtherWork()
            yield start
            busy = others.cores([w.pid for w in workers])
        if busy > 0.1:
            self._note(
                f"case {case} is noisy: other processes kept {busy:.1f} cores busy meanwhile"
            )

    def _deepwave(
        self,
        start: Callable[..., Worker],
        threads: int,
        module: str = "deepwave_baseline",
        **options: Any,
    ) -> Worker | None:
        try:
            return start(module, python=self.deepwave_python, threads=threads, **options)
        except (WorkerError, OSError) as error:
            self._note(f"no comparison with deepwave: {error}")
            return None

    def _cheapest(self, start: Callable[..., Worker], module: str, **options: Any) -> Worker | None:
        """ondax with its cheapest history, where that is a setting."""
        try:
            return start(module, history=CHEAPEST, **options)
        except WorkerError as error:
            self._note(f'no gradient with history="{CHEAPEST}": {error}')
            return None

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _both(ours: Worker, peer: Worker | None) -> dict[str, Contender]:
    prefixes = {"": ours} | ({"deepwave ": peer} if peer else {})
    actions = ("gradient", "forward")
    return {
        prefix + action: Contender(w, action)
        for prefix, w in prefixes.items()
        for action in actions
    }


def _against_deepwave(
    case: str, threads: str, t: Mapping[str, Times], limits: Mapping[str, Limit | None]
) -> list[Row]:
    return [
        _gain(
            case, f"{what}: faster than deepwave, {threads}", t[what], t[f"deepwave {what}"], limit
        )
        for what, limit in limits.items()
    ]


def _against_devito(case: str, words: str, t: Mapping[str, Times], target: str) -> list[Row]:
    limits = DEVITO[target]
    rows = [_cost(case, f"gradient / Devito's{words}", t["gradient"], t["devito"], limits.exact)]
    if "cheapest" in t:
        what = f'gradient, history "{CHEAPEST}" / Devito\'s{words}'
        rows.append(_cost(case, what, t["cheapest"], t["devito"], limits.cheapest))
    return rows


def _cheapest_against_deepwave(
    case: str, words: str, t: Mapping[str, Times], target: str
) -> list[Row]:
    if "cheapest" not in t:
        return []
    what = f'gradient, history "{CHEAPEST}": faster than deepwave, {words}'
    return [_gain(case, what, t["cheapest"], t["deepwave gradient"], DEEPWAVE[target].cheapest)]


def _cost(case: str, what: str, ours: Times, theirs: Times, limit: Limit | None = None) -> Row:
    """Our time over theirs."""
    return Row(
        case, what, ours.over(theirs), "x", limit, seconds(ours.median), seconds(theirs.median)
    )


def _gain(case: str, what: str, ours: Times, theirs: Times, limit: Limit | None = None) -> Row:
    """Their time over ours."""
    return Row(
        case, what, theirs.over(ours), "x", limit, seconds(ours.median), seconds(theirs.median)
    )


def _gradient(worker: Worker, action: str = "gradient_array") -> np.ndarray:
    return np.asarray(worker.run(action)[1])


def _difference(
    case: str, name: str, ours: np.ndarray, theirs: np.ndarray, limit: Limit | None = None
) -> Row:
    relative = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
    return Row(case, f"check: gradient differs from {name}", relative, "", limit)


def _worst(case: str, name: str, ours: Worker, theirs: Worker, limit: Limit | None = None) -> Row:
    """The largest difference, of the gradients by each parameter."""
    model = (ELASTIC_CASES | TILTED_CASES)[case]
    count = len(model.parameters(*np.zeros((len(model.shape), 1))))
    parts = (np.split(_gradient(w), count) for w in (ours, theirs))
    differences = (_difference(case, name, a, b, limit) for a, b in zip(*parts, strict=True))
    return max(differences, key=lambda row: row.value)


def _inside(case: str, image: np.ndarray) -> np.ndarray:
    """An image without its outermost 20 cells."""
    return image.reshape(CASES[case].shape)[(slice(20, -20),) * len(CASES[case].shape)]


def _devito_agrees(case: str, ours: Worker, devito: Worker) -> list[Row]:
    """That the baseline's adjoint is one, and that it calculates what we do."""
    g = _gradient(ours)
    return [
        Row(
            case,
            "check: dot test of the Devito baseline",
            devito.run("dot_test")[1],
            "",
            at_most(1e-5),
        ),
        _difference(case, "Devito's", g, _gradient(devito), SAME),
        _difference(
            case, "Devito's, imaging fused", g, _gradient(devito, "gradient_fused_array"), SAME
        ),
    ]


def _printed(module: str, environment: Mapping[str, str], *arguments: str) -> str:
    """What a module of this package prints when it runs in a process of its own."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    variables = os.environ | environment
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise WorkerError(f"{module}: {last[0]}")
    return done.stdout.strip().splitlines()[-1]
