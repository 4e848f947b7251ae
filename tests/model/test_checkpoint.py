from __future__ import annotations

import dataclasses

import golden_models
import numpy as np
import pytest

from sep_batch.model import checkpoint
from sep_batch.model.checkpoint import CheckpointError

LEFTOVERS = ("global_step", "conv2d/kernel/Adam", "conv2d/kernel/Adam_1", "beta1_power", "beta2_power_1")
SPEC = golden_models.spec("2stems")


@pytest.fixture
def arrays():
    return checkpoint.read(*golden_models.files("2stems"))


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


@pytest.mark.parametrize("name", golden_models.SETS)
def test_a_checkpoint_that_tensorflow_wrote_is_read_and_fits_its_spec(name):
    spec = golden_models.spec(name)
    mapped = checkpoint.map_names(checkpoint.read(*golden_models.files(name)), spec)
    layers = 6 * (2 + 4) * 2 + 2  # convolution and BatchNorm, down and up, and the head
    assert len(mapped.tensors) == layers * len(spec.stems)
    assert mapped.ignored == 1  # Spleeter saves its global_step
    assert {tensor.dtype.name for tensor in mapped.tensors.values()} == {"float32"}
    assert {key.partition(".")[0] for key in mapped.tensors} == set(spec.stems)


def test_kernels_are_turned_from_tensorflows_layout_into_torchs(arrays):
    tensors = checkpoint.map_names(arrays, SPEC).tensors
    kernel, ours = arrays["conv2d_2/kernel"], tensors["vocals.encoder.2.conv.weight"]
    assert kernel.shape == (5, 5, 2, 4)  # height, width, in, out
    assert ours.shape == (4, 2, 5, 5)
    assert ours[3, 1, 0, 4] == kernel[0, 4, 1, 3]
    kernel, ours = arrays["conv2d_transpose_3/kernel"], tensors["vocals.decoder.3.conv.weight"]
    assert kernel.shape == (5, 5, 2, 8)  # height, width, out, in
    assert ours.shape == (8, 2, 5, 5)
    assert ours[7, 1, 0, 4] == kernel[0, 4, 1, 7]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("conv2d/bias", "vocals.encoder.0.conv.bias"),
        ("conv2d_6/bias", "vocals.head.bias"),
        ("conv2d_7/bias", "accompaniment.encoder.0.conv.bias"),
        ("conv2d_13/bias", "accompaniment.head.bias"),
        ("conv2d_transpose_6/bias", "accompaniment.decoder.0.conv.bias"),
        ("batch_normalization_6/gamma", "vocals.decoder.0.norm.weight"),
        ("batch_normalization_6/beta", "vocals.decoder.0.norm.bias"),
        ("batch_normalization_12/moving_mean", "accompaniment.encoder.0.norm.running_mean"),
        ("batch_normalization_23/moving_variance", "accompaniment.decoder.5.norm.running_var"),
    ],
)
def test_tensorflows_numbering_is_followed_from_stem_to_stem(arrays, theirs, ours):
    assert np.array_equal(checkpoint.map_names(arrays, SPEC).tensors[ours], arrays[theirs])


def test_a_flipped_byte_is_refused_and_names_the_tensor():
    index, data = golden_models.files("2stems")
    for name, entry in list(checkpoint.entries(index).items())[::9]:
        with pytest.raises(CheckpointError, match=rf"tensor {name}: CRC32C [0-9a-f]{{8}}, expected [0-9a-f]{{8}}"):
            checkpoint.read(index, flipped(data, entry.offset + entry.size // 2))


def test_no_flipped_byte_of_the_index_is_read_as_something_else():
    index, _ = golden_models.files("2stems")
    intact, refused = checkpoint.entries(index), 0
    places = range(0, len(index), 11)
    for place in places:
        try:
            assert checkpoint.entries(flipped(index, place)) == intact  # in what is not used: the footer's padding
        except CheckpointError:
            refused += 1
    assert refused > 0.9 * len(places)


def test_an_index_that_is_none_is_refused():
    index, _ = golden_models.files("2stems")
    for content in (b"", b"x", bytes(48), index[:-1], index[1:], index[:48], index[: len(index) // 2], b"\0" * 100 + index[-48:]):
        with pytest.raises(CheckpointError, match="checkpoint index"):
            checkpoint.entries(content)


@pytest.mark.parametrize("kept", [0, 1, 100_000, 311_679])
def test_a_truncated_data_file_is_refused_and_names_a_tensor(kept):
    index, data = golden_models.files("2stems")
    with pytest.raises(CheckpointError, match=r"tensor \S+: found \d+ of its \d+ bytes"):
        checkpoint.read(index, data[:kept])


def test_training_leftovers_are_ignored_and_counted(arrays):
    for name in LEFTOVERS:
        arrays[name] = np.zeros(1, np.float32)
    mapped = checkpoint.map_names(arrays, SPEC)
    assert mapped.ignored == len(LEFTOVERS)
    assert mapped.tensors.keys() == golden_models.tensors("2stems").keys()


@pytest.mark.parametrize("name", ["conv2d/kernel", "conv2d_13/bias", "batch_normalization_5/moving_variance"])
def test_a_missing_tensor_is_refused_and_named(arrays, name):
    del arrays[name]
    with pytest.raises(CheckpointError, match=rf"missing: {name}\."):
        checkpoint.map_names(arrays, SPEC)


@pytest.mark.parametrize("name", ["conv2d_14/kernel", "dense/kernel", "conv2d/kernel/Momentum", "Adam", "my_global_step"])
def test_a_tensor_of_no_such_model_is_refused_and_named(arrays, name):
    arrays[name] = np.zeros(1, np.float32)
    with pytest.raises(CheckpointError, match=rf"not of this model: {name}\."):
        checkpoint.map_names(arrays, SPEC)


def test_a_misshapen_tensor_is_refused_with_both_shapes(arrays):
    other = dataclasses.replace(SPEC, filters=(1, 2, 4, 8, 16, 64))
    with pytest.raises(CheckpointError, match=r"tensor \S+: found shape \(.*32.*\), expected \(.*64.*\)"):
        checkpoint.map_names(arrays, other)


def test_a_checkpoint_of_more_stems_is_refused_as_one_of_fewer():
    arrays = checkpoint.read(*golden_models.files("4stems"))
    with pytest.raises(
        CheckpointError, match=r"does not fit 2stems \(vocals, accompaniment\): not of this model: .* and \d+ more"
    ):
        checkpoint.map_names(arrays, SPEC)


def test_numbers_of_another_type_are_taken_as_float32(arrays):
    arrays["conv2d/bias"] = arrays["conv2d/bias"].astype(np.float64)
    ours = checkpoint.map_names(arrays, SPEC).tensors["vocals.encoder.0.conv.bias"]
    assert ours.dtype == np.float32
    assert np.array_equal(ours, golden_models.tensors("2stems")["vocals.encoder.0.conv.bias"])
