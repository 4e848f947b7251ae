"""The Dockerfile's steps, and a machine that runs them below a folder instead of below /."""

from __future__ import annotations

import os
import re
import shutil
import venv

from infra_files import INFRA, ROOT, join_lines, passes

DOCKERFILE = INFRA / "Dockerfile"
PACKAGES = {"jobs", "model", "pipeline"}
INSTALL_S = 1500


def steps():
    """Return the Dockerfile's steps in order, as stage, instruction, rest of the line."""
    stage, found = "", []
    without_comments = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    for line in filter(None, join_lines(without_comments).splitlines()):
        instruction, _, rest = line.partition(" ")
        stage = rest.rpartition(" AS ")[2] if instruction == "FROM" else stage
        found.append((stage, instruction, rest))
    return found


class Replay:
    """What a builder does with the steps, but for root's: stages share the folder, so nothing is copied between them."""

    def __init__(self, folder):
        """Take the folder; a new environment of this Python is the base image's."""
        self.folder = self.here = folder
        venv.create(folder / "python", with_pip=True)
        kept = {name: value for name, value in os.environ.items() if not re.match("PYTHON|VIRTUAL|AWS|RAY", name)}
        self.env = kept | {"PATH": f"{folder}/python/bin:/usr/bin:/bin", "HOME": str(folder / "home")}

    def step(self, instruction, rest):
        """Do one step; USER, ARG, ENTRYPOINT and the like do nothing here."""
        does = {"ENV": self._env, "WORKDIR": self._workdir, "COPY": self._copy, "RUN": self._run}.get(instruction)
        if does and "--from=" not in rest:
            does(self._below(rest))

    def _below(self, text):
        """Return a text with the image's paths below the folder."""
        return re.sub(r"(?<![\w.~$])/(opt|src|dist|home)\b", rf"{self.folder}/\1", text)

    def _env(self, rest):
        for name, value in re.findall(r"(\w+)=(\S+)", rest):
            self.env[name] = value.replace("$PATH", self.env["PATH"])

    def _workdir(self, rest):
        self.here = self.folder / rest
        self.here.mkdir(parents=True, exist_ok=True)

    def _copy(self, rest):
        for path in ROOT.iterdir() if rest == ". ." else (ROOT / name for name in rest.split()[:-1]):
            if path.name in PACKAGES:
                shutil.copytree(path, self.here / path.name)
            elif path.is_file():
                shutil.copy(path, self.here)

    def _run(self, rest):
        if not rest.startswith("apt-get"):
            passes("sh", "-c", rest, cwd=self.here, env=self.env, timeout=INSTALL_S)
