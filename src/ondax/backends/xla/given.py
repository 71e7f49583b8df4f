"""What runs are given: shots at a size of about one, and the part of the domain that each sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...scheme.plan import PlannedPort
from ...scheme.system import Touch
from ..clock import Clock
from ..devito.plans import Planned
from ..domain import Domain
from . import scales
from .axes import alike
from .ends import Ends
from .extents import Extent
from .form import Form
from .parts import Parts
from .runs import Runs, Scene
from .shots import Situation
from .steps import State
from .tape import Keep
from .windows import Points


class Ready(NamedTuple):
    """Some shots as runs take them, all at a size of about one.

    Attributes:
        scene: see there.
        source: samples, (step, shot, port, point).
        state: before the first step.
        power: of two, by which results are to be multiplied, (shot,).
    """

    scene: Scene
    source: Any
    state: State
    power: Any


class Given:
    """Makes of situations what runs are given.

    Args:
        planned: what is run.
        domain: that coefficients are given on, and which part of it each device has.
        of_shots: likewise, what shots are run on.
        clock: steps.
        ends: the state before the first step.
        runs: of a form.
    """

    def __init__(
        self,
        planned: Planned,
        domain: tuple[Domain, Parts],
        of_shots: tuple[Domain, Parts],
        clock: Clock,
        ends: Ends,
        runs: Callable[[Form], Runs],
    ) -> None:
        self._planned, self._plan, self._clock = planned, planned.plan, clock
        self._domain, self._of_domain = domain
        self._of_shots, self._parts = of_shots
        self._ends, self._runs = ends, runs
        self._dtype = np.dtype(self._domain.dtype)

    def of(
        self, x: Situation, form: Form, keep: Keep | None, slopes: Sequence[bool] = (False, False)
    ) -> Ready:
        """Some shots, ready to run.

        Args:
            x: the shots.
            form: how steps are written.
            keep: what runs keep.
            slopes: whether derivatives by the positions of sources, and of receivers, are read.
        """
        plan, runs = self._plan, self._runs(form)
        coefficients = {n: self.seen(c[None], x.starts) for n, c in x.coefficients.items()}
        power, of_weights = self.power(x), self.power_of_weights(x)
        weights = x.weights
        if weights is not None:
            weights = scales.scaled(self.seen(weights, x.starts), -of_weights)
        samples = scales.scaled(x.samples, of_weights - power)
        beyond = keep.beyond if keep else 0
        copies = 1 + plan.ndim if x.by_position else 1
        rows = samples.reshape(x.shots, copies, len(plan.inputs), -1, samples.shape[-1])
        rows = jnp.moveaxis(rows, (4, 0, 2), (0, 1, 2))  # (step, shot, port, copy, point)
        rows = rows.reshape(*rows.shape[:3], -1)
        rows = jnp.pad(rows, ((0, beyond), (0, 0), (0, 0), (0, 0)))
        if weights is None:
            assert x.sources is not None
            moved = slopes[0] or x.by_position
            feeds: list[Any] = [
                Points(plan, self._of_shots, p, x.sources, moved, form.dense, self._parts)
                for p in plan.inputs
            ]
        else:
            feeds = [Extent(plan, self._of_shots, p, weights, self._parts) for p in plan.inputs]
        reads = [
            Points(plan, self._of_shots, p, x.receivers, slopes[1], form.dense, self._parts)
            for p in plan.outputs
        ]
        state = runs.stepper.rest(x.shots)
        if x.initial is not None:
            start = {n: scales.scaled(v, -power) for n, v in x.initial.items()}
            state = runs.stepper.started(self._ends.chosen(start, runs.stepper), x.shots)
        state = alike(state, next(iter(coefficients.values())))
        return Ready(Scene(coefficients, feeds, reads, x.shots), rows, state, power)

    def power(self, x: Situation) -> Any:
        """The power of two that makes fields of a size of about one, (shot,)."""
        gain = self.gain(self._plan, self._plan.inputs, x)
        of_samples = scales.exponent(x.samples, 2)
        silent = of_samples == scales.NOTHING
        power = jnp.where(silent, gain, of_samples + gain + self.power_of_weights(x))
        if x.initial is None:
            return power
        of_state = [scales.exponent(v, v.ndim - 1) for v in x.initial.values()]
        largest = jnp.stack(of_state).max(axis=0)
        power = jnp.where(silent, largest, jnp.maximum(power, largest))
        return jnp.where(power == scales.NOTHING, gain, power)

    def power_of_weights(self, x: Situation) -> Any:
        """That of the weights of extended sources, (shot,); zero for points."""
        if x.weights is None:
            return jnp.zeros(x.shots, np.int32)
        size = scales.exponent(x.weights, x.weights.ndim - 1, self._parts.over)
        return scales.or_zero(size)

    def seen(self, array: Any, starts: Any) -> Any:
        """The part of an array (1 or shot, *domain) that each shot sees."""
        if starts is None:
            return array
        array = self._of_domain.whole(array, 1)
        whole = jnp.broadcast_to(array, (starts.shape[0], *array.shape[1:]))
        shape = self._of_shots.shape
        seen = jax.vmap(lambda a, s: lax.dynamic_slice(a, list(s), shape))(whole, starts)
        return self._parts.here(seen, 1)

    def put_back(self, parts: Any, starts: Any) -> Any:
        """The sum over shots of parts of the domain, (*domain)."""
        parts = self._parts.whole(parts, 1)
        zeros = alike(jnp.zeros(self._domain.shape, self._dtype), parts)

        def add(total: Any, part_and_start: Any) -> Any:
            part, start = part_and_start
            seen = lax.dynamic_slice(total, list(start), part.shape)
            return lax.dynamic_update_slice(total, seen + part, list(start)), None

        return self._of_domain.here(lax.scan(add, zeros, (parts, starts))[0])

    def gain(self, plan: Any, ports: Any, x: Situation) -> Any:
        """See `scales.gain`."""
        return scales.gain(plan, ports, x.coefficients, self._clock.dt, self._parts.over)

    def power_back(self, x: Situation, residual: Any, final: Any) -> Any:
        """The power of two that residuals are to be divided by, (shot,)."""
        transposed = self._planned.transposed
        gain = self.gain(transposed, transposed.inputs, x)
        size = scales.exponent(residual, 2)
        found = jnp.where(size == scales.NOTHING, size, size + gain)
        if final is not None:
            program = self._planned.program
            names = {a.name: f.name for f, a in program.adjoints.items()}
            for adjoint in transposed.fields:
                cotangent = final.get(names[adjoint.name])
                if cotangent is not None:
                    port = PlannedPort("settled", (Touch(adjoint, None, 1.0),), 0.0, False)
                    more = self.gain(transposed, (port,), x)
                    size = scales.exponent(cotangent, cotangent.ndim - 1)
                    size = jnp.where(size == scales.NOTHING, size, size + more)
                    found = jnp.maximum(found, size)
        return found

    def strongest(self, x: Situation, residual: Any, final: Any) -> Any:
        """The power of two that gradients are summed at, of all shots."""
        power = self.power(x)
        of_residual = self.power_back(x, residual, final)
        total = jnp.where(of_residual == scales.NOTHING, scales.NOTHING, power + of_residual)
        largest, over = jnp.max(total), self._parts.over_shots
        return scales.or_zero(lax.pmax(largest, over) if over else largest)
