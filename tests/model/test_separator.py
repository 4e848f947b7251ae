from __future__ import annotations

import golden_models
import numpy as np
import pytest
import torch
from golden_models import waves_of
from signals import noise, snr_db, tone
from spectra import inverse_stft, stft

from sep_batch.model.parts import split_parts
from sep_batch.model.separator import AGREEMENT_DB, Separator
from sep_batch.model.spectrogram import as_stereo

BFLOAT16_DB = 20  # eight bits of mantissa, through twelve layers
GOLDEN_DB = 90  # TensorFlow Spleeter and this, two float32 computations
SUM_DB = 80
SHORT = 20_000  # samples: one patch
LEVELS = ((0, 0.1), (1, 1e-4), (2, 1.0))  # seeds of noise, and its RMS levels


@pytest.mark.parametrize("name", golden_models.SETS)
def test_stems_agree_with_tensorflow_spleeter(name):
    separator = golden_models.separator(name)
    stems = separator.separate(golden_models.song())
    with np.load(golden_models.FOLDER / name / "expected.npz") as expected:
        assert tuple(stems) == separator.spec.stems
        for stem, wave in stems.items():
            assert wave.shape == (2, int(expected["samples"]))
            ours = np.stack([wave[:, begin:end].numpy().T for begin, end in expected["windows"]])
            assert snr_db(expected[stem], ours) >= GOLDEN_DB


@pytest.mark.parametrize("name", golden_models.SETS)
def test_stems_add_up_to_the_mix_below_f(name):
    separator = golden_models.separator(name)
    spec, wave = separator.spec, noise(SHORT)
    spectrum = stft(torch.from_numpy(wave), spec)
    if spec.mask_extension == "zeros":
        spectrum[..., spec.bins :] = 0
    mix = inverse_stft(spectrum, SHORT, spec).numpy()
    stems = torch.stack(list(separator.separate(wave).values()))
    assert snr_db(mix, stems.sum(dim=0).numpy()) >= SUM_DB


def test_a_tone_above_f_is_in_no_stem():
    stems = golden_models.separator("2stems").separate(tone(15_000, SHORT, level=1.0))
    assert all(float(wave[:, 5000:-5000].abs().max()) < 1e-4 for wave in stems.values())


def test_stems_are_separated_and_not_only_shared_out():
    stems = golden_models.separator("2stems").separate(noise(SHORT))
    vocals, accompaniment = stems.values()
    assert snr_db(vocals.numpy(), accompaniment.numpy()) < 20


def test_mono_is_separated_as_two_equal_channels():
    separator, wave = golden_models.small_separator("2stems"), noise(SHORT, channels=1)
    expected = separator.separate(np.repeat(wave, 2, axis=0))
    for given in (wave, wave[0]):
        for stem, found in separator.separate(given).items():
            assert torch.equal(found, expected[stem])


def test_of_six_channels_the_first_two_are_separated():
    separator, wave = golden_models.small_separator("2stems"), noise(SHORT, channels=6)
    expected = separator.separate(wave[:2])
    for stem, found in separator.separate(wave).items():
        assert torch.equal(found, expected[stem])


def test_a_tensor_and_an_array_are_separated_alike():
    separator, wave = golden_models.small_separator("2stems"), noise(SHORT)
    of_array, of_tensor = separator.separate(wave), separator.separate(torch.from_numpy(wave))
    assert all(torch.equal(of_array[stem], of_tensor[stem]) for stem in of_array)


@pytest.mark.parametrize("samples", [1, 2, 1023, 4096, 44_100])
def test_stems_are_exactly_as_long_as_the_wave(samples):
    for wave in golden_models.separator("2stems").separate(noise(samples)).values():
        assert wave.shape == (2, samples)
        assert wave.dtype == torch.float32
        assert bool(wave.isfinite().all())


def test_silence_becomes_silence():
    stems = golden_models.small_separator("2stems").separate(np.zeros((2, 5000), np.float32))
    assert not any(wave.any() for wave in stems.values())


