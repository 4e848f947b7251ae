"""Files that crash, hang or exhaust the decoder, in a run under Ray: one failed row each, and nothing else is touched."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time

import psutil
import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import finished, stems_below, write_tone
from faults.killing import Victim
from planted import planted

from sep_batch.pipeline.flow.resources import plan_resources

TIME_LIMIT_S = 20.0  # beyond what a good track takes on a busy machine, or its worker is started anew
SILENT_S = TIME_LIMIT_S / 2  # by the clock, for each file that hangs
FEW = {"abort": 2, "segfault": 1, "loop": 1, "exhaust": 1}
MANY = {"abort": 60, "segfault": 60, "exhaust": 40, "leave": 20, "loop": 10, "sleep": 10}


def catalog(folder, deeds, good, seconds):
    """Write good and planted files, and a manifest of all, mixed, and of the good ones alone; return the planted ones' names."""
    for number in range(good):
        write_tone(folder / f"{number:03d}.wav", 200 + 17 * number, seconds=seconds)
    wanted = [deed for deed, count in deeds.items() for _ in range(count)]
    bad = [f"{place * good // len(wanted):03d}-{place:03d}-{deed}.wav" for place, deed in enumerate(wanted)]
    for name, deed in zip(bad, wanted, strict=True):
        (folder / name).write_bytes(planted.file(deed))
    names = [f"{number:03d}.wav" for number in range(good)]
    for manifest, listed in (("good", names), ("all", sorted(names + bad))):
        pyarrow.parquet.write_table(pa.table({"uri": listed, "id": listed}), folder / f"{manifest}.parquet")
    return bad


def workers(victim):
    """Return the processes of Analyze; a decoder that is about to start has its parent's command line for a moment."""
    named = {one.pid: one for one in victim.named("MapWorker(MapBatches(Analyze")}
    pids = set()
    for pid, process in named.items():
        with contextlib.suppress(psutil.Error):
            pids |= {pid} if process.ppid() not in named else set()
    return pids


def run(source, out, model, log):
    """Run a catalog in a process of its own; return its exit code, seconds, and the processes that Analyze had."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(planted.FOLDER), *sys.path])}
    options = {"source": str(source), "out": str(out), "model": model, "time_limit_s": TIME_LIMIT_S, "max_failures": "100%"}
    analyze, begun = set(), time.monotonic()
    with Victim(options, log, environment) as victim:
        while victim.popen.poll() is None:
            analyze |= workers(victim)
            time.sleep(0.2)
        return victim.end(), time.monotonic() - begun, analyze


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("deeds", "good", "seconds"), [(FEW, 4, 0.5), (MANY, 50, 120.0)], ids=["few", "many"])
def test_files_that_break_the_decoder_fail_alone(tmp_path, tiny, deeds, good, seconds):
    bad = catalog(tmp_path / "songs", deeds, good, seconds)
    code, all_s, analyze = run(tmp_path / "songs" / "all.parquet", tmp_path / "out", tiny, log := tmp_path / "all.log")
    assert code == 3, log.read_text()
    rows = finished(str(tmp_path / "out"))
    assert len(rows) == len(bad) + good
    failed = {row.id: (row.error_class, row.error_stage, row.attempts) for row in rows.values() if row.status != "ok"}
    assert failed == dict.fromkeys(bad, ("decode_crash", "decode", 1))
    assert not [name for name in bad if planted.DIES_OF[name.rpartition("-")[2].partition(".")[0]] not in rows[name].error]
    assert len(analyze) == plan_resources(os.cpu_count() or 1, 0).analyze.actors, log.read_text()  # none was started anew
    code, good_s, _ = run(tmp_path / "songs" / "good.parquet", tmp_path / "alone", tiny, log := tmp_path / "good.log")
    assert code == 0, log.read_text()
    alone, beside = stems_below(tmp_path / "alone"), stems_below(tmp_path / "out")
    assert len(alone) == 2 * good
    assert beside == alone
    waits_s = sum(count for deed, count in deeds.items() if deed in ("loop", "sleep")) * SILENT_S
    sys.stdout.write(json.dumps({"all_s": all_s, "good_s": good_s, "waits_s": waits_s}) + "\n")
    if good > 10:
        assert all_s < 2 * good_s + waits_s
