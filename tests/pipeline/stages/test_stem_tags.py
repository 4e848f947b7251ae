"""Tags through the stages: whole and in parts, with the same samples as without, and the same bytes every time."""

from __future__ import annotations

import io
import itertools

import golden_models
import numpy as np
import pyarrow as pa
import pytest
from catalogs import decoded
from tagged_files import FORMATS, VALUES, png, read_back, tagged

from sep_batch.model import weights
from sep_batch.pipeline import audio, storage
from sep_batch.pipeline.audio import encoding
from sep_batch.pipeline.audio.tags import MAX_COVER_BYTES
from sep_batch.pipeline.rows import TRACK, journal_table, value
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import analyze, long_tracks
from sep_batch.pipeline.stages.analyze import Analyze
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.separate import Separate
from sep_batch.pipeline.stages.write import Write

SPEC = golden_models.small_spec("2stems")
SAMPLES = 3 * SPEC.patch_samples // 2  # two patches
PROVENANCE = ("SEP_BATCH_ID", "SEP_BATCH_MODEL", "SEP_BATCH_STEM", "SEP_BATCH_WEIGHTS_SHA256")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return weights.convert(*golden_models.files("2stems"), SPEC, tmp_path_factory.mktemp("model"))[0]


@pytest.fixture
def separated(tmp_path, model, monkeypatch):
    """A function that takes a file through the stages, and returns its row and the bytes of its stems."""
    numbers = itertools.count()

    def run(content, *, patches=20, **settings):
        out = str(tmp_path / f"out {next(numbers)}")
        (tmp_path / "song").write_bytes(content)
        monkeypatch.setattr(analyze, "PATCHES_PER_PART", patches)
        own = Settings(weights_sha256=weights.expected_sha256(model), spec=SPEC, stems=SPEC.stems, **settings)
        work = RunContext(own, out=out, run="000001-aaaa", parts=f"{out}/parts", scratch=f"{out}/parts")
        track = pa.Table.from_pylist([{"id": "x", "uri": str(tmp_path / "song"), "attempts": 0}], schema=TRACK)
        parts = Separate(work, str(model), device="cpu")(pa.concat_tables(Analyze(work)(track)))
        written = list(Write(work)(pa.concat_tables(parts)))
        assert (len(written) > 1) == (patches == 1)
        row = long_tracks.join(written, work) if len(written) > 1 else written[0]
        assert value(row, "status") == "ok", value(row, "error")
        assert value(row, "tags") is None
        (columns,) = journal_table(row).to_pylist()
        return columns, {stem["stem"]: storage.read(f"{out}/{stem['uri']}") for stem in columns["stems"]}

    return run


@pytest.mark.parametrize("patches", [20, 1], ids=["whole", "in parts"])
@pytest.mark.parametrize(("format", "depth"), FORMATS)
def test_every_stem_has_the_tags_of_its_source_and_its_provenance(separated, format, depth, patches):
    source = tagged("mp3", cover=png(), samples=SAMPLES)
    settings = {"format": format, "bit_depth": depth or "16", "bitrate": None if depth else 128_000, "patches": patches}
    columns, files = separated(source, copy_tags=True, tag_provenance=True, **settings)
    assert columns["tags_warning"] == ("cover left out: wma files hold none" if format == "wma" else None)
    for stem, content in files.items():
        values, cover = read_back(content, format, (*VALUES, *PROVENANCE))
        provenance = dict(zip(PROVENANCE, ("x", "2stems", stem, columns["weights_sha256"]), strict=True))
        assert values == VALUES | provenance
        assert cover == (b"" if format == "wma" else png())
    assert separated(source, copy_tags=True, tag_provenance=True, **settings)[1] == files
    for stem, content in separated(source, **settings)[1].items():
        assert np.array_equal(decoded(content).wave, decoded(files[stem]).wave)


@pytest.mark.parametrize("patches", [20, 1], ids=["whole", "in parts"])
def test_without_flags_a_tagged_source_gives_the_bytes_of_one_without_tags(separated, patches):
    bare = tagged("flac", values={}, samples=SAMPLES)
    assert separated(bare, patches=patches)[1] == separated(tagged("flac", cover=png(), samples=SAMPLES), patches=patches)[1]
    assert separated(bare, patches=patches, copy_tags=True)[1] == separated(bare, patches=patches)[1]


@pytest.mark.parametrize("patches", [20, 1], ids=["whole", "in parts"])
def test_a_cover_beyond_the_bound_is_left_out_and_the_row_says_so(separated, patches):
    source = tagged("flac", cover=png(2, MAX_COVER_BYTES), samples=SAMPLES)
    columns, files = separated(source, copy_tags=True, patches=patches)
    assert columns["tags_warning"].startswith("cover left out: 8,388,")
    assert all(read_back(content, "flac") == (VALUES, b"") for content in files.values())


def test_a_large_wav_with_tags_is_an_rf64_whose_size_counts_them(separated, monkeypatch):
    monkeypatch.setattr(encoding, "_RIFF_BYTES", 1_000)
    source = tagged("wav", "16", cover=png(), samples=SAMPLES)
    for content in separated(source, copy_tags=True, format="wav")[1].values():
        assert content[:4] == b"RF64"
        assert int.from_bytes(content[20:28], "little") == len(content) - 8
        assert content[content.rindex(b"id3 ") + 8 :].startswith(b"ID3\4")
        assert b"INAM" in content
        assert dict(audio.read_tags(io.BytesIO(content)).tags.values) == VALUES
