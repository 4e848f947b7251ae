"""An OUT that an older commit made, kept for all later ones: `tests/golden/out_of_196c357`.

It was made by `git archive 196c357 | tar -x -C OLD; PYTHONPATH=OLD/.types python tests/older_outs.py FOLDER`, with the stages run
in that process as `--engine local` does now. The sources lie in fsspec's memory, so that the journal's URIs name no machine's
folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from channel_files import by_ffmpeg, tones, wav
from project_files import TESTS
from signals import tone

FOLDER = TESTS / "golden" / "out_of_196c357"
SAMPLES = 4410
SUSPECT = {"six": 6, "ogg": 2}  # channels by id
FINE = {"stereo": 2, "mono": 1}
BROKEN = "broken"


def sources() -> dict[str, bytes]:
    """Return the sources' bytes by URI."""
    stereo = np.stack([tone(hz, SAMPLES, channels=1, level=0.1)[0] for hz in (300, 500)])
    return {
        "memory://songs/stereo.wav": wav(stereo, None),
        "memory://songs/mono.mp3": by_ffmpeg(stereo[:1], "mp3", "libmp3lame", "mono", samples="fltp"),
        "memory://songs/six.wav": wav(tones(6, seconds=0.1), ("FL", "FR", "FC", "LFE", "BL", "BR")),
        "memory://songs/ogg.opus": by_ffmpeg(tone(300, 4800, rate_hz=48_000), "ogg", "libopus", "stereo", rate_hz=48_000),
        "memory://songs/broken.wav": b"no audio at all",
    }


def put_sources() -> str:
    """Put the sources and their manifest into fsspec's memory, and return the manifest's URI."""
    from sep_batch.pipeline import storage

    found = sources()
    for uri, content in found.items():
        storage.put(uri, content)
    lines = ["uri,id,artist", *(f"{uri},{uri.rpartition('/')[2].partition('.')[0]},me" for uri in found)]
    storage.put("memory://songs/songs.csv", "\n".join(lines).encode())
    return "memory://songs/songs.csv"


def make(folder: str) -> None:
    """Run the sources with the tiny model in this process."""
    import golden_models

    from sep_batch.jobs.run.run import run_job
    from sep_batch.model import weights

    model = weights.convert(*golden_models.files("2stems"), golden_models.spec("2stems"), Path(folder).parent / "2stems")[0]
    run_job(put_sources(), out=folder, model=str(model), gpus=0, ok_with_failures=True, engine="local")


if __name__ == "__main__":
    make(sys.argv[1])
