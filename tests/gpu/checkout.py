"""The checkout's packages on the path of this process and of its children, without an installation.

`sep_batch.model` is the folder `model/` and so on. A temporary folder has links of these names.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
ROOT = TESTS.parent
PACKAGES = ("model", "pipeline", "jobs")
VARIABLE = "SEP_BATCH_ACCEPT_PACKAGES"  # names the folder to child processes


def prepare() -> None:
    """Put the packages and the tests' helpers on the path; child processes, Ray's workers too, get the packages alone."""
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = folder = _packages()
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
    for path in (str(TESTS), str(HERE), os.environ[VARIABLE]):
        if path in sys.path:
            sys.path.remove(path)
        sys.path.insert(0, path)


def _packages() -> str:
    """Make the folder, which is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="sep-batch-packages-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "sep_batch").mkdir()
    for name in PACKAGES:
        (folder / "sep_batch" / name).symlink_to(ROOT / name, target_is_directory=True)
    return str(folder)
