"""What a step of a scheme means, for whatever runs it: no word of storage, loops or code."""

from __future__ import annotations

from functools import cached_property

from ..scheme.plan import Keeping, Plan
from ..scheme.symbols import Field, Symbols
from ..scheme.system import System
from .check import checked
from .coupling import Coupling, couple
from .images import check_ports
from .planning import keeping, planned
from .state import Ends, ends, levels
from .transpose import transpose


class Program:
    """A scheme together with its adjoint, and with what couples it to its coefficients. Compared by
    identity.

    A backend runs it forward (`system`), linearised around a run (`coupling(...).born` says what
    perturbed coefficients add to each update), and backward (`transposed`, with
    `coupling(...).gradients`).

    Args:
        system: the scheme, in its boundary.
        extended: sources are weights on the whole grid, not points.
        keep_products: whether histories hold products of fields and derivatives, or the fields that
            these are made of; None for whichever are fewer.
    """

    def __init__(
        self, system: System, extended: bool = False, keep_products: bool | None = None
    ) -> None:
        self.system = checked(system)
        check_ports(self.system)
        self.extended, self.keep_products = extended, keep_products
        self._couplings: dict[tuple[str, ...], Coupling] = {}

    @property
    def symbols(self) -> Symbols:
        """The factory of its symbols."""
        return self.system.symbols

    @cached_property
    def transposed(self) -> System:
        """The adjoint scheme, which steps backward in time."""
        return transpose(self.system)

    @cached_property
    def adjoints(self) -> dict[Field, Field]:
        """The adjoint of each field: the transposed updates stand in reverse order."""
        return dict(zip(self.system.fields, reversed(self.transposed.fields), strict=True))

    @cached_property
    def plan(self) -> Plan:
        """What runs need to know of the scheme."""
        return planned(self.system, self.extended)

    @cached_property
    def transposed_plan(self) -> Plan:
        """What they need to know of the adjoint scheme."""
        return planned(self.transposed, self.extended)

    @cached_property
    def state(self) -> dict[Field, int]:
        """The values in time of each field that the next step reads."""
        return levels(self.system)

    @cached_property
    def ends(self) -> Ends:
        """What joins the adjoint to cotangents of the states before and after a run."""
        return ends(self.system, self.transposed, self.adjoints)

    def coupling(self, coefficients: tuple[str, ...]) -> Coupling:
        """What to keep of a run for the perturbations of the named coefficients, and how it is
        read."""
        if coefficients not in self._couplings:
            chosen = tuple(c for c in self.system.coefficients if c.name in coefficients)
            made = couple(self.system, chosen, self.adjoints, self.keep_products)
            self._couplings[coefficients] = made
        return self._couplings[coefficients]

    def keeping(self, coefficients: tuple[str, ...]) -> Keeping:
        """What runs need to know of that."""
        return keeping(self.coupling(coefficients), self.symbols)
