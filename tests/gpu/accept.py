"""Acceptance on a machine with a GPU: results, speed, memory and whole runs, in three parts of at most seven minutes each.

Carry to the machine:

- this checkout: the folders model, pipeline, jobs and tests, and pyproject.toml; nothing is installed, and no network is used;
- a Python 3.11 or 3.12 with torch 2.11 or newer for CUDA and the torchaudio beside it, and, in the versions of pyproject.toml,
  numpy, pyarrow, jinja2, packaging, pathspec, prometheus-client, psutil, rich, safetensors, typer;
- wheels that a machine for training lacks, as they were for Python 3.12 in December 2026, in MB: ray 2.60.0 79, av 18.1.0 36,
  duckdb 2.0.1 25, pydantic_core 2.3, soundfile 1.3, pydantic 0.5, rpds_py 0.4, cffi 0.2, fsspec 0.2, and 0.4 together for
  platformdirs, jsonschema, pycparser, google_crc32c, tenacity, referencing, jsonschema_specifications, typing_inspection and
  annotated_types. Unpack them into a folder and name it in PYTHONPATH; where a load has a limit, in several loads to one
  folder. Of ray's wheel, 35 MB are ray/jars, which nothing here needs;
- the official weights, 79 MB: the folder that `sep-batch models fetch spleeter:2stems` makes, for --model. Without it, networks
  of the same size get fixed random weights: speed and memory are the same, agreement in dB is not;
- songs, for --songs: at most 120 of the folder are taken. Without it, 120 songs of 2.5 to 5 minutes are synthesised.

Run each part, here on one GPU with 16 cores:

    python tests/gpu/accept.py --part 1 --json accept.json --work /tmp/accept [--model FOLDER] [--songs FOLDER]
    python tests/gpu/accept.py --part 2 --json accept.json --work /tmp/accept
    python tests/gpu/accept.py --part 3 --json accept.json --work /tmp/accept

Each adds its rows to the JSON and writes it after each row, so that a part that is cut off loses one row; then it writes
accept.md beside it: tables for docs/explanation/performance.md, and what the numbers decide. `--only PREFIX` runs some rows again
and keeps the others. --work keeps model and songs for the next part (8 GB with the stems of a run; without it they are made
again, in a temporary folder). Exit code 1: a row has an error or is not as expected; the last line names them.

    python tests/gpu/accept.py --device cpu --small --engine local

tries the script itself on a CPU, in half a minute; what needs CUDA is listed as not run.

Part 1: machine, golden sets, CPU against GPU, whether bits depend on the batch, roofs, copies, forms of a U-Net, the separator.
Part 2: memory that runs out, clips of 2,000 lengths, codecs on one core and on all.
Part 3: whole runs over the songs, with the STFT on either side; a killed worker, and a device-side assert.

Files: checkout (packages on the path), ledger (rows and the JSON), material (model, signals, songs), workers (several processes
at once), numerics, roofs, forms (part 1), memory, codec_rates (part 2), gpu_busy, assert_once, pipeline_run (part 3),
decisions, report.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import checkout

PARTS = (1, 2, 3)
MINUTES = {1: 7.0, 2: 4.0, 3: 7.0}  # after which a part begins no further row; 18 together


def main() -> int:
    """Run the parts that are named, or one row for a process that runs several."""
    options = parsed()
    checkout.prepare()
    with tempfile.TemporaryDirectory(prefix="sep-batch-accept-") as temporary:
        options.work = options.work or Path(temporary)
        return run_row(options) if options.row else run_parts(options)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=int, nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    parser.add_argument("--only", default="", help="run only rows whose names begin so, and keep the results of the others")
    parser.add_argument("--json", type=Path, default=Path("accept.json"), help="file that gets the rows, and .md beside it")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes: small networks, four short songs")
    parser.add_argument("--engine", choices=("ray", "local"), default="ray", help="engine of the whole runs")
    parser.add_argument("--model", type=Path, help="folder of a converted model; without it, random weights")
    parser.add_argument("--songs", type=Path, help="folder of songs; without it, synthesised ones")
    parser.add_argument("--work", type=Path, help="folder for what is made; by default a temporary one")
    parser.add_argument("--minutes", type=float, help="minutes after which a part begins no further row")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def setup_of(options: argparse.Namespace):
    """Return the setup that the options describe."""
    from material import Setup

    model, songs = (path and path.resolve() for path in (options.model, options.songs))
    return Setup(options.device, options.small, options.engine, options.work.resolve(), model, songs)


def rows_of(part: int, *, small: bool):
    """Return the rows of a part, in order."""
    import codec_rates
    import forms
    import memory
    import numerics
    import pipeline_run
    import roofs

    if part == 1:
        return [*numerics.rows(), *roofs.rows(), *forms.rows(small=small)]
    return [*memory.rows(), *codec_rates.rows()] if part == 2 else pipeline_run.rows()


def run_parts(options: argparse.Namespace) -> int:
    """Run parts and write the report; return 0, or 1 if a row has an error or is not as expected, or 2 without the device."""
    import report
    import torch
    from ledger import Ledger, run_part, say

    if options.device == "cuda" and not torch.cuda.is_available():
        say("torch sees no GPU; --device cpu --small tries the script itself on a CPU")
        return 2
    if options.small:
        torch.set_num_threads(1)  # networks this small gain nothing from more
    setup, ledger = setup_of(options), Ledger.open(options.json)
    setup.work.mkdir(parents=True, exist_ok=True)
    for part in options.part:
        rows = [row for row in rows_of(part, small=options.small) if row.name.startswith(options.only)]
        run_part(ledger, part, rows, setup, limit_s=60 * (options.minutes or MINUTES[part]), say=say)
        options.json.with_suffix(".md").write_text(report.markdown(ledger.content))
    say(report.markdown(ledger.content))
    failed = report.failures(ledger.rows)
    say(f"{len(ledger.rows)} rows, of which not as expected: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def run_row(options: argparse.Namespace) -> int:
    """Run one row, and write its answer to a file."""
    from ledger import here

    row = next(row for part in PARTS for row in rows_of(part, small=options.small) if row.name == options.row)
    options.answer.write_text(json.dumps(here(row, setup_of(options)), default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main())
