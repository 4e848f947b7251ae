from __future__ import annotations

import dataclasses
import hashlib
import os

import golden_models
import numpy as np
import pyarrow as pa
import pytest
from catalogs import decoded
from signals import RATE_HZ, frequency_hz, noise, snr_db, tone

from sep_batch.model import separator, weights
from sep_batch.model.published import WeightsError
from sep_batch.pipeline import audio, errors, storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.rows import EXTRA, JOURNAL, PART, TRACK, WRITTEN, payload
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import context as work_module
from sep_batch.pipeline.stages import failed_rows, separation, stems
from sep_batch.pipeline.stages.analyze import Analyze
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.separate import Separate
from sep_batch.pipeline.stages.write import Write

SPEC = golden_models.spec("2stems")
SIXTEEN_BITS_DB = 50  # a stem at some -30 dB of full scale, rounded
RUN = "000001-aaaa"
SECOND = RATE_HZ


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return weights.convert(*golden_models.files("2stems"), SPEC, tmp_path_factory.mktemp("model"))[0]


@pytest.fixture
def work(tmp_path, model):
    settings = Settings(weights_sha256=weights.expected_sha256(model), spec=SPEC, stems=SPEC.stems)
    parts = str(tmp_path / "out" / "_sep" / "parts" / RUN)
    return RunContext(settings, out=str(tmp_path / "out"), run=RUN, parts=parts, scratch=parts)


def with_settings(work, **changes):
    return dataclasses.replace(work, settings=work.settings.model_copy(update=changes))


def track(id, uri, *, offset_s=None, duration_s=None, attempts=0, extra=None, source_etag=None):
    values = {"id": id, "uri": str(uri), "offset_s": offset_s, "duration_s": duration_s}
    row = pa.Table.from_pylist([values | {"source_etag": source_etag, "attempts": attempts}], schema=TRACK)
    return row if extra is None else row.append_column(EXTRA, pa.array([extra]))


def song(folder, name="song.wav", wave=None):
    path = folder / name
    path.write_bytes(encode(noise(SECOND) if wave is None else wave, codecs.CODECS["wav"]["16"], rate_hz=RATE_HZ))
    return path


def run_through(work, model, *tracks):
    """Take tracks through all three stages, one block each, and return the finished rows."""
    analyzed = pa.concat_tables(Analyze(work)(pa.concat_tables(tracks)))
    separated = pa.concat_tables(Separate(work, str(model), device="cpu")(analyzed))
    return pa.concat_tables(Write(work)(separated)).to_pylist()


def stems_of(work, row):
    found = {}
    for stem in row["stems"]:
        content = storage.read(f"{work.out}/{stem['uri']}")
        assert (len(content), hashlib.sha256(content).hexdigest()) == (stem["bytes"], stem["sha256"])
        found[stem["stem"]] = decoded(content).wave
    return found


def test_an_ok_row_is_complete_and_its_stems_are_there(work, model, tmp_path):
    path = song(tmp_path)
    (row,) = run_through(work, model, track("x", path, extra={"genre": "rock"}))
    expected = {
        "id": "x",
        "uri": str(path),
        "status": "ok",
        "error_class": None,
        "error": None,
        "attempts": 1,
        "audio_s": 1.0,
        "source_rate_hz": RATE_HZ,
        "source_channels": 2,
        "source_codec": "pcm_s16le",
        "source_bytes": path.stat().st_size,
        "truncated": False,
        "skipped_packets": 0,
        "nonfinite_samples": 0,
        "parts": 1,
        "model": "2stems",
        "weights_sha256": work.settings.weights_sha256,
        "settings_sha256": work.settings.sha256,
        "device": "cpu",
        "precision": "float32",
        "run_id": RUN,
        "extra": {"genre": "rock"},
    }
    assert {name: row[name] for name in expected} == expected
    assert row["source_etag"]
    assert -10 < row["above_f_db"] < 0  # of white noise about half
    assert min(row["decode_s"], row["separate_s"], row["write_s"]) > 0
    assert row["finished_at"].utcoffset().total_seconds() == 0
    assert [stem["stem"] for stem in row["stems"]] == ["vocals", "accompaniment"]
    for stem in row["stems"]:
        assert (stem["codec"], stem["frames"]) == ("flac", SECOND)
        assert stem["uri"] == f"stems/{hashlib.sha256(b'x').hexdigest()[:2]}/x/{stem['stem']}.flac"
        assert -100 < stem["rms_dbfs"] < stem["peak_dbfs"] < 0
    expected_stems = golden_models.separator("2stems").separate(decoded(path.read_bytes()).wave)
    for stem, wave in stems_of(work, row).items():
        assert snr_db(expected_stems[stem].numpy(), wave) > SIXTEEN_BITS_DB