@pytest.mark.parametrize("wave", [np.zeros(0), np.zeros((2, 0)), np.zeros((0, 5)), np.zeros((1, 2, 3)), np.float32(3)])
def test_a_wave_without_samples_or_of_another_shape_is_refused(wave):
    with pytest.raises(ValueError, match="found shape"):
        golden_models.separator("2stems").separate(wave)


def part_of(wave, spec, *, as_waves=False):
    (part,) = split_parts([as_stereo(torch.from_numpy(wave))], spec, patches_per_part=100, as_waves=as_waves)
    return part


def neighbours(separator, samples):
    mine, quiet, loud = (part_of(noise(samples, level=level, seed=seed), separator.spec) for seed, level in LEVELS)
    return mine, quiet, loud


def test_a_result_depends_neither_on_its_place_in_a_batch_nor_on_its_neighbours():
    separator = golden_models.separator("2stems", batch=2)
    mine, quiet, loud = neighbours(separator, SHORT)
    (alone,) = waves_of(separator, [mine])
    for place, parts in enumerate(([mine, loud], [quiet, mine])):
        assert torch.equal(waves_of(separator, parts)[place], alone)


def test_every_place_of_a_batch_gives_the_same_result():
    separator = golden_models.small_separator("5stems", batch=4)
    mine, quiet, loud = neighbours(separator, 2000)
    (alone,) = waves_of(separator, [mine])
    for place in range(9):
        others = [(quiet, loud)[i % 2] for i in range(8)]
        assert torch.equal(waves_of(separator, [*others[:place], mine, *others[place:]])[place], alone)


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory")
NO_ENGINE = RuntimeError("GET was unable to find an engine to execute this computation")  # as cuDNN says it


def little_room(separator, monkeypatch, patches, error=OUT_OF_MEMORY):
    """Have a device run out of memory above so many patches at once; return the list of those it was given."""
    whole, given = separator.estimates, []

    def estimates(magnitudes):
        given.append(len(magnitudes))
        if len(magnitudes) > patches:
            raise error
        return whole(magnitudes)

    monkeypatch.setattr(separator, "estimates", estimates)
    return given


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, NO_ENGINE])
def test_where_memory_runs_out_batches_are_halved_and_nothing_is_lost(monkeypatch, error):
    separator = Separator(golden_models.small_spec("2stems"), golden_models.tensors("2stems"), batch=8)
    part = part_of(noise(20 * separator.spec.patch_samples), separator.spec)
    (expected,) = waves_of(separator, [part])
    given = little_room(separator, monkeypatch, 3, error)
    (found,) = waves_of(separator, [part])
    assert given[:4] == [8, 4, 2, 2]
    assert set(given[2:]) == {2}
    assert snr_db(expected.numpy(), found.numpy()) > SUM_DB


def test_a_halved_batch_grows_back(monkeypatch):
    monkeypatch.setattr("sep_batch.model.separator.GROWN_AFTER", 3)
    separator = Separator(golden_models.small_spec("2stems"), golden_models.tensors("2stems"), batch=4)
    part = part_of(noise(30 * separator.spec.patch_samples), separator.spec)
    with monkeypatch.context() as full:
        little_room(separator, full, 1)
        waves_of(separator, [part])
        assert separator.room < 4
    waves_of(separator, [part])
    assert separator.room == 4


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, NO_ENGINE])
def test_where_there_is_no_room_for_one_patch_the_error_is_raised(monkeypatch, error):
    separator = Separator(golden_models.small_spec("2stems"), golden_models.tensors("2stems"), batch=4)
    little_room(separator, monkeypatch, 0, error)
    with pytest.raises(type(error), match=str(error)):
        waves_of(separator, [part_of(noise(SHORT), separator.spec)])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_networks_agree_with_plain_ones(precision):
    tensors = golden_models.tensors("2stems")
    separator = Separator(golden_models.small_spec("2stems"), tensors, batch=2, precision=precision)
    assert separator.agreement_db(tensors) > AGREEMENT_DB[precision] + 6


