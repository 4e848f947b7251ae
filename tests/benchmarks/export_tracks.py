"""`sep-batch export` over an OUT of so many tracks: how fast it is, and how much memory its driver and its workers take.

The tracks are rows of an index that share the stems of a few: what is read and written is as much as if they had their own.

    python tests/benchmarks/export_tracks.py FOLDER --tracks 1000 --seconds 20 -- --to webdataset --excerpt 10s --cpus 1
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet

sys.path.insert(0, str(Path(__file__).parents[1]))

from export_outs import write_out

from sep_batch.jobs.demo.synthesis import song

DRAWN = 4  # tracks that have stems of their own
EVERY_S = 0.25


def write_index(out: Path, tracks: int, seconds: int) -> None:
    """Write an OUT of four tracks, and an index that has each of them many times."""
    waves = {f"s{number}": song(number, float(seconds)) for number in range(DRAWN)}
    write_out(str(out), waves, extra={name: {"artist": name} for name in waves})
    table = pyarrow.parquet.read_table(out / "index.parquet")
    many = table.take(pa.array([number % DRAWN for number in range(tracks)]))
    many = many.set_column(0, "id", pa.array([f"t{number:06d}" for number in range(tracks)]))
    many = many.set_column(many.column_names.index("artist"), "artist", pa.array([f"artist {n % 997}" for n in range(tracks)]))
    content = io.BytesIO()
    pyarrow.parquet.write_table(many, content)
    (out / "index.parquet").write_bytes(content.getvalue())


class Memory(threading.Thread):
    """Looks at a process and those below it, and keeps the most that each kind took: memory that no other shares, MiB."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._parent, self.most = psutil.Process(pid), dict[str, float]()

    def run(self) -> None:
        while True:
            try:
                below = self._parent.children(recursive=True)
                for one in (self._parent, *below):
                    line = " ".join(one.cmdline()[:1])
                    kind = "driver" if one == self._parent else "worker" if line.startswith("ray::") else "Ray"
                    self.most[kind] = max(self.most.get(kind, 0.0), one.memory_full_info().uss / (1 << 20))
            except psutil.Error:
                if not self._parent.is_running():
                    return
            time.sleep(EVERY_S)


def main() -> None:
    """Write the OUT where it is not there, export it, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tracks", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=20)
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given, flags = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    out = given.folder / f"out{given.tracks}x{given.seconds}"
    if not (out / "index.parquet").exists():
        write_index(out, given.tracks, given.seconds)
    asked = [sys.executable, "-m", "sep_batch.jobs", "export", str(out), f"{out}.dataset", "--json", *flags]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True) as export:
        memory = Memory(export.pid)
        memory.start()
        told = json.loads(export.communicate()[0])
    size = sum(path.stat().st_size for path in Path(f"{out}.dataset").rglob("*") if path.is_file())
    speed = {"x_real_time": round(told["seconds"] / told["took_s"], 1), "took_s": round(told["took_s"], 1), "mb": size >> 20}
    sys.stdout.write(
        json.dumps({"tracks": given.tracks, **speed, "mib": {kind: round(mib) for kind, mib in memory.most.items()}}) + "\n"
    )


if __name__ == "__main__":
    main()
