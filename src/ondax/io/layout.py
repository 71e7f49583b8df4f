"""What a file's own header, its length and its first trace say about how it is laid out."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from .headers import (
    FIRST_TRACE,
    IEEE,
    SAMPLE_TYPES,
    TEXT_BYTES,
    TRACE_HEADER_BYTES,
    Layout,
    binary_words,
    trace_words,
)

ORDERS = {"big": ">", "little": "<"}


def layout_of(path: str, byte_order: str, said: list[str]) -> tuple[Layout, np.void | None]:
    """How the traces lie in a file.

    Args:
        path: absolute.
        byte_order: "auto", "big" or "little".
        said: what a user should know of is added.

    Returns:
        The layout, and the binary header; None for SU.

    Raises:
        ValueError: a file that is not understood, or cut off.
    """
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        head = file.read(FIRST_TRACE + TRACE_HEADER_BYTES)
    orders = list(ORDERS.values()) if byte_order == "auto" else [ORDERS[byte_order]]
    if path.lower().endswith(".su"):
        return _of_su(path, status, head, orders), None
    if len(head) < FIRST_TRACE + TRACE_HEADER_BYTES:
        raise ValueError(
            f"{path} has {status.st_size} bytes, which is less than the headers of a SEG-Y file: "
            "a file of Seismic Un*x must be named .su"
        )
    binaries = [np.frombuffer(head, binary_words(order), 1, TEXT_BYTES)[0] for order in orders]
    known = [n for n, binary in enumerate(binaries) if int(binary["format"]) in SAMPLE_TYPES]
    if not known:
        code = int(binaries[0]["format"])
        raise ValueError(
            f"{path}: the binary header (byte 3225) gives {code} as the format of samples; those "
            f"that can be read are {', '.join(map(str, SAMPLE_TYPES))}: is it a SEG-Y file? One of "
            "Seismic Un*x must be named .su"
        )
    order, binary = orders[known[0]], binaries[known[0]]
    # Revision 1.0 is 0x0100; some programs write a plain 1.
    major, minor = divmod(int(binary["revision"]), 256)
    revision = major or minor
    texts = int(binary["extended_texts"]) if revision else 0
    if revision > 1 or texts < 0:
        what = (
            f"revision {revision} of SEG-Y"
            if revision > 1
            else "an unstated number of extended text headers (byte 3505)"
        )
        raise ValueError(
            f"{path} has {what}; revisions 0 and 1 with a stated number are read: write it anew as "
            "revision 1, such as with segyio"
        )
    first = FIRST_TRACE + texts * TEXT_BYTES
    layout = Layout(
        os.path.abspath(path),
        status.st_size,
        status.st_mtime_ns,
        first,
        int(binary["samples"]),
        0,
        int(binary["format"]),
        order,
        su=False,
    )
    return _counted(layout, _first_samples(path, first, order), said), binary


def _first_samples(path: str, first: int, order: str) -> int:
    """Samples of a trace as the first trace header claims."""
    with open(path, "rb") as file:
        file.seek(first)
        header = file.read(TRACE_HEADER_BYTES)
    if len(header) < TRACE_HEADER_BYTES:
        return 0
    return int(np.frombuffer(header, trace_words(order))[0]["samples"])


def _counted(layout: Layout, claimed: int, said: list[str]) -> Layout:
    """The layout with as many samples as fit the file's length: those of the binary header, or if
    these do not fit, those that the first trace header claims."""
    for samples in dict.fromkeys((layout.samples, claimed)):
        tried = layout._replace(samples=samples)
        traces, rest = divmod(layout.size - layout.first, tried.stride)
        if samples and traces and not rest:
            if samples != layout.samples:
                said.append(
                    f"the binary header claims {layout.samples} samples a trace, which does not "
                    f"fit the file's length: {samples} were read, as the trace headers claim"
                )
            return tried._replace(traces=traces)
    if not layout.samples and not claimed:
        raise ValueError(
            f"{layout.path}: neither the binary header (byte 3221) nor the first trace header "
            "(byte 115) says how many samples a trace has: write the number into one of them"
        )
    raise cut_off(layout if layout.samples else layout._replace(samples=claimed))


def cut_off(layout: Layout) -> ValueError:
    """The error of a file that ends within a trace."""
    traces, rest = divmod(max(0, layout.size - layout.first), layout.stride)
    whole = layout.first + traces * layout.stride
    remedy = (
        f"copy it again, or keep the {traces} whole traces, truncate -s {whole} {layout.name}"
        if traces
        else "copy it again"
    )
    return ValueError(
        f"{layout.path} ends within trace {traces}, {rest} of {layout.stride} bytes after its "
        f"beginning: its headers claim {layout.samples} samples a trace. {remedy}"
    )


def _of_su(path: str, status: os.stat_result, head: bytes, orders: list[str]) -> Layout:
    """An SU file has no header of its own: the byte order is the one in which the samples that the
    first trace claims fit the file's length."""
    if len(head) < TRACE_HEADER_BYTES:
        raise ValueError(f"{path} has {status.st_size} bytes, which is less than a trace header")
    layouts = list(_su_layouts(path, status, head, orders))
    fit = [n for n in layouts if n.samples and not n.size % n.stride]
    # Numbers of records and traces are small; with their bytes swapped they are large.
    sums = [_numbers(head, n.order) for n in fit]
    if len(fit) == 1 or (fit and sums[0] != sums[1]):
        chosen = fit[int(np.argmin(sums))]
        return chosen._replace(traces=chosen.size // chosen.stride)
    if fit:
        raise ValueError(
            f"{path} could have either byte order: say which one, "
            'scan(..., byte_order="big") or "little"'
        )
    claimed = [n for n in layouts if n.samples]
    if not claimed:
        raise ValueError(
            f"{path}: the first trace header claims no samples (byte 115): is it an SU file?"
        )
    raise cut_off(min(claimed, key=lambda n: n.samples))


def _numbers(head: bytes, order: str) -> int:
    header = np.frombuffer(head, trace_words(order), 1)[0]
    return abs(int(header["field_record"])) + abs(int(header["trace_number"]))


def _su_layouts(
    path: str, status: os.stat_result, head: bytes, orders: list[str]
) -> Iterator[Layout]:
    for order in orders:
        samples = int(np.frombuffer(head, trace_words(order), 1)[0]["samples"])
        yield Layout(
            os.path.abspath(path),
            status.st_size,
            status.st_mtime_ns,
            0,
            samples,
            0,
            IEEE,
            order,
            su=True,
        )


def head_of(layout: Layout) -> bytearray:
    """The bytes before the first trace: text, binary and extended text headers."""
    with open(layout.path, "rb") as file:
        layout.check(os.fstat(file.fileno()))
        return bytearray(file.read(layout.first))


def binary_in(head: bytearray, order: str) -> np.ndarray:
    """The binary header in them, to be changed in place: an array of one."""
    return np.frombuffer(head, binary_words(order), 1, TEXT_BYTES)
