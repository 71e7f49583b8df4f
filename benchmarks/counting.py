"""What the innermost loops of a generated C kernel do at each point: operations, values loaded and
stored, and arrays that pass by."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

BOUNDS = re.compile(r"for \(int (\w+) = ([^;]+); \w+ <= ([^;]+); \w+ \+= (\w+)\)")
STATEMENT = re.compile(r"(?:(?:const )?(?:float|double|int) )?(\w+(?:\[[^\]]*\])*) (\+|-)?= (.+);")
REFERENCE = re.compile(r"\w+(?:\[[^\]]*\])+")
SPACE = "xyz"


@dataclass(frozen=True)
class Reference:
    """An array at one place.

    Attributes:
        array: its name.
        indices: as written, one for each of its dimensions.
    """

    array: str
    indices: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Reference:
        name, _, rest = text.partition("[")
        return cls(name, tuple(rest[:-1].split("][")))

    @property
    def slice(self) -> tuple[str, str]:
        """Which array, and which of its times."""
        first = self.indices[0]
        return self.array, first if re.match(r"t\d|time", first) else ""

    @property
    def kept(self) -> bool:
        """Does it belong to a history, with a slot for each step?"""
        return self.indices[0].startswith("time")

    def shift(self, variable: str) -> int:
        """Points between it and the loop's point, along the last axis."""
        return int(eval(self.indices[-1], {"__builtins__": {}}, {variable: 0}))


@dataclass
class Nest:
    """A loop nest over points of the grid.

    Attributes:
        points: that it visits.
        innermost: the variable of its innermost loop.
        operations: additions, multiplications and divisions at each point, those that occur
            more than once or do not change along the innermost loop not counted again.
        loads: distinct values read from memory at each point.
        stores: distinct values written.
    """

    points: int
    innermost: str
    operations: set[str] = field(default_factory=set)
    loads: set[Reference] = field(default_factory=set)
    stores: set[Reference] = field(default_factory=set)
    _changing: set[str] = field(default_factory=set)  # names of what differs from point to point
    _names: dict[Reference, str] = field(default_factory=dict)

    def add(self, statement: str) -> None:
        """Count one statement of its innermost loop."""
        found = STATEMENT.fullmatch(statement)
        if found is None:
            raise ValueError(f"not a statement that can be counted: {statement}")
        target, increment, expression = found.groups()
        if increment:
            expression = f"{target} {increment} ({expression})"

        def named(found: re.Match[str]) -> str:
            """A name for an array at a place: what is left of the expression is Python."""
            read = Reference.of(found[0])
            name = self._names.setdefault(read, f"at{len(self._names)}")
            if re.search(rf"\b{self.innermost}\b", read.indices[-1]):
                self._changing.add(name)
                if read not in self.stores:
                    self.loads.add(read)
            return name

        plain = REFERENCE.sub(named, re.sub(r"(?<=[\d.])F\b", "", expression))
        changes = self._count(ast.parse(plain, mode="eval").body)
        if "[" in target:
            self.stores.add(Reference.of(target))
        elif changes:
            self._changing.add(target)

    def _count(self, node: ast.expr) -> bool:
        """Count the operations of an expression; does it change along the innermost loop?"""
        match node:
            case ast.Name(id=name):
                return name in self._changing
            case ast.Constant():
                return False
            case ast.UnaryOp(operand=operand):
                return self._count(operand)
            case ast.BinOp(left=left, right=right):
                sides = [self._count(left), self._count(right)]
                if any(sides):
                    self.operations.add(ast.dump(node))
                return any(sides)
            case ast.Call(args=arguments):
                inside = [self._count(a) for a in arguments]  # all of them, so not a generator
                return any(inside)
        raise ValueError(f"not an expression that can be counted: {ast.dump(node)}")


def nests(code: str, scalars: Mapping[str, int]) -> list[Nest]:
    """The nests of a kernel that visit points of the grid, in order.

    Args:
        code: as Devito generated it.
        scalars: the kernel's arguments that are whole numbers: the bounds of its loops.
    """
    found: list[Nest] = []
    for loops, statements in _innermost(code):
        if loops[-1][0] in SPACE and statements:
            nest = Nest(_points(loops, scalars), loops[-1][0])
            for statement in statements:
                nest.add(statement)
            found.append(nest)
    return found


def _innermost(code: str) -> Iterator[tuple[list[tuple[str, str, str]], list[str]]]:
    """The loops around each body that has no further loop, and the statements of that body."""
    stack: list[tuple[str, str, str] | None] = []  # None for braces of something else
    pending: tuple[str, str, str] | None = None
    statements: list[str] = []
    deepest = False
    for line in map(str.strip, code.splitlines()):
        if loop := BOUNDS.match(line):
            pending = loop[1], loop[2], loop[3]
        elif line.startswith("{"):
            stack.append(pending)
            deepest, pending, statements = pending is not None, None, []
        elif line.startswith("}"):
            loops = [loop for loop in stack if loop]
            if deepest and stack[-1]:
                yield loops, statements
            stack.pop()
            deepest = False
        elif deepest and line and not line.startswith(("#", "/*", "START", "STOP")):
            statements.append(line)


def _points(loops: list[tuple[str, str, str]], scalars: Mapping[str, int]) -> int:
    """Points that the loops over the grid visit. Loops over blocks are those of their points."""
    bounds = {name: (low, high) for name, low, high in loops}
    count = 1
    for name, low, _ in loops:
        if name in SPACE:
            first, last = bounds[low if low in bounds else name]
            begin, end = (eval(b, {"__builtins__": {}}, dict(scalars)) for b in (first, last))
            count *= max(0, end - begin + 1)
    return count
