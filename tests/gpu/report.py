"""The acceptance as Markdown for docs/explanation/performance.md: machine, decisions, tables of rows, failures, rows not run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from decisions import decide
from ledger import number

Content = Mapping[str, Mapping[str, Any]]
TABLES = {  # title: prefix of the rows, and the values that are shown
    "Agreement with the CPU, dB of the worst stem": ("numerics.", ("db", "equal", "finite")),
    "Golden sets of TensorFlow Spleeter": ("golden.", ("db", "least_db")),
    "Do bits depend on it": ("bits.", ("equal", "db", "results", "differ")),
    "Roofs": ("roof.", ("tflop_s", "gb_s")),
    "Copies between host and device": ("copies.", ("gb_s", "mb", "ms")),
    "Forms of one U-Net": (
        "forms.",
        ("ms_a_patch", "x_real_time", "tflop_s", "gb_s", "floor_ms_a_patch", "x_floor", "peak_gb", "db", "prepared_s"),
    ),
    "The separator, both stems": ("separator.", ("x_real_time",)),
    "Out of memory": ("oom.", ("room_before", "room_after", "went_on", "db", "again_db", "errors", "raised")),
    "Clips of many lengths": ("memory.", ("clips", "rss_mb", "grown_rss_mb", "device_mb", "grown_device_mb")),
    "Codecs": ("codecs.", ("x_real_time", "processes")),
    "Whole runs": (
        "pipeline.",
        (
            *("tracks", "exit", "x_real_time", "wall_s", "start_s", "spilled_bytes", "gpu_busy_at_work", "gpu_busy"),
            *("gpu_memory_mb", "busy", "stems_of_other_bytes", "bottleneck"),
        ),
    ),
}


def markdown(content: Content) -> str:
    """Return the report.

    Args:
        content: Content of the JSON: `parts` and `rows`.
    """
    rows = content["rows"]
    sections = [heading(content), "### Decisions", *decision_table(rows)]
    for title, (prefix, columns) in TABLES.items():
        chosen = {name: row["values"] for name, row in rows.items() if name.startswith(prefix) and "values" in row}
        if chosen:
            sections += ["", f"### {title}", "", *table(chosen, columns)]
    return "\n".join([*sections, "", "### Not as expected, and not run", "", *exceptions(rows), ""])


def heading(content: Content) -> str:
    """Return the first lines: where the numbers come from. Only a GPU's name says that they are a GPU's."""
    parts, machine = content["parts"], content["rows"].get("machine", {}).get("values", {})
    facts: Mapping[str, Any] = next(iter(parts.values()), {})
    if "gpu" in machine:
        where = f"{machine['gpu']} (driver {machine.get('driver_version', 'unknown')}), {machine['cores']} cores"
    else:
        where = "**No GPU: nothing here was run on a GPU.** CPU" + (", tiny sizes" if facts.get("small") else "")
    ended = ", ".join(f"part {part} {'in ' + str(p['seconds']) + ' s' if p['ended'] else 'cut off'}" for part, p in parts.items())
    versions = ", ".join(f"{name} {machine[name]}" for name in ("torch", "cuda", "cudnn", "python") if machine.get(name))
    return f"## Acceptance\n\n{where}; {versions}; {facts.get('model')}; {facts.get('songs')}; {ended}.\n"


def decision_table(rows: Mapping[str, Any]) -> list[str]:
    """Return the table of the decisions."""
    lines = [f"| {d.name} | {d.choice or '-'} | {d.rule} | {d.because} |" for d in decide(rows)]
    return ["", "| subject | choice | rule | numbers |", "|---|---|---|---|", *lines]


def table(rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Return a table with those of the columns that any row has."""
    shown = [column for column in columns if any(row.get(column) is not None for row in rows.values())]
    lines = [[name, *(cell(row.get(column)) for column in shown)] for name, row in rows.items()]
    return ["| " + " | ".join(line) + " |" for line in (["row", *shown], ["---"] * (1 + len(shown)), *lines)]


def cell(value: Any) -> str:
    """Return a value as a cell of a table."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {number(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return "; ".join(cell(inner) for inner in value)
    return number(value).replace("|", "/")


def exceptions(rows: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Yield a line for each row that failed or has an error, and one for each reason why rows were not run."""
    for name, row in rows.items():
        if "error" in row:
            yield f"- `{name}`: {row['error']}"
        elif row.get("values", {}).get("ok") is False:
            yield f"- `{name}`: not as expected"
    reasons: dict[str, list[str]] = {}
    for name, row in rows.items():
        if "not_run" in row:
            reasons.setdefault(row["not_run"], []).append(name)
    for reason, names in reasons.items():
        yield f"- {reason}: {', '.join(f'`{name}`' for name in names)}"


def failures(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of the rows with an error, or not as expected."""
    return [name for name, row in rows.items() if "error" in row or row.get("values", {}).get("ok") is False]
