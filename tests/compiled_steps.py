"""What a compiled time loop does in a step: kernels, and bytes that they read and write, from the
text of an optimised XLA program.

A kernel is an instruction of a loop's body that does any work. It reads and writes its operands and
results once: however often it looks at a value, that comes from a cache. Of an array of which only
slices are read, or a slice is written in place, those slices count. So the figures are what must
pass between a device and its memory where fields do not fit into its caches.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SIZES = {
    "pred": 1,
    **{f"{sign}{bits}": bits // 8 for sign in "su" for bits in (8, 16, 32, 64)},
    "f16": 2,
    "bf16": 2,
    "f32": 4,
    "f64": 8,
    "c64": 8,
    "c128": 16,
}
# Names for what is there already.
FREE = {
    "parameter",
    "constant",
    "iota",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "optimization-barrier",
}
CALLS = {"call", "async-start", "command-buffer"}  # whose work is that of what they call
PARTIAL = {"slice", "dynamic-slice", "gather"}  # they read a part of their first operand


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        name: of its result.
        opcode: what it does.
        size: bytes of its result.
        operands: names of results that it takes.
        attributes: what follows the operands.
        root: it gives the result of its computation.
    """

    name: str
    opcode: str
    size: int
    operands: tuple[str, ...]
    attributes: str
    root: bool

    @property
    def called(self) -> str | None:
        """The computation that it calls, or that it repeats."""
        found = re.search(r"\b(?:body|calls|to_apply)=%?([\w.\-]+)", self.attributes)
        return found[1] if found else None

    @property
    def trips(self) -> int | None:
        """Of a loop, how often it is repeated, where that is known."""
        found = re.search(r'known_trip_count"?:\{"n":"(\d+)"', self.attributes)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Kernel:
    """What does the work of one instruction.

    Attributes:
        name: of the instruction.
        kind: its opcode; of a fusion, those of what it gives.
        read: bytes.
        written: bytes.
    """

    name: str
    kind: str
    read: int
    written: int


@dataclass(frozen=True)
class Loop:
    """A loop of a program.

    Attributes:
        trips: how often its body is run.
        kernels: of its body.
    """

    trips: int
    kernels: Sequence[Kernel]

    @property
    def bytes(self) -> int:
        """Read and written by one run of the body."""
        return sum(k.read + k.written for k in self.kernels)

    def copies(self, size: int) -> int:
        """Kernels that do nothing but copy an array of so many bytes, or more."""
        return sum(k.kind == "copy" and k.written >= size for k in self.kernels)