def test_where_separate_does_the_stft_the_row_and_the_stems_are_the_same_and_the_wave_travels(work, model, tmp_path):
    path, there = song(tmp_path), dataclasses.replace(work, stft="gpu")
    (part,) = Analyze(there)(track("x", path))
    assert (payload(part).dtype, payload(part).shape) == (np.int16, ((48 - 1) * 1024 + 4096, 2))  # as the file has it
    (expected,), (found,) = (run_through(where, model, track("x", path)) for where in (work, there))
    changing = {"decode_s", "separate_s", "write_s", "finished_at", "above_f_db", "null_db"}
    assert {name: found[name] for name in found if name not in changing} == {
        name: expected[name] for name in expected if name not in changing
    }
    assert found["above_f_db"] == pytest.approx(expected["above_f_db"], abs=0.001)


def test_every_row_that_leaves_a_stage_has_the_columns_of_its_schema(work, model, tmp_path):
    block = pa.concat_tables([track("x", song(tmp_path)), track("y", tmp_path / "absent.wav")])
    analyzed = list(Analyze(work)(block))
    assert all(row.schema.equals(PART) for row in analyzed)
    separated = list(Separate(work, str(model), device="cpu")(pa.concat_tables(analyzed)))
    assert all(row.schema.equals(PART) for row in separated)
    assert all(row.schema.equals(WRITTEN) for row in Write(work)(pa.concat_tables(separated)))


def test_a_part_carries_the_spectrum_and_then_the_stems(work, model, tmp_path):
    (part,) = Analyze(work)(track("x", song(tmp_path)))
    assert payload(part).shape == (48, 2, 1024)
    assert part.select(["part", "last", "skip", "samples"]).to_pylist() == [
        {"part": 0, "last": True, "skip": 4096, "samples": SECOND}
    ]
    (separated,) = Separate(work, str(model), device="cpu")(part)
    assert (payload(separated).shape, payload(separated).dtype) == ((2, SECOND, 2), np.int16)


def test_the_same_track_gives_the_same_stems(work, model, tmp_path):
    path = song(tmp_path)
    first, second = (run_through(work, model, track("x", path))[0] for _ in range(2))
    assert first["stems"] == second["stems"]


