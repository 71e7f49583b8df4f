"""Draws the pictures of the pages `inside`, as plain SVG: `python docs/pictures/draw.py`."""

from html import escape
from math import hypot
from pathlib import Path

HERE = Path(__file__).parent
INK, PALE, FORWARD, BACKWARD, KEPT, ZERO = (
    "#222222",
    "#777777",
    "#dcebf9",
    "#fbe6d4",
    "#e2f2dc",
    "#eeeeee",
)
FONT = "DejaVu Sans, Verdana, Arial, sans-serif"
MONO = "DejaVu Sans Mono, Menlo, Consolas, monospace"


class Picture:
    """An SVG of rectangles, arrows and text, in pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.parts: list[str] = []

    def box(self, x: float, y: float, w: float, h: float, fill: str, dashed: bool = False) -> None:
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="4" fill="{fill}" '
            f'stroke="{INK}" stroke-width="1"{dash}/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: int = 13,
        anchor: str = "start",
        mono: bool = False,
        bold: bool = False,
        fill: str = INK,
    ) -> None:
        self.parts.append(
            f'<text x="{x}" y="{y}" font-family="{MONO if mono else FONT}" font-size="{size}" '
            f'text-anchor="{anchor}" fill="{fill}" font-weight="{"bold" if bold else "normal"}">'
            f"{escape(words)}</text>"
        )

    def line(
        self, points: list[tuple[float, float]], arrow: bool = True, dashed: bool = False
    ) -> None:
        path = " ".join(f"{x},{y}" for x, y in points)
        dash = ' stroke-dasharray="7 5"' if dashed else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.5"{dash}/>'
        )
        if arrow:  # drawn, not a marker: not every program turns markers the right way
            (x0, y0), (x1, y1) = points[-2:]
            length = hypot(x1 - x0, y1 - y0)
            u, v = (x1 - x0) / length, (y1 - y0) / length
            corners = [(0, 0), (-11, 5), (-11, -5)]
            head = " ".join(
                f"{x1 + u * a - v * b:.1f},{y1 + v * a + u * b:.1f}" for a, b in corners
            )
            self.parts.append(f'<polygon points="{head}" fill="{INK}"/>')

    def save(self, name: str, title: str) -> None:
        size = f'width="{self.width}" height="{self.height}"'
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
            f'viewBox="0 0 {self.width} {self.height}" role="img">',
            f"<title>{escape(title)}</title>",
            f'<rect {size} fill="white"/>',
            *self.parts,
            "</svg>",
        ]
        (HERE / name).write_text("\n".join(lines) + "\n")


# Rows of the first picture: the file, what it does on the way of the traces and on that of the
# gradient, and what goes down and up between it and the next.
ROWS = [
    (
        "your program",
        ("traces = F(vp)", "the misfit, in JAX"),
        ("the cotangent of the misfit", "goes down, the gradient comes up"),
        ("model", "traces", "cotangent of traces", "gradient in the model"),
    ),
    (
        "face/modelling.py",
        ("checks; m = 1/vp² on the domain;", "wavelets at internal steps"),
        ("JAX transposes the left-hand side", "by itself: nothing is written here"),
        ("Operands", "samples", "cotangent of samples", "gradient in m"),
    ),
    (
        "face/rules.py",
        ("forward_pass: which inputs does", "the gradient ask for?"),
        ("backward_pass: Asked(coefficients,", "wavelet, weights, sources)"),
        ("Operands, names to keep", "samples", "Operands, residual, Asked", "Gradients"),
    ),
    (
        "face/primitives.py, transport.py",
        ("forward_p: one callback", "for all shots and the whole batch"),
        ("adjoint_p: one callback", "for all shots and the whole batch"),
        ("", "", "", ""),
    ),
    (
        "face/host.py",
        ("checks of values; an Experiment;", "a Recording: what to keep, and how"),
        ("the same checks;", "the same Experiment and Recording"),
        ("Experiment, Recording", "samples", "Experiment, Recording, residual", "Gradients"),
    ),
    (
        "backends/devito/solver.py",
        ("forward: a Task for each shot; files", "what history.record keeps of its run"),
        ("adjoint: the same Tasks, for each", "Stretch that history.replay gives"),
        ("Task", "samples of a shot", "Task, residual, Stretch", "gradients of a shot"),
    ),
    (
        "backends/devito/runs.py",
        ("ForwardRun, of one shot, which", "history.record begins and advances"),
        ("AdjointRun.back, of one shot:", "a Stretch of steps at a time"),
        ("steps first <= n < last", "arrays, filled", "steps of a Stretch", "arrays, filled"),
    ),
    (
        "shot.py, kernel.py",
        ("the C function of the scheme:", "n = 0, 1, ... N-1"),
        ("the C function of its transpose:", "n = N-1, ... 1, 0, and -1"),
        None,
    ),
]


def gradient() -> None:
    """The way of a gradient, down and up again, twice."""
    height, gap, top, wide = 52, 46, 76, 300
    left, right = 20, 640
    p = Picture(960, top + len(ROWS) * (height + gap) - gap + 14)
    p.text(left, 24, "1. Forward: the traces, and what is kept", 16, bold=True)
    p.text(right, 24, "2. Backward: the gradient", 16, bold=True)
    p.text(left, 44, "down the left arrows, up the right ones", 12, fill=PALE)
    p.text(right, 44, "down the left arrows, up the right ones", 12, fill=PALE)
    middle = (left + wide + right) / 2
    for row, (name, forward, backward, between) in enumerate(ROWS):
        y = top + row * (height + gap)
        for x, words, fill in ((left, forward, FORWARD), (right, backward, BACKWARD)):
            p.box(x, y, wide, height, fill)
            p.text(x + 10, y + 21, words[0])
            p.text(x + 10, y + 40, words[1])
        # What joins the two columns stands between them; elsewhere only the file's name does.
        p.text(middle, y + 14 if row in (0, 2, 5) else y + 31, name, 12, "middle", mono=True)
        if between is None:
            continue
        below = y + height
        for x, (down, up) in ((left, between[:2]), (right, between[2:])):
            p.line([(x + 24, below + 1), (x + 24, below + gap - 2)])
            p.line([(x + wide - 24, below + gap - 1), (x + wide - 24, below + 2)])
            y_down = below + (19 if down and up else 27)
            p.text(x + 34, y_down, down, 12, fill=PALE)
            p.text(x + wide - 34, below + 36, up, 12, "end", fill=PALE)
    y = top
    p.line([(left + wide + 4, y + 32), (right - 6, y + 32)])
    p.text(middle, y + 48, "traces → misfit → cotangent", 12, "middle", fill=PALE)
    y = top + 2 * (height + gap)
    p.line([(left + wide + 4, y + 32), (right - 6, y + 32)])
    p.text(middle, y + 48, "residuals of custom_vjp: Operands, Asked", 12, "middle", fill=PALE)
    border = top + 4 * (height + gap) - gap / 2
    p.line([(left + 60, border), (left + wide - 60, border)], arrow=False, dashed=True)
    p.line([(left + wide - 10, border), (right + 10, border)], arrow=False, dashed=True)
    p.line([(right + 60, border), (right + wide - 60, border)], arrow=False, dashed=True)
    p.text(middle, border - 7, "above: JAX arrays", 12, "middle", bold=True)
    p.text(middle, border + 17, "below: NumPy arrays, no JAX", 12, "middle", bold=True)
    y = top + 5 * (height + gap)
    p.box(middle - 98, y + 20, 196, 50, KEPT)
    p.text(middle, y + 41, "histories/store.py: STORE", 12, "middle", mono=True)
    p.text(middle, y + 59, "Kept, by content; a memo", 12, "middle")
    p.line([(left + wide + 4, y + 38), (middle - 99, y + 38)])
    p.text(left + wide + 8, y + 28, "record", 12, fill=PALE)
    p.line([(middle + 99, y + 38), (right - 4, y + 38)])
    p.text(right - 10, y + 28, "replay", 12, "end", fill=PALE)
    p.save("gradient.svg", "The way of a gradient through the rooms of ondax")


CELL = 58


def slots(p: Picture, x: float, y: float, labels: list[str], zero: bool, number: int = 0) -> None:
    """A row of slots of an array, numbered, each with what it holds; the last one may be zero."""
    for i, label in enumerate(labels):
        last = zero and i == len(labels) - 1
        p.box(x + i * CELL, y, CELL, 34, ZERO if last else KEPT, dashed=last)
        p.text(x + (i + 0.5) * CELL, y + 22, label, 13, "middle", mono=True)
        slot = f"[{number + i}]"
        p.text(x + (i + 0.5) * CELL, y + 48, slot, 11, "middle", mono=True, fill=PALE)


def history() -> None:
    """Where the steps of a stretch lie in memory, and how the adjoint reads them."""
    p = Picture(960, 650)
    first, last, every = 3, 9, 3
    steps = range(first, last)
    at = {n: 250 + (n - first + 1) * CELL for n in range(first - 1, last + 2)}  # left ends
    p.text(20, 28, "A stretch: the steps first <= n < last, here 3 <= n < 9", 16, bold=True)
    p.text(20, 62, "step n of the run", 13)
    for n in steps:
        p.text(at[n] + CELL / 2, 62, str(n), 13, "middle", bold=True)

    y = 82
    p.text(20, y + 15, "a product, every step", 13, bold=True)
    p.text(20, y + 33, "last - first + 1 slots", 12, fill=PALE)
    slots(p, at[first], y, [*(f"q{n}" for n in steps), "0"], zero=True)
    y += 70
    p.text(20, y + 15, "a field, every step", 13, bold=True)
    p.text(20, y + 33, "last - first + 3 slots", 12, fill=PALE)
    slots(p, at[first - 1], y, [*(f"u{n}" for n in range(first - 1, last + 1)), "0"], zero=True)
    y += 70
    p.text(20, y + 15, "a product, every 3rd step", 13, bold=True)
    p.text(20, y + 33, "one slot for each", 12, fill=PALE)
    for slot, n in enumerate(range(first, last, every)):
        slots(p, at[n], y, [f"q{n}"], zero=False, number=slot)

    y += 96
    p.text(20, y, "How the adjoint kernel reads a product, one step late", 16, bold=True)
    y += 36
    p.text(20, y + 4, "adjoint step n, backward", 13)
    for n in range(first - 1, last):
        p.box(at[n] + 9, y - 14, CELL - 18, 30, BACKWARD)
        p.text(at[n] + CELL / 2, y + 6, str(n), 13, "middle", bold=True)
        if n >= first:
            p.line([(at[n] + 8, y + 1), (at[n] - 8, y + 1)])
    below = y + 56
    p.text(20, below + 15, "adds to the gradient what", 13)
    p.text(20, below + 33, "step n + 1 contributes", 13)
    slots(p, at[first], below, [*(f"q{n}" for n in steps), "0"], zero=True)
    for n in range(first - 1, last):
        p.line([(at[n] + CELL / 2, y + 18), (at[n + 1] + CELL / 2, below - 3)])

    y = below + 92
    p.text(20, y, "One slot: a function in space, as kernels take it", 16, bold=True)
    y += 18
    p.box(40, y, 330, 110, ZERO)
    p.box(76, y + 26, 222, 60, KEPT)
    p.text(187, y + 53, "the domain:", 13, "middle")
    p.text(187, y + 71, "grid and layers", 13, "middle")
    p.text(187, y + 18, "halo: zeros, or images above a surface", 11, "middle")
    p.text(334, y + 48, "up to", 11, "middle")
    p.text(334, y + 62, "64 bytes", 11, "middle")
    p.box(430, y, 330, 110, "white", dashed=True)
    p.box(690, y, 70, 110, KEPT)
    p.text(725, y + 60, "strip", 13, "middle")
    p.text(555, y + 40, "not stored: what lives in", 12, "middle")
    p.text(555, y + 57, "a layer only has a strip", 12, "middle")
    p.line([(688, y + 84), (434, y + 84)])
    p.text(560, y + 102, "back to the imaginary first point", 12, "middle")
    p.text(780, y + 26, "depth runs along", 12)
    p.text(780, y + 43, "a row; every row", 12)
    p.text(780, y + 60, "starts at a multiple", 12)
    p.text(780, y + 77, "of 64 bytes", 12)
    p.save("history.svg", "The memory layout of a history")


def checkpoints() -> None:
    """How `Revolve` makes a history in pieces."""
    p = Picture(960, 340)
    p.text(20, 28, "A history that does not fit: checkpoints", 16, bold=True)
    x, w, n = 210, 88, 8
    p.text(20, 66, "the run, in stretches", 13)
    for i in range(n):
        p.box(x + i * w, 48, w, 28, FORWARD)
        p.text(x + (i + 0.5) * w, 67, str(i), 13, "middle")
    rows = [
        ("forward, saving states", 0, [0, 3, 5], 7),
        ("from state 5", 5, [], 6),
        ("from state 5", 5, [], 5),
        ("from state 3", 3, [], 4),
    ]
    y = 110
    for label, start, saved, kept in rows:
        p.text(20, y + 5, label, 13)
        p.line([(x + start * w, y), (x + kept * w + 5, y)], arrow=start < kept)
        for s in saved:
            p.box(x + s * w - 6, y - 8, 12, 16, "#fff2b8")
        p.box(x + kept * w + 6, y - 14, w - 12, 28, KEPT)
        p.text(x + (kept + 0.5) * w, y + 5, "keep, replay", 11, "middle")
        y += 44
    p.text(20, y + 6, "and so on to stretch 0", 13)
    p.box(20, y + 26, 12, 16, "#fff2b8")
    p.text(40, y + 39, "a checkpoint: a copy of the fields, at all the times that kernels keep", 12)
    p.save("checkpoints.svg", "How a history is computed anew from checkpoints")


if __name__ == "__main__":
    gradient()
    history()
    checkpoints()
