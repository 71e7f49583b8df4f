"""The symbolic description of an explicit time-stepping scheme, and of what enters and leaves it.

A `System` is what an equation file states and what the calculus transforms. It knows symbols only:
no data, no grid size, no boundary values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from .._symbolic import devito, sympy
from .errors import EquationError
from .symbols import Expr, Field, Spatial, Symbols

Pde = Any  # a `continuous.Pde`, whose module is imported where one is stated


@dataclass(frozen=True)
class Update:
    """One explicit update, `mass * field.forward == rhs`; of a memory, `field.forward == keep *
    field + take * rhs / mass`.

    Attributes:
        field: the field advanced by this update.
        mass: an expression of coefficients, profiles and the time step only.
        rhs: linear in the fields (at the current and the previous step, and at the next one for
            fields that an earlier update of the same step has advanced), polynomial in the
            coefficients.
        keep: what a memory keeps of itself: of profiles only.
        take: how much of the rest it takes up: of profiles only. The multiplier of the adjoint
            scheme is scaled by it, so that it stands outside of all derivatives there too.
        pde: the equation in continuous time that `Update.of` made it from, until a boundary has
            added its damping; None of any other update.
    """

    field: Field
    mass: Expr
    rhs: Expr
    keep: Expr = dataclasses.field(default_factory=lambda: sympy.S.Zero)
    take: Expr = dataclasses.field(default_factory=lambda: sympy.S.One)
    pde: Pde | None = None

    @classmethod
    def of(cls, expression: Expr, field: Field) -> Update:
        """The update of a field by its own equation, `expression == 0`, as it is written down.

            ox.Update.of(m * u.dt2 + s * u.dt - u.laplace, u)
            ox.Update.of(rho * v.dt - p.dx, v)

        Derivatives of the field in time become centred differences: of second order for a field of
        time order 2, from one step to the next for one of time order 1. The equation is then solved
        for `field.forward`. What is undifferentiated in time is taken in the middle of the
        difference; of a field of first order itself, that is the mean of its two values.

        What samples of a source feed to it is added to the right-hand side, `expression == sample`.
        Sources act when forces hold, which is in the middle of a step if the equation is of first
        order, and receivers read a field when it holds; see `ox.Port`.

        The damping of absorbing layers is added to derivatives in time, without being mentioned.
        If the expression holds `boundary.damping(symbols, field)`, nothing is added.

        Other fields need no time: in `ox.System`, each is read when it is centred, at the next step
        if an earlier update has advanced it. So velocities from pressures come first, and then
        pressures from velocities. A time that is written, such as `v.forward`, is kept; one that is
        not centred is refused.

        Args:
            expression: linear in the fields, with `field.dt2` for a field of time order 2, and
                `field.dt` for any; what multiplies them is pointwise and of coefficients.
            field: whose equation it is.

        Raises:
            EquationError: it cannot be discretised so; says why, and the remedy.
        """
        from .continuous import pde

        equation = pde(expression, field)
        return cls(field, *equation.discretised(), pde=equation)

    def damped(self, damping: Expr, pull: Expr) -> Update:
        """The update with damping in its derivatives in time, see `Pde.discretised`, if it was made
        by `Update.of`; else as it is."""
        if self.pde is None:
            return self
        mass, rhs = self.pde.discretised(damping, pull)
        return replace(self, mass=mass, rhs=rhs, pde=None)

    def new_value(self, part: Expr) -> Expr:
        """What a part of the right-hand side adds to the field's new value."""
        return self.take * part / self.mass


class Touch(NamedTuple):
    """What a port does to one field.

    Attributes:
        field: the field that it feeds or reads.
        along: the axis along which it feeds or reads the field's derivative; None for the field
            itself. In a `Plan`, its name.
        factor: constant.
    """

    field: Field
    along: Any
    factor: float


@dataclass(frozen=True)
class Port:
    """Where samples enter a scheme or leave it: a fixed linear combination of fields, and of first
    derivatives of fields along an axis.

    An output reads `sum(factor * field)` at the end of the step, where a term may hold a derivative
    in place of the field. An input does the transpose. For a field, it adds `factor * sample` times
    a delta function to the right-hand side of the field's update. For a derivative of a field, it
    adds that times minus the derivative of a delta function, which is a dipole. So an input and an
    output of the same terms are reciprocal.

    Attributes:
        name: unique among the ports of a system.
        terms: pairs of a field, or of its derivative such as `v_x.dx`, and a constant factor. A
            derivative is that at the place of the source or receiver, whatever its evaluation
            point; it is taken by staggered differences of the scheme's order, and interpolated.
        time: in steps. Of an input: when its samples act, after the beginning of the step. Of an
            output: when what it reads holds, after the end of the step; -1/2 for the velocities of
            a leapfrog in velocity and stress. None: found by the `System` for fields whose updates
            `Update.of` states; 0 for others.
        strains: what it feeds does not vanish at a free surface, although a field that it enters
            does. A source of stress radiates as the strain at its place (reciprocity), and in a
            free surface the normal strain is not zero.
    """

    name: str
    terms: tuple[tuple[Expr, float], ...]
    time: float | None = None
    strains: bool = False

    @cached_property
    def touches(self) -> tuple[Touch, ...]:
        """The terms, by field.

        Raises:
            EquationError: a term is neither a field nor a first derivative of one along an axis.
        """
        return tuple(self._touch(term, factor) for term, factor in self.terms)

    def _touch(self, term: Expr, factor: float) -> Touch:
        from .terms import is_access, time_offset

        field, along = term, None
        if isinstance(term, devito.Derivative) and tuple(term.deriv_order) == (1,):
            field, (along,) = term.expr, term.dims
        if not is_access(field) or time_offset(field) or (along is not None and along.is_Time):
            raise EquationError(
                f"port {self.name}: the term {term} must be a field, or a first derivative of a "
                "field along one axis, such as v_x.dx"
            )
        return Touch(field, along, factor)

    def between(self, fields: Mapping[Field, Field], name: str | None = None) -> Port:
        """The same port of another system, given the counterpart of each field."""
        from .terms import with_operand

        terms = tuple(
            (fields[t.field] if t.along is None else with_operand(term, fields[t.field]), t.factor)
            for (term, _), t in zip(self.terms, self.touches, strict=True)
        )
        return replace(self, name=name or self.name, terms=terms, time=0.0)


