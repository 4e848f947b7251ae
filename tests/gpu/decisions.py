"""Decisions that the numbers make, each by a rule. A decision whose rows have no values is not made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

ENOUGH = 0.95  # of the best rate: with as much, the smaller or simpler choice is taken
BUSY = 0.6  # share of the time that Separate works, from which it is the bottleneck
FASTER_PRECISION = 1.2  # factor on the separator's rate that a coarser precision must give
MUSIC_DB, HARD_DB = 60.0, 30.0  # agreement with float32 on the CPU: on music, and on every other signal
FASTER_FORM = {"graph": 0.9, "compile": 0.8}  # largest share of the plain form's time; compiling also delays each start
FASTER_STFT = 1.05
DEFAULT_BATCH = 10

Rows = Mapping[str, Mapping[str, Any]]


class Missing(Exception):
    """A row without values, or a value that is no number."""


class Decision(NamedTuple):
    """One decision.

    Attributes:
        name: Subject of the decision.
        choice: Its result; None if it could not be made.
        rule: The rule, in words.
        because: The numbers.
    """

    name: str
    choice: str | None
    rule: str
    because: str


def decide(rows: Rows) -> list[Decision]:
    """Return all decisions.

    Args:
        rows: The rows of the JSON by name.
    """
    return [_decided(rows, name, rule, choose) for name, (rule, choose) in RULES.items()]


def _decided(rows: Rows, name: str, rule: str, choose: Callable[[Rows], tuple[str, str]]) -> Decision:
    try:
        _refuse_other_machines(rows)
        choice, because = choose(rows)
    except Missing as missing:
        return Decision(name, None, rule, f"not decided: {missing}")
    return Decision(name, choice, rule, because)


def _refuse_other_machines(rows: Rows) -> None:
    """Refuse numbers that are not a GPU's at full sizes.

    Raises:
        Missing: The row of the machine has no GPU, or tiny sizes.
    """
    machine = rows.get("machine", {}).get("values", {})
    if "gpu" not in machine or machine.get("small"):
        raise Missing("not measured on a GPU at full sizes")


def value(rows: Rows, name: str, key: str) -> float:
    """Return a number of a row.

    Raises:
        Missing: There is none.
    """
    row = rows.get(name, {})
    number = row.get("values", {}).get(key)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise Missing(f"no {key} of {name}" + (f" ({row['not_run']})" if "not_run" in row else ""))
    return float(number)


def _db(rows: Rows, name: str) -> float:
    """Return the agreement of a row in dB; infinite where no bit differs, minus infinity where values are no numbers."""
    values = rows.get(name, {}).get("values", {})
    if values.get("equal"):
        return float("inf")
    return float(values["db"]) if values.get("db") == "-inf" else value(rows, name, "db")


def _rates(rows: Rows, prefix: str) -> dict[int, float]:
    """Return the rates of rows whose names end with a number.

    Raises:
        Missing: There are none, or only one.
    """
    names = [name for name in rows if name.startswith(prefix) and name.removeprefix(prefix).isdigit()]
    rates = {int(name.removeprefix(prefix)): value(rows, name, "x_real_time") for name in names if "values" in rows[name]}
    if len(rates) < 2:
        raise Missing(f"no two rows of {prefix}N")
    return dict(sorted(rates.items()))


def _smallest(rows: Rows, prefix: str) -> tuple[str, str]:
    rates = _rates(rows, prefix)
    best = max(rates.values())
    choice = next(number for number, rate in rates.items() if rate >= ENOUGH * best)
    return str(choice), ", ".join(f"{number}: {rate:,.0f} x real time" for number, rate in rates.items())


def _precision(rows: Rows) -> tuple[str, str]:
    rates = {name: value(rows, f"separator.precision.{name}", "x_real_time") for name in ("float32", "tf32")}
    signals = [name.removeprefix("numerics.tf32.") for name in rows if name.startswith("numerics.tf32.")]
    music_db = _db(rows, "numerics.tf32.music")
    hard_db = min(_db(rows, f"numerics.tf32.{signal}") for signal in signals)
    busy = rows.get("pipeline.run.stft_gpu", {}).get("values", {}).get("busy", {}).get("Separate")
    if busy is None:
        raise Missing("no busy share of Separate in pipeline.run.stft_gpu")
    factor = rates["tf32"] / rates["float32"]
    is_worth_it = busy >= BUSY and factor >= FASTER_PRECISION and music_db >= MUSIC_DB and hard_db >= HARD_DB
    because = f"Separate busy {100 * busy:.0f} %, tf32 {factor:.2f} x as fast, {music_db:.0f} dB on music, {hard_db:.0f} at worst"
    return "tf32" if is_worth_it else "float32", because


def _stft(rows: Rows) -> tuple[str, str]:
    rates = {where: value(rows, f"pipeline.run.stft_{where}", "x_real_time") for where in ("cpu", "gpu")}
    factor = rates["gpu"] / rates["cpu"]
    because = f"gpu {rates['gpu']:,.0f} x real time, cpu {rates['cpu']:,.0f}"
    return "gpu" if factor >= FASTER_STFT else "cpu", because


def _form(rows: Rows) -> tuple[str, str]:
    times = {
        form: value(rows, f"forms.{form}.float32.{DEFAULT_BATCH}", "ms_a_patch") for form in ("inference", "graph", "compile")
    }
    worth_it = [form for form, share in FASTER_FORM.items() if times[form] <= share * times["inference"]]
    choice = min(worth_it, key=lambda form: times[form], default="inference")
    return choice, ", ".join(f"{form} {ms:.2f} ms a patch" for form, ms in times.items())


PRECISION_RULE = (
    f"tf32 if Separate is busy {100 * BUSY:.0f} % of the run, tf32 is {FASTER_PRECISION} x as fast, and it agrees to "
    f"{MUSIC_DB:.0f} dB on music and {HARD_DB:.0f} dB on every signal; else float32"
)
FORM_RULE = (
    f"graph at {FASTER_FORM['graph']}, compile at {FASTER_FORM['compile']} of the plain form's time or less, "
    f"batch {DEFAULT_BATCH}, float32; else the plain form"
)
LEAST_RULE = f"the smallest with {100 * ENOUGH:.0f} % of the best rate"
STFT_RULE = f"gpu if the whole run is {FASTER_STFT} x as fast with it; else cpu"
RULES: dict[str, tuple[str, Callable[[Rows], tuple[str, str]]]] = {
    "precision": (PRECISION_RULE, _precision),
    "batch": (LEAST_RULE, lambda rows: _smallest(rows, "separator.batch.")),
    "threads a GPU": (LEAST_RULE, lambda rows: _smallest(rows, "separator.threads.")),
    "workers a GPU": (LEAST_RULE, lambda rows: _smallest(rows, "separator.workers.")),
    "--stft": (STFT_RULE, _stft),
    "form": (FORM_RULE, _form),
}
