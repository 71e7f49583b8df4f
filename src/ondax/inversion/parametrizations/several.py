"""Parametrisations in which several parameters of a model depend on each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from numpy.typing import ArrayLike

from ..._validate import one_of, positive
from .base import Parametrization, check_names

PLAUSIBLE_DENSITY = 500.0, 10_000.0  # kg/m3, at 3000 m/s: others were meant in other units


def gardner(
    coefficient: float = 310.0,
    exponent: float = 0.25,
    *,
    known: Float[ArrayLike, "*axes"] | None = None,
) -> Parametrization:
    """A velocity to which density is tied, `rho = 310 vp**0.25` in SI units (Gardner, Gardner and
    Gregory, 1974): inverts for vp, an array, and gives the model `{"vp": vp, "rho": rho}`.

    The relation is an average over sediments whose velocities are from about 1500 to 6100 m/s. It
    is wrong in water, salt, and anhydrite: give the densities there.

    The inverse takes vp alone from a model, and bounds are those of vp.

    Args:
        coefficient: kg/m3 at 1 m/s.
        exponent: of the velocity.
        known: densities where they are known, kg/m3, and NaN where the relation is to give them:
            `jnp.where(water, 1025.0, jnp.nan)`.

    Raises:
        ValueError: a coefficient and an exponent that give no plausible density, because they are
            meant for g/cm3 or ft/s; or a known density that is not positive.
    """
    low, high = PLAUSIBLE_DENSITY
    at_3000 = positive("coefficient", coefficient, "kg/m3 at 1 m/s") * 3000.0 ** float(exponent)
    if not low <= at_3000 <= high:
        raise ValueError(
            f"coefficient={coefficient!r}, exponent={exponent!r} give {at_3000:g} kg/m3 at 3000 "
            "m/s: convert them to kg/m3 and m/s, such as 310.0 and 0.25"
        )
    densities = None if known is None else np.asarray(known)
    if densities is not None and np.any(densities <= 0.0):
        raise ValueError(
            f"known: the least density is {np.nanmin(densities):g}: give positive ones, kg/m3, and "
            "NaN where the relation is to give them"
        )

    def to_model(vp: Array) -> PyTree:
        rho = coefficient * vp**exponent
        if densities is not None:
            held = jnp.asarray(densities, vp.dtype)
            rho = jnp.where(jnp.isnan(held), rho, held)
        return {"vp": vp, "rho": rho}

    def bounds(lower: PyTree, upper: PyTree) -> tuple[PyTree, PyTree]:
        return tuple(_only("vp", "gardner", bound) for bound in (lower, upper))  # type: ignore

    def from_model(model: PyTree) -> PyTree:
        check_names("gardner", model, ("vp",))
        return model["vp"]

    return Parametrization(to_model, from_model, bounds, name="gardner")


def impedance(keep: str) -> Parametrization:
    """Impedances in place of densities or velocities (Tarantola, 1986; Köhn et al., 2012):
    reflections at small angles depend on impedances above all.

    With `keep="vp"`, inverts for `{"vp": ..., "impedance": ...}`, where impedance is vp times rho.
    With `keep="rho"`, for `{"impedance": ..., "rho": ...}`, and in elastic models for the impedance
    of shear waves, vs times rho, as "shear_impedance", too. Other parameters stay as they are.

    Args:
        keep: the parameter that stays, "vp" or "rho".

    Raises:
        ValueError: another name.
    """
    one_of("keep", keep, ("vp", "rho"))

    def to_model(inverted: PyTree) -> PyTree:
        check_names("impedance", inverted, (keep, "impedance"))
        others = _without(inverted, "vp", "rho", "impedance", "shear_impedance")
        if keep == "vp":
            vp = inverted["vp"]
            return others | {"vp": vp, "rho": inverted["impedance"] / vp}
        rho = inverted["rho"]
        model = others | {"vp": inverted["impedance"] / rho, "rho": rho}
        if "shear_impedance" in inverted:
            model["vs"] = inverted["shear_impedance"] / rho
        return model

    def from_model(model: PyTree) -> PyTree:
        check_names("impedance", model, ("vp", "rho"))
        both = model["vp"] * model["rho"]
        if keep == "vp":
            return _without(model, "rho") | {"impedance": both}
        inverted = _without(model, "vp", "vs") | {"impedance": both}
        if "vs" in model:
            inverted["shear_impedance"] = model["vs"] * model["rho"]
        return inverted

    return Parametrization(to_model, from_model, name=f"impedance(keep={keep!r})")


def lame() -> Parametrization:
    """Lamé parameters of elastic media (Tarantola, 1986; Köhn et al., 2012), in place of vp, vs and
    rho: inverts for `{"lambda": rho (vp**2 - 2 vs**2), "mu": rho vs**2, "rho": rho}`, Pa and kg/m3.

    Where mu is zero, in fluids, it has no gradient: what is fluid at the start stays so. Elsewhere,
    keep mu positive, by bounds of mu itself. Other parameters stay as they are.
    """
    names = ("lambda", "mu", "rho")

    def to_model(inverted: PyTree) -> PyTree:
        check_names("lame", inverted, names)
        lam, mu, rho = (inverted[n] for n in names)
        fluid = mu == 0.0
        # A root of one stands in where the slope of the root would be infinite.
        vs = jnp.where(fluid, 0.0, jnp.sqrt(jnp.where(fluid, 1.0, mu / rho)))
        held = jnp.where(fluid, jax.lax.stop_gradient(mu), mu)
        vp = jnp.sqrt((lam + 2.0 * held) / rho)
        return _without(inverted, *names) | {"vp": vp, "vs": vs, "rho": rho}

    def from_model(model: PyTree) -> PyTree:
        check_names("lame", model, ("vp", "vs", "rho"))
        vp, vs, rho = (model[n] for n in ("vp", "vs", "rho"))
        mu = rho * vs**2
        found = {"lambda": rho * vp**2 - 2.0 * mu, "mu": mu, "rho": rho}
        return _without(model, "vp", "vs", "rho") | found

    return Parametrization(to_model, from_model, name="lame")


def _without(model: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The other parameters."""
    return {n: v for n, v in model.items() if n not in names}


def _only(name: str, what: str, bound: PyTree) -> Any:
    """The bound of the only parameter that has one.

    Raises:
        ValueError: bounds of others are given.
    """
    if not isinstance(bound, Mapping):
        return bound
    if set(bound) != {name}:
        raise ValueError(
            f"{what} has bounds of {name} only, but was given those of {sorted(bound)}"
        )
    return bound[name]
