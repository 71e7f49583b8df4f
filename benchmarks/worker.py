"""Each contender runs in a process of its own: its threads, memory and libraries disturb no other.

The parent asks for one action at a time, so contenders can be measured in turns. Messages are lines
of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

Actions = Mapping[str, Callable[[], Any]]


class WorkerError(RuntimeError):
    """A contender could not start, or failed."""


class Worker:
    """A contender, seen from the parent. Usable as a context manager.

    Args:
        module: of this package, with a `serve` at its end.
        options: its settings.
        python: the interpreter that has its libraries.
        environment: variables to set.

    Raises:
        WorkerError: it did not start; the message ends with its last line of output.
    """

    def __init__(
        self,
        module: str,
        options: Mapping[str, Any],
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.module = module
        command = [python, "-m", f"benchmarks.{module}", json.dumps(dict(options))]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with it; a pipe could fill up and block it
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | dict(environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.facts: dict[str, Any] = self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, action: str) -> tuple[float, Any]:
        """Do an action; returns the seconds that it took there, and its result."""
        assert self._process.stdin
        self._process.stdin.write(action + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        return answer["seconds"], answer["result"]

    def close(self) -> None:
        self._process.communicate()  # closes its input, at which it ends
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.communicate()
        self._errors.seek(0)
        last = self._errors.read().strip().splitlines()[-1:] or [
            f"exit status {self._process.returncode}"
        ]
        raise WorkerError(f"{self.module}: {last[0]}")


def serve(start: Callable[[dict[str, Any]], tuple[dict[str, Any], Actions]]) -> None:
    """A contender's main loop.

    Args:
        start: from settings to facts worth telling and the actions by name. What an action returns
            must be representable in JSON.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print must not mix with the answers
    facts, actions = start(json.loads(sys.argv[1]))
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin:
        action = actions[line.strip()]
        begin = time.perf_counter()
        result = action()
        seconds = time.perf_counter() - begin
        print(json.dumps({"seconds": seconds, "result": result}), file=answers, flush=True)