class Compiled:
    """An optimised program.

    Args:
        text: as `jax.stages.Compiled.as_text` gives it.
    """

    def __init__(self, text: str) -> None:
        self._computations = {name: list(lines) for name, lines in _computations(text)}
        self._by_name = {
            name: {i.name: i for i in instructions}
            for name, instructions in self._computations.items()
        }
        self._users: dict[tuple[str, str], list[tuple[Instruction, int]]] = {}
        for name, instructions in self._computations.items():
            for user in instructions:
                for place, operand in enumerate(user.operands):
                    self._users.setdefault((name, operand), []).append((user, place))
        self._needed: dict[tuple[str, str], int] = {}

    def loops(self) -> list[Loop]:
        """Loops of more than one trip that hold no other such loop, in the program's order."""
        found = []
        for instructions in self._computations.values():
            for i in instructions:
                if i.opcode != "while" or (i.trips or 0) < 2:
                    continue
                assert i.called is not None
                if not any(self._is_loop(j) for j in self._within(i.called)):
                    kernels = [self._kernel(c, j) for c, j in self._working(i.called)]
                    found.append(Loop(i.trips or 0, kernels))
        return found

    @staticmethod
    def _is_loop(instruction: Instruction) -> bool:
        return instruction.opcode == "while" and (instruction.trips or 0) > 1

    def _within(self, computation: str) -> Iterator[Instruction]:
        for i in self._computations[computation]:
            yield i
            if i.opcode in CALLS and i.called is not None:
                yield from self._within(i.called)

    def _working(self, computation: str) -> Iterator[tuple[str, Instruction]]:
        """The instructions of a computation that do any work, with where they stand."""
        for i in self._computations[computation]:
            if i.opcode in CALLS and i.called is not None:
                yield from self._working(i.called)
            elif i.opcode not in FREE and not i.opcode.endswith("-done"):
                yield computation, i

    # ---------------------------------------------------------------- bytes

    def _kernel(self, computation: str, instruction: Instruction) -> Kernel:
        there = self._by_name[computation]
        if instruction.opcode == "fusion" and instruction.called is not None:
            inside = self._computations[instruction.called]
            parameters = {_number(i): i for i in inside if i.opcode == "parameter"}
            read = sum(self._read(instruction.called, p) for p in parameters.values())
            root = next(i for i in inside if i.root)
            kind, written = self._written(instruction.called, root)
            return Kernel(instruction.name, kind, read, written)
        kind, written = self._written(computation, instruction)
        sizes = [there[o].size for o in instruction.operands if o in there]
        if instruction.opcode in PARTIAL:
            sizes[0] = instruction.size
        elif instruction.opcode in ("dynamic-update-slice", "scatter"):
            sizes[0] = 0
        return Kernel(instruction.name, kind, sum(sizes), written)

    def _read(self, computation: str, source: Instruction) -> int:
        """Bytes that a fusion needs of what one of its instructions gives."""
        if source.root:
            return source.size
        key = (computation, source.name)
        if key not in self._needed:
            users = self._users.get(key, ())
            found = (self._read_by(computation, user, place, source) for user, place in users)
            self._needed[key] = min(sum(found), source.size)
        return self._needed[key]

    def _read_by(self, computation: str, user: Instruction, place: int, source: Instruction) -> int:
        """Likewise, what one user of it needs."""
        if place == 0 and user.opcode in ("dynamic-update-slice", "scatter"):
            return 0  # in place
        if place == 0 and user.opcode == "gather":
            return user.size
        if place == 0 and user.opcode in PARTIAL:
            return self._read(computation, user)
        if user.opcode == "tuple":
            return source.size
        if user.opcode in ("fusion", "call") and user.called is not None:
            inside = self._computations[user.called]
            parameters = (i for i in inside if i.opcode == "parameter")
            return self._read(user.called, next(i for i in parameters if _number(i) == place))
        if user.size == source.size:  # value by value
            return self._read(computation, user)
        return source.size

    def _written(self, computation: str, result: Instruction) -> tuple[str, int]:
        """What a kernel gives, in words, and how many bytes it writes."""
        there = self._by_name[computation]
        if result.opcode == "tuple":
            found = [self._written(computation, there[o]) for o in result.operands]
            return " and ".join(sorted({kind for kind, _ in found})), sum(n for _, n in found)
        if result.opcode in ("bitcast", "get-tuple-element"):
            return self._written(computation, there[result.operands[0]])
        if result.opcode == "dynamic-update-slice":
            return result.opcode, there[result.operands[1]].size
        if result.opcode == "scatter":
            return result.opcode, there[result.operands[2]].size
        if result.opcode in ("fusion", "call") and result.called is not None:
            inside = self._computations[result.called]
            return self._written(result.called, next(i for i in inside if i.root))
        return result.opcode, result.size


def _number(parameter: Instruction) -> int:
    return int(parameter.operands[0])


def _computations(text: str) -> Iterator[tuple[str, Iterator[Instruction]]]:
    name, lines = None, []
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if name is None:
            found = re.match(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{\s*$", line)
            if found:
                name, lines = found[1], []
        elif line.startswith("}"):
            yield name, (i for i in map(_instruction, lines) if i is not None)
            name = None
        else:
            lines.append(line)


def _instruction(line: str) -> Instruction | None:
    found = re.match(r"^\s*(ROOT )?%?([\w.\-]+) = (.*)$", line)
    if not found:
        return None
    root, name, rest = found.groups()
    end = _closing(rest) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].strip()
    start = rest.index("(")
    end = _closing(rest[start:]) + start
    inside, opcode = rest[start + 1 : end], rest[:start]
    operands = re.findall(r"%([\w.\-]+)", inside) if "%" in inside else [inside]
    return Instruction(name, opcode, _size(shape), tuple(operands), rest[end + 1 :], bool(root))


def _closing(text: str) -> int:
    """Where the parenthesis is closed with which a text begins."""
    depth = 0
    for n, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return n
    raise ValueError(f"a parenthesis is not closed: {text[:80]!r}")


def _size(shape: str) -> int:
    arrays = re.findall(r"\b([a-z]\w*)\[([\d,]*)\]", shape)
    return sum(SIZES[t] * math.prod(int(n) for n in dims.split(",") if n) for t, dims in arrays)