@pytest.mark.parametrize(
    "wrong",
    [lambda x: x.flip(-1), lambda x: x * 1.01, lambda x: x * torch.nan, lambda x: x * torch.inf],
)
def test_networks_that_are_wrong_at_one_place_of_a_batch_do_not_agree_with_plain_ones(wrong):
    tensors = golden_models.tensors("2stems")
    separator = Separator(golden_models.small_spec("2stems"), tensors, batch=3)
    right = separator._unets[1]
    separator._unets[1] = lambda magnitudes: torch.cat([right(magnitudes)[:2], wrong(right(magnitudes)[2:])])
    assert not separator.agreement_db(tensors) >= AGREEMENT_DB["float32"]


def test_in_bfloat16_the_stems_are_close_to_those_in_float32():
    spec, tensors, wave = golden_models.spec("2stems"), golden_models.tensors("2stems"), noise(SHORT)
    found = Separator(spec, tensors, precision="bfloat16").separate(wave)
    for stem, expected in golden_models.separator("2stems").separate(wave).items():
        assert BFLOAT16_DB < snr_db(expected.numpy(), found[stem].numpy()) < GOLDEN_DB


@pytest.mark.parametrize("precision", ["tf32", "float16", "half"])
def test_a_precision_that_a_cpu_has_not_is_refused(precision):
    with pytest.raises(ValueError, match=f"precision '{precision}' on cpu: expected one of float32, bfloat16"):
        Separator(golden_models.spec("2stems"), golden_models.tensors("2stems"), precision=precision)


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_a_result_does_not_depend_on_how_many_threads_work_side_by_side(threads):
    wave = noise(3 * golden_models.spec("2stems").patch_samples)
    expected = golden_models.separator("2stems").separate(wave)
    for stem, found in golden_models.separator("2stems", threads=threads).separate(wave).items():
        assert torch.equal(found, expected[stem])


def test_a_separation_that_is_given_up_leaves_no_thread_at_work():
    separator = golden_models.small_separator("2stems")
    part = part_of(noise(20 * separator.spec.patch_samples), separator.spec)
    given_up = separator.separate_parts([part])
    next(given_up)
    given_up.close()
    (whole,) = waves_of(separator, [part])
    assert whole.shape[-1] == part.samples


@pytest.mark.parametrize("wanted", [("accompaniment",), ("accompaniment", "vocals"), ("vocals", "accompaniment")])
def test_only_the_stems_wanted_are_given_in_the_order_wanted(wanted):
    separator = golden_models.small_separator("2stems")
    part = part_of(noise(5000), separator.spec)
    (every,) = waves_of(separator, [part])
    (found,) = separator.separate_parts([part], wanted)
    assert torch.equal(found.waves, every[[separator.spec.stems.index(stem) for stem in wanted]])


@pytest.mark.parametrize("as_waves", [False, True], ids=["spectra", "waves"])
@pytest.mark.parametrize("batch", [1, 2, 3, 7, 32])
def test_several_tracks_in_one_batch_keep_their_own_results(batch, as_waves):
    separator = golden_models.small_separator("2stems", batch=batch)
    patch = separator.spec.patch_samples
    lengths = (2000, patch + 1, 3 * patch, 1)
    parts = [part_of(noise(samples, seed=samples), separator.spec, as_waves=as_waves) for samples in lengths]
    together = waves_of(separator, parts)
    assert [stems.shape[-1] for stems in together] == list(lengths)
    for part, stems in zip(parts, together, strict=True):
        (alone,) = waves_of(separator, [part])
        assert torch.equal(stems, alone)


def test_the_weights_hash_is_that_of_the_tensors_and_not_of_the_batch():
    hashes = {golden_models.separator(name, batch).weights_sha256 for name, batch in (("2stems", 1), ("2stems", 2))}
    assert len(hashes) == 1
    assert hashes != {golden_models.separator("2stems-16kHz-average").weights_sha256}
