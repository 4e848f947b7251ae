"""The recipes of docs/guides/datasets.md, run as they stand there: from a manifest to batches of a PyTorch DataLoader."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from catalogs import WAV
from project_files import ROOT
from signals import RATE_HZ, noise
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.setup import prepare
from sep_batch.pipeline.audio.encoding import encode

DOC = ROOT / "docs" / "guides" / "datasets.md"
SONG_S = 20
SHAPES = {  # of a batch, as each recipe prints it
    "singing": r"torch.Size\(\[\d, 2, 441000\]\) torch.Size\(\[\d, 2, 441000\]\)",
    "sixteen": r"'vocals': torch.Size\(\[\d, 64000\]\), 'accompaniment': torch.Size\(\[\d, 64000\]\)",
    "cuts": r"torch.Size\(\[2, 2, 220500\]\) \['Nord', 'Nord'\]",
}


def blocks(text):
    """Return a part of the doc's blocks of code: language and text of each."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def run_in(tmp_path, tiny, local, inline_export, monkeypatch):
    """Run blocks in a folder, the U-Nets tiny ones; returns what Python blocks print."""
    monkeypatch.chdir(tmp_path)
    model = prepare.obtain_model(tiny)
    monkeypatch.setattr(prepare, "obtain_model", lambda _name: model)

    def run(language, text):
        if language == "csv":
            Path("songs.csv").write_text(text)
            for number, line in enumerate(text.splitlines()[1:]):
                path = Path(line.partition(",")[0])
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(encode(noise(SONG_S * RATE_HZ, seed=number), WAV, rate_hz=RATE_HZ))
        elif language == "sh":
            told = CliRunner().invoke(app, shlex.split(text.removeprefix("sep-batch ")))
            assert told.exit_code == 0, told.output
        else:
            environment = os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
            asked = [sys.executable, "-c", text]
            return subprocess.run(asked, env=environment, capture_output=True, text=True, check=True, timeout=240).stdout
        return ""

    return run


@pytest.mark.parametrize("name", ["singing", pytest.param("sixteen", marks=pytest.mark.slow), "cuts"])
def test_each_recipe_runs_as_it_stands(run_in, name):
    sections = re.split(r"^## ", DOC.read_text(), flags=re.MULTILINE)[1:]
    (head,) = (text for text in sections if text.startswith("A catalog\n"))
    recipes = [text for text in sections if "```python" in text]
    (recipe,) = (text for text in recipes if f"songs.stems {name} " in text)
    assert len(recipes) == len(SHAPES)
    printed = "".join(run_in(language, text) for language, text in [*blocks(head), *blocks(recipe)])
    batches = printed.splitlines()
    assert len(batches) >= 2
    assert all(re.search(SHAPES[name], batch) for batch in batches), batches
