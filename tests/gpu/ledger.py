"""Rows of the acceptance, in one JSON file that is written after each of them.

A row has `values`, or an `error`, or `not_run` with the reason. A row that can end its process, or leave CUDA unusable in it,
runs in a process of its own; so do all further rows once CUDA is unusable in this one.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from material import Setup

ROW_LIMIT_S = 120.0  # of a row in a process of its own
Values = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One row to measure.

    Attributes:
        name: Name in the JSON, words with dots.
        measure: Function that returns the row's values.
        needs: "cuda", "ray", or nothing.
        alone: The row runs in a process of its own.
        limit_s: Time limit of such a process, in seconds.
    """

    name: str
    measure: Callable[[Setup], Values]
    needs: str = ""
    alone: bool = False
    limit_s: float = ROW_LIMIT_S

    def why_not(self, setup: Setup) -> str:
        """Return the reason why this row cannot run; empty if it can."""
        if self.needs == "cuda" and not setup.on_gpu:
            return f"not run on {setup.device}"
        if self.needs == "ray" and setup.engine != "ray":
            return f"not run with --engine {setup.engine}"
        return ""


@dataclass
class Ledger:
    """The JSON file.

    Attributes:
        path: Path of the file.
        content: `parts`, facts of each part by its number, and `rows` by name.
    """

    path: Path
    content: dict[str, dict[str, Any]] = field(default_factory=lambda: {"parts": {}, "rows": {}})

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """Read the file, or begin one."""
        return cls(path, json.loads(path.read_text())) if path.exists() else cls(path)

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The rows by name."""
        return self.content["rows"]

    def values(self, name: str) -> Values:
        """Return the values of a row; empty if it has none."""
        return dict(self.rows.get(name, {}).get("values", {}))

    def begin(self, part: int, rows: Iterable[Row], facts: Mapping[str, Any]) -> None:
        """Begin a part: earlier results of its rows are dropped."""
        for row in rows:
            self.rows.pop(row.name, None)
        self.content["parts"][str(part)] = {**facts, "ended": False}
        self.write()

    def add(self, part: int, name: str, answer: Mapping[str, Any], seconds: float = 0.0) -> None:
        """Add a row, and write the file."""
        self.rows[name] = {"part": part, "seconds": round(seconds, 3), **answer}
        self.write()

    def end(self, part: int, seconds: float) -> None:
        """Mark a part as complete."""
        self.content["parts"][str(part)] |= {"ended": True, "seconds": round(seconds, 1)}
        self.write()

    def write(self) -> None:
        """Replace the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_name(f".{self.path.name}.new")
        new.write_text(json.dumps(_finite(self.content), indent=1) + "\n")
        new.replace(self.path)


def _finite(value: Any) -> Any:
    """Replace numbers that JSON does not have by their names."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def run_part(ledger: Ledger, part: int, rows: Sequence[Row], setup: Setup, *, limit_s: float, say: Callable[[str], None]) -> None:
    """Run the rows of a part, each for itself.

    Args:
        ledger: The JSON file.
        part: Number of the part.
        rows: Its rows, the most important ones first.
        setup: Device, sizes, model and songs.
        limit_s: Seconds after which no further row begins.
        say: Function that shows a line.
    """
    begun, is_poisoned = time.monotonic(), False
    ledger.begin(part, rows, setup.facts())
    for row in rows:
        row_begun = time.monotonic()
        left_s = limit_s - (row_begun - begun)
        if why := row.why_not(setup) or ("" if left_s > 0 else f"no time left: {limit_s:.0f} s"):
            answer: Mapping[str, Any] = {"not_run": why}
        elif row.alone or is_poisoned:
            answer = in_child(row, setup, limit_s=min(row.limit_s, left_s))
        else:
            answer = here(row, setup)
            is_poisoned = "error" in answer and not _is_usable(setup)
        ledger.add(part, row.name, answer, time.monotonic() - row_begun)
        say(f"{part} {row.name}: {shown(answer)}")
    ledger.end(part, time.monotonic() - begun)


def here(row: Row, setup: Setup) -> dict[str, Any]:
    """Run a row in this process."""
    try:
        return {"values": row.measure(setup)}
    except Exception as error:  # noqa: BLE001 (an error is the row's result)
        return {"error": text_of(error)}
    finally:
        gc.collect()
        if setup.on_gpu:
            _empty_cache()


def _empty_cache() -> None:
    import torch

    with contextlib.suppress(RuntimeError):
        torch.cuda.empty_cache()


def _is_usable(setup: Setup) -> bool:
    """Return True if CUDA still answers in this process."""
    if not setup.on_gpu:
        return True
    import torch

    try:
        torch.cuda.synchronize()
        return bool((torch.ones(2, device=setup.device) * 2).sum().item() == 4)
    except RuntimeError:
        return False


def in_child(row: Row, setup: Setup, *, limit_s: float) -> dict[str, Any]:
    """Run a row in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        code, output = run_limited([*setup.command(), "--row", row.name, "--answer", str(answer)], limit_s)
        if answer.exists():
            return dict(json.loads(answer.read_text()))
    last = output.strip().splitlines()[-1:] or ["no output"]
    return {"error": f"over {limit_s:.0f} s" if code is None else f"its process ended with {code}: {last[0][:300]}"}


def run_limited(command: Sequence[str], limit_s: float, environment: Mapping[str, str] | None = None) -> tuple[int | None, str]:
    """Run a command in a session of its own.

    Args:
        command: The command.
        limit_s: Seconds after which it is killed, with all processes of its session's group.
        environment: Variables beside those of this process.

    Returns:
        Its exit code, None if it was killed, and its output, stdout and stderr together.
    """
    with tempfile.TemporaryFile() as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, **(environment or {})}
        )
        code: int | None = None
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        file.seek(0)
        return code, file.read().decode(errors="replace")


def text_of(error: BaseException) -> str:
    """Return an error's type and the first line of its text."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__module__}.{type(error).__qualname__}: {lines[0][:300]}"


def shown(answer: Mapping[str, Any]) -> str:
    """Return one line of a row's result for the terminal."""
    if "values" in answer:
        return ", ".join(f"{name} {number(value)}" for name, value in answer["values"].items())[:300]
    return "; ".join(f"{kind}: {text}" for kind, text in answer.items())


def number(value: Any) -> str:
    """Return a value with at most four significant digits."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