@dataclass(frozen=True)
class Flux:
    """A vector field of which all forces of a scheme are made, so that a layer may damp it.

    With F the operator that makes the flux of the fields, the forces are `-F' F` of the fields, but
    for parts that waves hardly feel, such as what centred first differences miss of second ones.

    Attributes:
        along: its component along each axis, by name, as an expression in the fields.
        forces: what another flux along an axis adds to the right-hand sides of updates, by field:
            `-F'` of it.
    """

    along: Mapping[str, Expr]
    forces: Callable[[str, Expr], Mapping[Field, Expr]]


@dataclass(frozen=True)
class System:
    """An explicit scheme: the updates of one time step, in order, with its inputs and outputs.

    Attributes:
        symbols: the factory that made the symbols below.
        coefficients: spatially varying, differentiable coefficients.
        updates: the step, in order of execution.
        inputs: where sources enter.
        outputs: what receivers read.
        flux: what layers may damp instead of single derivatives; None where the scheme has none.
    """

    symbols: Symbols
    coefficients: tuple[Spatial, ...]
    updates: tuple[Update, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    flux: Flux | None = None

    def __post_init__(self) -> None:
        """Read every field when it holds, in the equations of `Update.of`, and by ports."""
        settled: dict[str, Any] = {}
        if any(update.pde for update in self.updates):
            from .centring import centred

            found = centred((update.field, update.pde) for update in self.updates)
            pairs = zip(self.updates, found.equations, strict=True)
            settled["updates"] = tuple(_with_pde(update, equation) for update, equation in pairs)
            settled["inputs"] = tuple(found.timed(port, feeds=True) for port in self.inputs)
            settled["outputs"] = tuple(found.timed(port, feeds=False) for port in self.outputs)
        else:
            settled["inputs"], settled["outputs"] = map(_at_once, (self.inputs, self.outputs))
        for name, value in settled.items():
            object.__setattr__(self, name, value)

    @property
    def fields(self) -> tuple[Field, ...]:
        return tuple(update.field for update in self.updates)

    def describe(self) -> str:
        """The whole scheme as text; of two schemes with the same text, all that is derived is the
        same."""
        symbols = self.symbols
        lines = [f"{symbols.ndim}-D, space order {symbols.space_order}, images {symbols.ghosts}"]
        for function in (*self.coefficients, *symbols.profiles, *self.fields):
            order = function.time_order if isinstance(function, devito.TimeFunction) else ""
            traits = symbols.traits_of(function)
            region = sorted(traits.region)
            lines.append(f"{function} {order} {function.space_order} {traits.image} {region}")
        for u in self.updates:
            memory = f" keep {text(u.keep)} take {text(u.take)}"
            lines.append(f"({text(u.mass)}) * {u.field.forward} = {text(u.rhs)}{memory}")
            if u.pde:  # a boundary will add its damping
                parts = map(text, (u.pde.inertia, u.pde.loss, u.pde.forces))
                lines.append(f"of {', '.join(parts)}")
        for kind, ports in (("in", self.inputs), ("out", self.outputs)):
            lines += [
                f"{kind} {p.name}: {[(text(f), c) for f, c in p.terms]} {p.time} {p.strains}"
                for p in ports
            ]
        if self.flux:
            for axis, along in self.flux.along.items():
                forces = {f.name: text(v) for f, v in self.flux.forces(axis, along).items()}
                lines.append(f"flux along {axis}: {text(along)}, forces {forces}")
        return "\n".join(lines)


def _at_once(ports: tuple[Port, ...]) -> tuple[Port, ...]:
    """Ports whose time is 0 if it is not stated."""
    return tuple(replace(port, time=0.0) if port.time is None else port for port in ports)


def _with_pde(update: Update, equation: Pde | None) -> Update:
    """The update, made anew if its equation has changed."""
    if equation is None or equation is update.pde:
        return update
    mass, rhs = equation.discretised()
    return replace(update, mass=mass, rhs=rhs, pde=equation)


def text(expr: Expr) -> str:
    """An unambiguous text of an expression: unlike SymPy's, it states where and how derivatives are
    evaluated, and numbers with all their digits."""
    if isinstance(expr, devito.Derivative):
        where = ", ".join(
            f"{d}^{n}@{expr.x0.get(d)}" for d, n in zip(expr.dims, expr.deriv_order, strict=True)
        )
        return f"D[{where}; {tuple(expr.fd_order)}]({text(expr.expr)})"
    if isinstance(expr, devito.Function) or not expr.args:
        return float(expr).hex() if expr.is_Float else str(expr)
    return f"{expr.func.__name__}({', '.join(sorted(text(arg) for arg in expr.args))})"