def test_several_tracks_of_a_block_keep_their_own_audio(work, model, tmp_path):
    tones = {"low": 300.0, "middle": 1000.0, "high": 3000.0}
    tracks = [track(id, song(tmp_path, f"{id}.wav", tone(hz, SECOND // 2 + 1000 * len(id)))) for id, hz in tones.items()]
    tracks.insert(1, track("absent", tmp_path / "absent.wav"))
    rows = {row["id"]: row for row in run_through(work, model, *tracks)}
    assert rows.keys() == {*tones, "absent"}
    for id, hz in tones.items():
        for wave in stems_of(work, rows[id]).values():
            assert wave.shape[1] == SECOND // 2 + 1000 * len(id)
            assert frequency_hz(wave[0]) == pytest.approx(hz, abs=1)


def test_only_the_stems_that_are_asked_for_are_written_in_the_models_or_any_order(work, model, tmp_path):
    path = song(tmp_path)
    (both,) = run_through(work, model, track("x", path))
    (one,) = run_through(with_settings(work, stems=("accompaniment",)), model, track("y", path))
    (turned,) = run_through(with_settings(work, stems=("accompaniment", "vocals")), model, track("z", path))
    hashes = {stem["stem"]: stem["sha256"] for stem in both["stems"]}
    assert {stem["stem"]: stem["sha256"] for stem in one["stems"]} == {"accompaniment": hashes["accompaniment"]}
    assert [(stem["stem"], stem["sha256"]) for stem in turned["stems"]] == [
        (stem, hashes[stem]) for stem in ("accompaniment", "vocals")
    ]


@pytest.mark.parametrize(
    ("format", "changes", "codec"),
    [
        ("wav", {"bit_depth": "float"}, "pcm_f32le"),
        ("wav", {"bit_depth": "24"}, "pcm_s24le"),
        ("flac", {"bit_depth": "24"}, "flac"),
        ("mp3", {"bitrate": 128_000}, "libmp3lame"),
    ],
)
def test_stems_are_written_in_the_format_of_the_settings(work, model, tmp_path, format, changes, codec):
    asked = with_settings(work, format=format, filename="{foldername}/{filename}_{stem}.{ext}", **changes)
    (row,) = run_through(asked, model, track("x", song(tmp_path)))
    assert [stem["uri"] for stem in row["stems"]] == [f"stems/{tmp_path.name}/song_{stem}.{format}" for stem in SPEC.stems]
    assert {stem["codec"] for stem in row["stems"]} == {codec}
    assert all(wave.shape[1] >= SECOND for wave in stems_of(work, row).values())


def test_offset_and_duration_of_a_row_win_over_those_of_the_settings(work, model, tmp_path):
    path = song(tmp_path, wave=noise(2 * SECOND))
    asked = with_settings(work, offset_s=0.5, duration_s=0.25)
    rows = run_through(
        asked,
        model,
        track("settings", path),
        track("row", path, offset_s=1.0, duration_s=0.1),
        track("zero", path, offset_s=0.0),
        track("both", path, duration_s=1.0),
    )
    assert {row["id"]: row["audio_s"] for row in rows} == {"settings": 0.25, "row": 0.1, "zero": 0.25, "both": 1.0}
    whole = decoded(path.read_bytes()).wave
    begins = {"settings": SECOND // 2, "row": SECOND, "zero": 0, "both": SECOND // 2}
    for row in rows:
        begin = begins[row["id"]]
        excerpt = whole[:, begin : begin + round(row["audio_s"] * RATE_HZ)]
        expected = golden_models.separator("2stems").separate(excerpt)
        for stem, wave in stems_of(work, row).items():
            assert snr_db(expected[stem].numpy(), wave) > SIXTEEN_BITS_DB


def assert_failed(row, error_class, stage, *, transient):
    assert (row["status"], row["error_class"], row["error_stage"], row["transient"]) == ("failed", error_class, stage, transient)
    assert row["error"]
    assert row["run_id"] == RUN
    assert row["finished_at"] is not None
    assert row["stems"] is None


@pytest.mark.parametrize(
    ("name", "content", "error_class", "stage"),
    [
        ("absent.wav", None, "not_found", "fetch"),
        ("empty.wav", b"", "empty_audio", "decode"),
        ("garbage.wav", b"garbage" * 50, "unsupported_format", "decode"),
        ("torn.flac", b"fLaC" + bytes(200), "decode_error", "decode"),
    ],
)
def test_a_track_that_cannot_be_read_becomes_a_failed_row_and_the_others_go_on(
    work, model, tmp_path, name, content, error_class, stage
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    tracks = [track("bad", tmp_path / name, attempts=1, extra={"n": 1}), track("good", song(tmp_path), extra={"n": 2})]
    rows = {row["id"]: row for row in run_through(work, model, *tracks)}
    assert rows["good"]["status"] == "ok"
    assert_failed(rows["bad"], error_class, stage, transient=False)
    assert rows["bad"]["attempts"] == 2
    assert rows["bad"]["settings_sha256"] == work.settings.sha256
    assert rows["bad"]["extra"] == {"n": 1}


@pytest.mark.parametrize("uri", ["ftp://host/a.wav", "s3://key:secret@bucket/a.wav", "simplecache::s3://bucket/a.wav"])
def test_a_uri_that_is_not_read_becomes_a_failed_row(work, model, uri):
    (row,) = run_through(work, model, track("x", uri))
    assert_failed(row, "bad_uri", "fetch", transient=False)
    assert "secret" not in row["error"]


def test_a_stem_that_cannot_be_written_fails_its_track_and_may_be_tried_again(work, model, tmp_path):
    (tmp_path / "out").write_text("a file where a folder should be")
    blocked = dataclasses.replace(work, scratch=str(tmp_path))
    (row,) = run_through(blocked, model, track("x", song(tmp_path)))
    assert_failed(row, "write_error", "write", transient=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_refuses_to_be_written_fails_the_track(work, model, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    (row,) = run_through(dataclasses.replace(work, scratch=str(tmp_path)), model, track("x", song(tmp_path)))
    assert_failed(row, "write_error", "write", transient=True)


def broken(*_args, **_options):
    raise ZeroDivisionError("a mistake of ours")


@pytest.mark.parametrize(
    ("place", "name", "stage"),
    [
        (audio, "decode", "decode"),
        (separation, "_part", "separate"),
        (Separate, "_finished", "separate"),
        (stems.Stems, "measured", "separate"),
        (stems, "write", "write"),
    ],
)
def test_a_mistake_in_a_stage_becomes_a_bug_with_its_traceback(work, model, tmp_path, monkeypatch, place, name, stage):
    path = song(tmp_path)
    monkeypatch.setattr(place, name, broken)
    rows = run_through(work, model, track("x", path), track("y", path))
    assert {row["id"] for row in rows} == {"x", "y"}
    for row in rows:
        assert_failed(row, "bug", stage, transient=False)
        assert "Traceback" in row["error"]
        assert "ZeroDivisionError: a mistake of ours" in row["error"]


def test_a_device_without_memory_fails_the_tracks_and_they_may_be_tried_again(work, model, tmp_path, monkeypatch):
    import torch

    def full(*_args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    separate = Separate(work, str(model), device="cpu")
    monkeypatch.setattr(separate.separator, "estimates", full)
    (row,) = (
        row.select(JOURNAL.names).to_pylist()[0] for row in separate(pa.concat_tables(Analyze(work)(track("x", song(tmp_path)))))
    )
    assert_failed(row, "out_of_memory", "separate", transient=True)


def test_where_memory_runs_out_after_the_networks_the_batches_are_halved(work, model, tmp_path, monkeypatch):
    import torch

    stage, add, rooms = Separate(work, str(model), device="cpu"), stems.Stems.add, []
    stage.separator.batch = stage.separator.room = 4

    def little(self, *wave):
        rooms.append(stage.separator.room)
        if rooms[-1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        add(self, *wave)

    monkeypatch.setattr(stems.Stems, "add", little)
    analyzed = pa.concat_tables(Analyze(work)(pa.concat_tables([track("x", song(tmp_path)), track("y", song(tmp_path))])))
    rows = pa.concat_tables(stage(analyzed))
    assert (rows.column("id").to_pylist(), rows.column("error_class").to_pylist()) == (["x", "y"], [None, None])
    assert rooms == [4, 2, 1, 1]


@pytest.mark.parametrize("mwf", [False, True])
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_stems_that_are_not_finite_are_separated_again_in_float32_or_fail(work, model, tmp_path, monkeypatch, precision, mwf):
    import torch

    work = with_settings(work, mwf=mwf)
    asked = with_settings(work, precision=precision)
    stage, whole = Separate(asked, str(model), device="cpu"), separator.Separator.estimates

    def overflowing(self, magnitudes):
        return whole(self, magnitudes) * (torch.nan if self is stage.separator else 1)

    monkeypatch.setattr(separator.Separator, "estimates", overflowing)
    parts = pa.concat_tables(Analyze(asked)(pa.concat_tables([track("x", song(tmp_path)), track("y", song(tmp_path))])))
    rows = [row.to_pylist()[0] for row in stage(parts)]
    if precision == "float32":
        assert [(row["error_class"], row["error_stage"]) for row in rows] == [("nonfinite", "separate")] * 2
        return
    expected = [row.to_pylist()[0] for row in Separate(work, str(model), device="cpu")(parts)]
    assert [row["payload"] for row in rows] == [row["payload"] for row in expected]
    assert [row["precision"] for row in rows] == ["float32"] * 2


@pytest.mark.parametrize(
    ("changes", "least_db", "most_db"),
    [
        ({}, -160, -110),
        ({"precision": "bfloat16"}, -160, -110),  # masks are float32
        ({"format": "wav", "residual": "rest", "write_mix": True}, -160, -110),
        ({"spec": dataclasses.replace(golden_models.spec("2stems"), mask_extension="average")}, -160, -110),
        ({"mwf": True}, -160, -20),
    ],
)
def test_the_mix_minus_the_stems_is_measured_in_the_models_frequencies(work, model, tmp_path, changes, least_db, most_db):
    (row,) = run_through(with_settings(work, **changes), model, track("x", song(tmp_path)))
    assert (row["status"], row["error"]) == ("ok", None)
    assert least_db < row["null_db"] < most_db


def test_without_all_stems_or_without_analysis_there_is_no_null_test(work, model, tmp_path):
    for changed in (with_settings(work, stems=("vocals",)), dataclasses.replace(work, analysis=False)):
        (row,) = run_through(changed, model, track("x", song(tmp_path)))
        assert (row["status"], row["null_db"]) == ("ok", None)


@pytest.mark.parametrize(("factor", "status"), [(1.01, "failed"), (1.0001, "ok")])
def test_stems_that_do_not_add_up_to_the_mix_fail_their_track(work, model, tmp_path, monkeypatch, factor, status):
    whole = separator.ratio_masks
    monkeypatch.setattr(separator, "ratio_masks", lambda *given: whole(*given) * factor)
    (row,) = run_through(work, model, track("x", song(tmp_path)))
    assert row["status"] == status
    if status == "failed":
        assert_failed(row, "wrong_sum", "separate", transient=True)
        assert row["error"].startswith("mix minus stems: -40 dB of the mix, in the frequencies that the model has")


def test_a_cuda_error_where_the_stages_share_the_drivers_process_ends_the_run(work, model, tmp_path, monkeypatch):
    import torch

    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nFor debugging ...")

    def broken(*_args):
        raise error

    stage = Separate(dataclasses.replace(work, has_ended=lambda: False), str(model), device="cpu")
    stage._is_on_gpu = True
    monkeypatch.setattr(stage.separator, "estimates", broken)
    with pytest.raises(errors.NotRunnableError, match="^GPU .*: CUDA error: an illegal memory access was encountered; run the"):
        list(stage(pa.concat_tables(Analyze(work)(track("x", song(tmp_path))))))


def test_a_failed_row_passes_through_the_later_stages_as_it_is(work, model, tmp_path):
    (failed,) = Analyze(work)(track("x", tmp_path / "absent.wav", extra={"n": 1}))
    assert payload(failed).size == 0
    (passed,) = Separate(work, str(model), device="cpu")(failed)
    assert passed.equals(failed)
    (written,) = Write(work)(passed)
    assert written.equals(failed.select([*WRITTEN.names, EXTRA]))


def test_a_block_of_nothing_but_failed_rows_needs_no_network(work, model, tmp_path):
    rows = run_through(work, model, track("x", tmp_path / "absent.wav"), track("y", tmp_path / "absent.wav"))
    assert [row["error_class"] for row in rows] == ["not_found", "not_found"]


def test_a_track_that_fails_writing_midway_is_failed_and_not_half_ok(work, model, tmp_path, monkeypatch):
    put, puts = storage.put, []

    def second_fails(uri, content, **options):
        puts.append(uri)
        if len(puts) == 2:
            raise errors.WriteFailed("storage is away")
        put(uri, content, **options)

    monkeypatch.setattr(storage, "put", second_fails)
    (row,) = run_through(work, model, track("x", song(tmp_path)))
    assert_failed(row, "write_error", "write", transient=True)
    assert len(puts) == 2


def test_silence_is_separated_into_silence_without_a_level(work, model, tmp_path):
    (row,) = run_through(work, model, track("x", song(tmp_path, wave=np.zeros((2, SECOND), np.float32))))
    assert row["status"] == "ok"
    assert (row["above_f_db"], row["null_db"]) == (None, None)
    assert [(stem["peak_dbfs"], stem["lufs"], stem["clipped_samples"]) for stem in row["stems"]] == [(None, None, 0)] * 2


def test_an_etag_that_the_manifest_gives_is_kept(work, model, tmp_path):
    (row,) = run_through(work, model, track("x", song(tmp_path), source_etag="theirs"))
    assert row["source_etag"] == "theirs"


def test_weights_that_are_not_those_of_the_driver_end_the_run(work, model):
    other = with_settings(work, weights_sha256="0" * 64)
    with pytest.raises(WeightsError, match="expected 0000"):
        Separate(other, str(model), device="cpu")


def test_a_model_that_is_not_there_ends_the_run(work, tmp_path):
    with pytest.raises(WeightsError):
        Separate(work, str(tmp_path / "nowhere"), device="cpu")


def test_a_track_that_processes_die_of_becomes_a_failed_row(work):
    row = failed_rows.worker_crash(track("x", "/music/x.wav", attempts=2, extra={"n": 1}), work)
    assert row.schema.names == [*WRITTEN.names, EXTRA]
    (values,) = row.to_pylist()
    assert_failed(values, "worker_crash", "separate", transient=False)
    assert (values["id"], values["attempts"], values["extra"]) == ("x", 3, {"n": 1})


def test_a_track_that_was_over_the_time_limit_in_each_pass_says_so(work):
    storage.put(f"{work.parts}/over/x", b"")
    (values,) = failed_rows.worker_crash(track("x", "/music/x.wav"), work).to_pylist()
    assert_failed(values, "track_timeout", "decode", transient=True)
    assert "more than 600 s" in values["error"]


def test_no_track_is_begun_once_the_run_is_to_stop(work, monkeypatch):
    monkeypatch.setattr(work_module, "LOOK_S", 1e-6)
    storage.put(work.stop_uri, b"")
    assert list(Analyze(work)(track("x", "/music/x.wav"))) == []


def test_a_stage_without_memory_fails_its_track_as_transient(work, tmp_path, monkeypatch):
    def hungry(*_args, **_options):
        raise MemoryError

    monkeypatch.setattr(audio, "decode", hungry)
    (row,) = Analyze(work)(track("x", song(tmp_path)))
    (values,) = row.to_pylist()
    assert_failed(values, "out_of_memory", "decode", transient=True)
