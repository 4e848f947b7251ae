"""Measurements of `bench`, and their print."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from sep_batch.jobs.bench.steps import Rate
from sep_batch.jobs.progress.summary import Summary


@dataclass(frozen=True)
class Measured:
    """Speeds of the steps on `device`, and the summary of the run."""

    device: str
    rates: tuple[Rate, ...]
    run: Summary

    def to_json(self) -> str:
        """Return the measurements as one line of JSON."""
        rates = [dataclasses.asdict(rate) for rate in self.rates]
        run = json.loads(self.run.to_json())
        return json.dumps({"device": self.device, "rates": rates, "x_real_time": _speed(self.run), "run": run})


def _speed(run: Summary) -> float:
    return run.audio_s / run.seconds


def show(measured: Measured, *, as_json: bool) -> None:
    """Print the measurements on stdout: one line of JSON, or a table and the bottleneck."""
    if as_json:
        print(measured.to_json())  # noqa: T201 (one line of any length)
        return
    run, console = measured.run, Console(highlight=False)
    table = Table("step", "on", box=None, pad_edge=False, header_style="bold")
    for name in ("x real time", "MB/s"):
        table.add_column(name, justify="right")
    for rate in measured.rates:
        where = "one thread" if rate.device == "cpu" else rate.device
        table.add_row(rate.name, where, f"{rate.x_real_time:.1f}", f"{rate.mb_s:.0f}" if rate.mb_s else "")
    pools = ", ".join(f"{stage} {actors}" for stage, actors in run.actors.items())
    table.add_row("whole run", pools, f"{_speed(run):.1f}", "")
    table.add_row(f"after its start of {run.start_s:.0f} s", "", f"{run.audio_s / (run.seconds - run.start_s):.1f}", "")
    console.print(table)
    console.print(run.bottleneck, soft_wrap=True)
