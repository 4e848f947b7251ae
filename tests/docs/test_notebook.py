"""The notebook of the guides, executed whole, with a small model in place of the published one."""

from __future__ import annotations

import pytest
from project_files import ROOT

NOTEBOOK = ROOT / "docs" / "guides" / "first-song.ipynb"


def test_the_notebook_runs_and_shows_players_spectrograms_and_a_table_of_its_index(tiny, tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)  # as it is kept in the repository
    assert cells[0].source.startswith('MODEL = "spleeter:2stems"')
    cells[0].source = f"MODEL = {str(tiny)!r}"
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in cells for output in cell.outputs]
    assert sum("<audio" in output.get("data", {}).get("text/html", "") for output in shown) == 3
    assert sum("image/png" in output.get("data", {}) for output in shown) == 1
    printed = "".join(output.text for output in shown if output.output_type == "stream" and output.name == "stdout")
    assert "2 separated, 0 failed" in printed
    table = cells[-1].outputs[0].data["text/html"]
    assert (table.count("vocals"), table.count("accompaniment")) == (4, 4)  # a path and a name each
