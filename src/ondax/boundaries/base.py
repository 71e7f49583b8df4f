"""What surrounds a model: what every boundary does, and what every layer of it says."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, ClassVar, NamedTuple, final

import equinox as eqx
import numpy as np

from .._symbolic import sympy
from ..scheme.plan import Plan
from ..scheme.symbols import Expr, Symbols
from ..scheme.system import System, Update

Profile = np.ndarray[Any, np.dtype[np.float64]]
End = tuple[str, str]  # name of an axis, and "low" or "high"
NONE: frozenset[str] = frozenset()


class Conditions(NamedTuple):
    """What a boundary's strength depends on: along one axis, in SI units.

    Attributes:
        spacing: metres.
        max_velocity: m/s.
        frequency: dominant, Hz.
        dt: internal time step, s.
    """

    spacing: float
    max_velocity: float
    frequency: float
    dt: float


class Fit(NamedTuple):
    """What a boundary must fit.

    Attributes:
        shape: of the grid.
        space_order: of the equation.
        stretchable: whether the equation is stable in perfectly matched layers; None if unknown.
        equation: its name.
        joint_flux: whether it states a flux for layers to damp.
    """

    shape: tuple[int, ...]
    space_order: int
    stretchable: bool | None
    equation: str
    joint_flux: bool


class AbstractBoundary(eqx.Module):
    """What surrounds the model.

    An equation asks the boundary for damping, or leaves it to the boundary, by `Update.of`.
    Everything else the boundary does to the scheme itself, in `surround`, so no other code asks
    what kind it is.
    """

    @abstractmethod
    def face(self, axis: str, side: str) -> AbstractLayer:
        """The layer at one end ("low" or "high") of an axis ("x", "y" or "z")."""

    @abstractmethod
    def edges(self) -> AbstractBoundary:
        """The boundary without its absorbing layers: each of them is an `Edge` instead. Limits of
        the time step are computed with that."""

    def widths(self, axes: Sequence[str]) -> tuple[tuple[int, int], ...]:
        """Cells added below and above along each axis."""
        return tuple((self.face(a, "low").width, self.face(a, "high").width) for a in axes)

    def surround(self, system: System, crowded: frozenset[str] = NONE) -> System:
        """The scheme with this boundary around it, and with its damping in the updates that were
        made by `Update.of`.

        Args:
            system: the scheme.
            crowded: names of the axes along which layers are close to each other; see `crowded`.

        Raises:
            EquationError: the scheme does not say what the boundary needs to know.
        """
        from ..calculus.check import checked
        from ..calculus.images import check_images

        system = checked(self._damped(system))
        for layer, ends in self._layers(system.symbols.axes):
            system = layer.act(system, ends, crowded)
        if system.symbols.ghosts:
            for update in system.updates:
                check_images(update.rhs, system.symbols)
        return system

    def _damped(self, system: System) -> System:
        """The scheme with damping in the updates that were made by `Update.of`, but for those that
        state it themselves."""
        from ..scheme.terms import depends_on

        symbols = system.symbols
        layers = [layer for layer, _ in self._layers(symbols.axes)]
        rates = {p for p in symbols.profiles if symbols.kind_of(p) in {x.rate for x in layers}}

        def damped(update: Update) -> Update:
            stated = depends_on(update.mass, rates) or depends_on(update.rhs, rates)
            if update.pde is None or stated:
                return replace(update, pde=None)
            field = update.field
            return update.damped(self.damping(symbols, field), self.pull(symbols, field))

        return replace(system, updates=tuple(map(damped, system.updates)))

    def crowded(self, plan: Plan, shape: Sequence[int]) -> frozenset[str]:
        """The axes along which two layers are so close that some points feel both.

        Args:
            plan: the scheme with this boundary.
            shape: of the grid.
        """
        found = NONE
        for layer, ends in self._layers(plan.axes):
            found |= layer.crowded_between(plan, ends, shape)
        return found

    def _layers(self, axes: Sequence[str]) -> Iterator[tuple[AbstractLayer, list[End]]]:
        """Each class of layers, with the ends of axes at which such layers stand. The class is
        represented by the first object of it, whose own settings must not count here. The top
        comes first: its images must exist when the other layers are added."""
        ends = sorted(((a, side) for a in axes for side in ("low", "high")), key=_not_the_top)
        by_kind: dict[type, tuple[AbstractLayer, list[End]]] = {}
        for end in ends:
            layer = self.face(*end)
            by_kind.setdefault(type(layer), (layer, []))[1].append(end)
        for layer, found in by_kind.values():
            yield layer, sorted(found, key=lambda end: (axes.index(end[0]), end[1] == "high"))

    def damping(self, symbols: Symbols, field: Any) -> Expr:
        """The symbol of the damping rate of layers, 1/s, at the points where `field` lives: the
        sum over axes."""
        rates = self._rates(symbols, field, lambda layer: layer.rate)
        return sum(rates, sympy.S.Zero)

    def pull(self, symbols: Symbols, field: Any) -> Expr:
        """The symbol of the factor with which layers pull a field back, 1/s^2, at the points where
        it lives: the sum over pairs of axes of the product of two rates. It is the last term of
        `(d/dt + a) (d/dt + b)`, and zero but for layers that have one."""
        rates = self._rates(symbols, field, lambda layer: layer.rate if layer.pulls else None)
        return sum((a * b for a, b in combinations(rates, 2)), sympy.S.Zero)

    def _rates(
        self, symbols: Symbols, field: Any, rate_of: Callable[[AbstractLayer], str | None]
    ) -> list[Expr]:
        """The rates of the layers of each axis that has any, at the points where a field lives."""
        found = []
        for dimension in symbols.dimensions:
            rates = (rate_of(self.face(dimension.name, side)) for side in ("low", "high"))
            index = field.indices[field.dimensions.index(dimension)]
            profiles = [
                symbols.profile(name, dimension, staggered=index != dimension)
                for name in dict.fromkeys(rates)
                if name is not None
            ]
            if profiles:
                found.append(sum(profiles[1:], start=profiles[0]))
        return found

    def profiles(
        self, plan: Plan, shape: Sequence[int], spacing: Sequence[float], conditions: Conditions
    ) -> dict[str, Profile]:
        """Values of every profile of a scheme, by name; `conditions.spacing` is ignored and set
        for each axis."""
        made = {}
        for profile in plan.profiles:
            (name,), (half,) = profile.axes, profile.halves
            axis = plan.axes.index(name)
            here, points = conditions._replace(spacing=spacing[axis]), shape[axis]
            index: Profile = np.arange(points, dtype=np.float64) + (0.5 if half else 0.0)
            values = np.zeros(points)
            for side, cells in (("low", index), ("high", points - 1.0 - index)):
                layer = self.face(name, side)
                values = layer.shaped(plan.kinds[profile.name], cells, here, values)
            made[profile.name] = values
        return made

    def changed(
        self,
        coefficients: Mapping[str, Any],
        at_surface: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> dict[str, Any]:
        """The coefficients on the domain as the boundary changes them.

        Args:
            coefficients: by name.
            at_surface: what an equation has to say of a free surface at the top.
        """
        return self.face("z", "low").changed_at_top(coefficients, at_surface)

    def check(self, fit: Fit, axes: Sequence[str]) -> None:
        """Check that it fits a grid and an equation.

        Raises:
            ValueError: it does not; says why, and what would.
        """
        for axis in axes:
            for side in ("low", "high"):
                self.face(axis, side).check_face((axis, side), fit, self)


def _not_the_top(end: End) -> bool:
    return end != ("z", "low")


class AbstractLayer(AbstractBoundary):
    """One kind of boundary, on any face.

    Attributes:
        width: cells that it adds.
        rate: the name of the profile by which it damps fields in time; None if it does not.
        pulls: whether it pulls fields back too, where two such layers meet; see `pull`.
        guides: whether waves guided by strata along its face can grow in it (see
            `ondax.stability.layering`).
        returns: whether all that meets it comes back.
        top_only: whether it can stand at the top only.
    """

    width: eqx.AbstractVar[int]
    rate: eqx.AbstractClassVar[str | None]
    pulls: ClassVar[bool] = False
    guides: eqx.AbstractClassVar[bool]
    returns: eqx.AbstractClassVar[bool]
    top_only: eqx.AbstractClassVar[bool]

    def face(self, axis: str, side: str) -> AbstractLayer:
        """Itself, on every face."""
        return self

    @abstractmethod
    def act(self, system: System, ends: Collection[End], crowded: frozenset[str]) -> System:
        """The scheme with layers of this kind at some ends of axes.

        It is called once for each class of layers, on the first object of the class. The others may
        have other settings, so it must not use its own; what depends on settings belongs in
        `shaped`.
        """

    @abstractmethod
    def crowded_between(
        self, plan: Plan, ends: Collection[End], shape: Sequence[int]
    ) -> frozenset[str]:
        """The axes at both of whose ends layers of this kind stand, so close that some points feel
        both; see `crowded`. Like `act`, it is called once for each class of layers."""

    @abstractmethod
    def shaped(self, kind: str, cells: Profile, conditions: Conditions, values: Profile) -> Profile:
        """The values of a profile, with its own where it stands.

        Args:
            kind: which profile.
            cells: from the outermost node of its face.
            conditions: of the run.
            values: those of elsewhere.
        """

    @abstractmethod
    def changed_at_top(
        self,
        coefficients: Mapping[str, Any],
        at_surface: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> dict[str, Any]:
        """See `changed`: of a layer at the top."""

    @abstractmethod
    def check_face(self, end: End, fit: Fit, boundary: AbstractBoundary) -> None:
        """Check that it may stand at one end of an axis, as a part of a boundary.

        Raises:
            ValueError: it may not.
        """


@final
class Edge(AbstractLayer):
    """Nothing: the grid ends, and beyond it fields are zero."""

    rate: ClassVar[str | None] = None
    guides: ClassVar[bool] = False
    returns: ClassVar[bool] = True
    top_only: ClassVar[bool] = False
    width: int = eqx.field(static=True, default=0, init=False)

    def edges(self) -> AbstractBoundary:
        """Itself."""
        return self

    def act(self, system: System, ends: Collection[End], crowded: frozenset[str]) -> System:
        """The scheme as it is."""
        return system

    def crowded_between(
        self, plan: Plan, ends: Collection[End], shape: Sequence[int]
    ) -> frozenset[str]:
        """Nowhere."""
        return NONE

    def shaped(self, kind: str, cells: Profile, conditions: Conditions, values: Profile) -> Profile:
        """As elsewhere."""
        return values

    def changed_at_top(
        self,
        coefficients: Mapping[str, Any],
        at_surface: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> dict[str, Any]:
        """As they are."""
        return dict(coefficients)

    def check_face(self, end: End, fit: Fit, boundary: AbstractBoundary) -> None:
        """It fits everywhere."""
