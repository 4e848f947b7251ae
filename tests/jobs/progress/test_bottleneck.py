"""Busy shares and the sentence, for constructed runs, and where a run tells them."""

from __future__ import annotations

import json

import pytest
from catalogs import write_tone

from sep_batch.jobs.progress.bottleneck import COLUMNS, bottleneck, busy_shares, sentence
from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.run.report import lines
from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline.out import index

WALL_S = 100.0
ACTORS = {"Analyze": 4, "Separate": 2, "Write": 4}


def told(analyze, separate, write, device="cuda", format="flac"):
    """Return the sentence for actors that were busy for these shares of the time."""
    shares = dict(zip(COLUMNS, (analyze, separate, write), strict=True))
    seconds = {stage: share * ACTORS[stage] * WALL_S for stage, share in shares.items()}
    return sentence(seconds, ACTORS, WALL_S, device=device, format=format)


def test_a_share_is_seconds_over_actors_and_wall_time():
    shares = busy_shares({"Analyze": 100.0, "Separate": 186.0, "Write": 0.0}, ACTORS, WALL_S)
    assert shares == pytest.approx({"Analyze": 0.25, "Separate": 0.93, "Write": 0.0})


def test_joins_beside_the_actors_make_no_stage_busier_than_all_the_time():
    assert busy_shares({"Write": 900.0}, ACTORS, WALL_S) == {"Write": 1.0}


def test_no_time_and_no_actors_give_no_shares():
    assert busy_shares({"Write": 1.0}, ACTORS, 0.0) == {}
    assert busy_shares({"Write": 1.0}, {}, WALL_S) == {}


def test_busy_gpus_are_the_unets_and_more_gpus_shift_it():
    assert told(0.3, 0.93, 0.2) == "Analyze busy 30 %, Separate busy 93 %, Write busy 20 %: bound by the U-Nets; add GPUs"


def test_busy_writers_beside_idle_gpus_are_the_encoding():
    assert told(0.3, 0.07, 0.97).endswith("bound by encoding and storing; add CPU nodes, or use --format wav")


def test_who_writes_wav_already_is_not_told_to():
    assert told(0.3, 0.07, 0.97, format="wav").endswith("bound by encoding and storing; add CPU nodes")
    assert told(0.2, 0.4, 0.95, "cpu", "wav").endswith("not by the U-Nets; add CPUs")


def test_busy_analyze_beside_idle_gpus_is_fetching_and_decoding():
    assert told(0.97, 0.07, 0.3).endswith("bound by fetching, decoding and STFT; add CPU nodes, or use storage closer to them")


def test_where_no_stage_was_busy_the_start_is_named_and_no_stage():
    assert "no single bottleneck" in told(0.3, 0.2, 0.1)


def test_on_a_cpu_a_decoder_that_waited_for_the_unets_is_no_bottleneck():
    assert told(0.99, 0.8, 0.9, "cpu") == (
        "Separate busy 80 % of the time, on the CPUs that all stages share: bound by the U-Nets; use a GPU"
    )


def test_on_a_cpu_a_stage_that_was_busy_while_the_unets_were_not_is_named():
    assert "not by the U-Nets; add CPUs, or use --format wav" in told(0.2, 0.4, 0.95, "cpu")
    assert "bound by fetching, decoding and STFT" in told(0.95, 0.1, 0.2, "cpu")
    assert bottleneck({"Analyze": 0.2, "Separate": 0.4, "Write": 0.3}, "cpu") is None


def test_the_start_of_the_actors_is_no_time_that_a_stage_was_idle():
    run = Summary("out", 1, seconds=60.0, start_s=50.0, stage_s={"Analyze": 1.0, "Separate": 9.0, "Write": 1.0})
    run.actors, run.device = dict.fromkeys(COLUMNS, 1), "cuda"
    assert json.loads(run.to_json())["busy"] == pytest.approx({"Analyze": 0.1, "Separate": 0.9, "Write": 0.1})
    assert run.bottleneck.endswith("bound by the U-Nets; add GPUs")


def test_a_run_that_did_nothing_names_nothing():
    assert told(0.0, 0.0, 0.0) is None
    assert Summary("out", 3).bottleneck is None
    assert sentence({}, {}, 0.0, device="cpu", format="flac") is None


def test_the_summary_of_a_run_holds_the_indexs_seconds_and_tells_the_sentence(tmp_path, tiny, local):
    for hz in (300, 500):
        write_tone(tmp_path / "songs" / f"{hz}.wav", hz)
    (tmp_path / "songs" / "broken.wav").write_bytes(b"no audio")
    summary = run_job(str(tmp_path / "songs"), str(tmp_path / "out"), model=tiny)
    rows = index.read(str(tmp_path / "out")).to_pylist()
    for stage, column in COLUMNS.items():
        assert summary.stage_s[stage] == pytest.approx(sum(row[column] or 0.0 for row in rows))
        assert summary.stage_s[stage] > 0
    assert 0 <= summary.start_s < summary.seconds
    assert (summary.actors, summary.device) == ({"Analyze": 1, "Separate": 1, "Write": 1}, "cpu")
    assert summary.bottleneck not in lines(summary)  # too little audio for a remedy
    summary.audio_s = 300.0
    assert summary.bottleneck in lines(summary)
    described = json.loads(summary.to_json())
    assert described["bottleneck"] == summary.bottleneck
    assert described["busy"].keys() == COLUMNS.keys()
