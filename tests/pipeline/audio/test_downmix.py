"""More than two channels: each has the gain that ITU-R BS.775 gives its name, whatever the order, the container and the rate."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from channel_files import by_ffmpeg, caf, gains, mov, tones, wav
from project_files import ROOT
from signals import RATE_HZ, noise, snr_db

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import decoding, downmix

LOSSLESS_DB = 0.01  # by which a channel's gain may differ
ABSENT = 1e-4  # gain of a channel that is left out: -80 dB
ABSENT_LOSSY = 1e-2
LOSSY = {"within_db": 0.3, "absent": ABSENT_LOSSY}
EXACT_DB = 120  # against a mix in float64
A, B = 0.70711, 0.5  # -3 dB, and -3 dB twice

THREE = ("FL", "FR", "FC"), [[1, 0, A], [0, 1, A]]
FIVE = ("FL", "FR", "FC", "BL", "BR"), [[1, 0, A, A, 0], [0, 1, A, 0, A]]
FIVE_ONE = ("FL", "FR", "FC", "LFE", "BL", "BR"), [[1, 0, A, 0, A, 0], [0, 1, A, 0, 0, A]]
SIDE = ("FL", "FR", "FC", "LFE", "SL", "SR"), FIVE_ONE[1]
SEVEN_ONE = (
    ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
    [[1, 0, A, 0, A, 0, A, 0], [0, 1, A, 0, 0, A, 0, A]],
)
WIDE = ("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC"), [[1, 0, A, 0, A, 0, 1, 0], [0, 1, A, 0, 0, A, 0, 1]]
MASK_WITHOUT_A_NAME = ("FL", "FR", "LFE", "BC"), [[1, 0, 0, B], [0, 1, 0, B]]
WITHOUT_A_FRONT = ("FC", "LFE", "BC"), [[A, 0, B], [A, 0, B]]
HEIGHTS = ("FL", "FR", "TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR"), [[1, 0, B, A, B, 0, A, B, 0], [0, 1, B, 0, B, A, 0, B, A]]
CENTRE_FIRST = ("FC", "FL", "FR", "SL", "SR", "LFE"), [[A, 1, 0, A, 0, 0], [A, 0, 1, 0, A, 0]]
CENTRE_SECOND = ("FL", "FC", "FR", "BC"), [[1, A, 0, B], [0, A, 1, B]]
BACKWARDS = ("LFE2", "WR", "WL", "BR", "FR", "FL"), [[0, 0, A, 0, 0, 1], [0, A, 0, A, 1, 0]]
WITH_A_STEREO_MIX = ("FC", "DL", "FL", "DR", "FR"), [[0, 1, 0, 0, 0], [0, 0, 0, 1, 0]]
RIGHT_FIRST = ("FR", "FL"), [[0, 1], [1, 0]]
STEREO = ("FL", "FR"), [[1, 0], [0, 1]]
MASKED = [STEREO, THREE, FIVE, FIVE_ONE, SIDE, SEVEN_ONE, WIDE, MASK_WITHOUT_A_NAME, WITHOUT_A_FRONT, HEIGHTS]
LABELLED = [THREE, FIVE_ONE, CENTRE_FIRST, CENTRE_SECOND, BACKWARDS, WITH_A_STEREO_MIX, RIGHT_FIRST, STEREO]


def decoded(content, **options):
    pieces, found = decoding.decode(io.BytesIO(content), **{"rate_hz": RATE_HZ} | options)
    return np.concatenate(list(pieces), axis=1), found


def check(content, expected, *, within_db=LOSSLESS_DB, absent=ABSENT):
    channels = len(expected[0])
    wave, found = decoded(content)
    assert found.channels == channels
    assert decoding.probe(io.BytesIO(content)).channels == channels
    heard = gains(wave, channels)
    for gain, wanted in zip(heard.ravel(), np.ravel(expected), strict=True):
        if wanted:
            assert abs(20 * np.log10(gain / wanted)) < within_db, (heard, expected)
        else:
            assert gain < absent, (heard, expected)


@pytest.mark.parametrize("layout", MASKED, ids=lambda layout: "+".join(layout[0]))
@pytest.mark.parametrize("rate_hz", [RATE_HZ, 48_000])
def test_each_channel_of_a_wav_with_a_mask_has_its_gain(layout, rate_hz):
    names, expected = layout
    check(wav(tones(len(names), rate_hz=rate_hz), names, rate_hz=rate_hz), expected)


@pytest.mark.parametrize("layout", LABELLED, ids=lambda layout: "+".join(layout[0]))
@pytest.mark.parametrize("rate_hz", [RATE_HZ, 48_000])
def test_each_channel_of_a_caf_has_its_gain_in_whatever_order_they_come(layout, rate_hz):
    names, expected = layout
    check(caf(tones(len(names), rate_hz=rate_hz), names, rate_hz=rate_hz), expected)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        (121, FIVE_ONE[1]),  # L R C LFE Ls Rs
        (122, [[1, 0, A, 0, A, 0], [0, 1, 0, A, A, 0]]),  # L R Ls Rs C LFE
        (123, [[1, A, 0, A, 0, 0], [0, A, 1, 0, A, 0]]),  # L C R Ls Rs LFE
        (124, CENTRE_FIRST[1]),  # C L R Ls Rs LFE
    ],
)
def test_each_channel_of_a_quicktime_file_has_its_gain_by_the_layout_tag(tag, expected):
    check(mov(tones(6), tag << 16 | 6), expected)


@pytest.mark.parametrize(
    ("container", "encoder", "samples", "layout", "expected"),
    [
        ("flac", "flac", "s16", "3.0", THREE[1]),
        ("flac", "flac", "s16", "5.1", FIVE_ONE[1]),
        ("flac", "flac", "s32", "5.1(side)", SIDE[1]),
        ("flac", "flac", "s32", "7.1", SEVEN_ONE[1]),
        ("wv", "wavpack", "fltp", "5.1", FIVE_ONE[1]),
        ("wv", "wavpack", "s16p", "7.1", SEVEN_ONE[1]),
        ("ipod", "alac", "s16p", "5.1", FIVE_ONE[1]),
        ("tta", "tta", "s16", "5.1", FIVE_ONE[1]),
        ("tta", "tta", "s16", "3.0", THREE[1]),  # it holds no names
        ("tta", "tta", "s16", "7.1", SEVEN_ONE[1]),
        ("matroska", "tta", "s16", "3.0", THREE[1]),
        ("matroska", "pcm_s24le", "s32", "5.1", FIVE_ONE[1]),
        ("aiff", "pcm_s16be", "s16", "5.1", FIVE_ONE[1]),
        ("wav", "pcm_f64le", "dbl", "7.1", SEVEN_ONE[1]),
    ],
)
def test_each_channel_of_a_lossless_codec_has_its_gain(container, encoder, samples, layout, expected):
    check(by_ffmpeg(tones(len(expected[0])), container, encoder, layout, samples=samples), expected)


@pytest.mark.parametrize(
    ("container", "encoder", "layout", "bitrate"),
    [
        ("ac3", "ac3", "5.1(side)", 640_000),
        ("matroska", "eac3", "5.1(side)", 640_000),
        ("ogg", "libopus", "5.1", 512_000),
        ("ipod", "aac", "5.1", 512_000),
    ],
)
def test_each_channel_of_a_lossy_codec_has_its_gain(container, encoder, layout, bitrate):
    content = by_ffmpeg(tones(6, rate_hz=48_000), container, encoder, layout, rate_hz=48_000, bitrate=bitrate)
    check(content, FIVE_ONE[1], **LOSSY)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (2, STEREO[1]),
        (3, THREE[1]),
        (4, [[1, 0, A, 0], [0, 1, 0, A]]),
        (5, FIVE[1]),
        (6, FIVE_ONE[1]),
        (7, [[1, 0, A, 0, B, A, 0], [0, 1, A, 0, B, 0, A]]),
        (8, SEVEN_ONE[1]),
        (9, np.eye(2, 9)),
        (16, np.eye(2, 16)),
    ],
)
def test_channels_without_names_are_taken_in_the_order_of_wave_and_flac_or_else_the_first_two(channels, expected):
    check(wav(tones(channels), None), expected)


def test_an_ambisonic_file_becomes_two_cardioids_to_the_left_and_to_the_right():
    how = {"rate_hz": 48_000, "bitrate": 510_000, "options": {"mapping_family": "2"}}
    left = tones(4, rate_hz=48_000)[:1] * [[1], [1], [0], [0]]  # a source at the left: W and Y alike
    wave, found = decoded(by_ffmpeg(left.astype(np.float32), "ogg", "libopus", "quad", **how))
    assert found.channels == 4
    assert gains(wave, 1) == pytest.approx(np.array([[1], [0]]), abs=ABSENT_LOSSY)
    check(by_ffmpeg(tones(4, rate_hz=48_000), "ogg", "libopus", "quad", **how), [[B, B, 0, 0], [B, B, 0, 0]], **LOSSY)


def test_a_channel_without_a_place_is_heard_in_the_middle_and_an_unused_one_is_not():
    check(caf(tones(5), ("FL", "FR", "UNK", "FC", "UNK")), [[1, 0, B, A, B], [0, 1, B, A, B]])
    assert downmix.matrix(("FL", "FR", "UNSD"), "itu").tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("names", [("LFE", "LFE2", "LFE"), ("UNK", "UNK", "UNK"), ("NONE",) * 3])
def test_where_no_name_is_heard_the_number_of_channels_decides(names):
    assert np.allclose(downmix.matrix(names, "itu"), THREE[1], atol=1e-5)


@pytest.mark.parametrize("names", [("FC",), ("FL", "FR"), ("SL", "SR"), ("FC", "LFE"), ("NONE", "NONE"), ("NONE",) * 20])
def test_mono_and_stereo_and_what_has_no_order_at_all_are_not_mixed(names):
    assert downmix.matrix(names, "itu") is None


@pytest.mark.parametrize(("names", "container"), [(FIVE_ONE[0], wav), (SEVEN_ONE[0], wav), (CENTRE_FIRST[0], caf)])
@pytest.mark.parametrize("rate_hz", [RATE_HZ, 48_000, 8000])
def test_first_two_takes_the_first_two_channels_as_they_are(names, container, rate_hz):
    wave = noise(rate_hz, channels=len(names))
    found, _ = decoded(container(wave, names, rate_hz=rate_hz), downmix="first-two")
    expected, _ = decoded(wav(wave[:2], STEREO[0], rate_hz=rate_hz), downmix="first-two")
    assert np.array_equal(found, expected)
    if rate_hz == RATE_HZ:
        assert np.array_equal(found, wave[:2])


@pytest.mark.parametrize("how", ["itu", "first-two"])
@pytest.mark.parametrize("channels", [1, 2])
def test_mono_and_stereo_are_the_same_with_either_downmix(how, channels):
    wave = noise(RATE_HZ, channels=channels)
    assert np.array_equal(decoded(wav(wave, None), downmix=how)[0], np.repeat(wave, 3 - channels, axis=0))


@pytest.mark.parametrize("layout", [FIVE_ONE, SEVEN_ONE, WIDE], ids=lambda layout: "+".join(layout[0]))
def test_a_mix_is_exact(layout):
    names, wave = layout[0], noise(3 * RATE_HZ, channels=len(layout[0]), level=0.3)
    weights = np.array([[downmix.GAINS[name][side] for name in names] for side in (0, 1)])
    assert snr_db(weights @ wave.astype(np.float64), decoded(wav(wave, names))[0]) > EXACT_DB


def test_a_mix_does_not_depend_on_how_the_wave_is_cut():
    wave, weights = noise(10_007, channels=6), downmix.matrix(FIVE_ONE[0], "itu")
    cuts = [0, 1, 2, 5, 4096, 4099, 10_006, 10_007]
    pieces = [downmix.mixed(wave[:, begin:end], weights) for begin, end in itertools.pairwise(cuts)]
    assert np.array_equal(np.concatenate(pieces, axis=1), downmix.mixed(wave, weights))
    content = wav(wave, FIVE_ONE[0], rate_hz=48_000)
    whole, begin = decoded(content)[0], round(0.1 * RATE_HZ)
    assert np.array_equal(decoded(content, offset_s=0.1)[0], whole[:, begin:])


def test_loud_channels_together_go_beyond_full_scale_and_are_not_turned_down():
    wave = np.full((6, 1000), 0.9, np.float32)
    assert decoded(wav(wave, FIVE_ONE[0]))[0].max() == pytest.approx(0.9 * (1 + 2 * A), abs=1e-4)


MANY_TIMES = """
import io, sys
from pathlib import Path
from sep_batch.pipeline.audio import decoding
contents = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
for number in range(int(sys.argv[2])):
    for content in contents:
        decoding.probe(io.BytesIO(content))
        samples = sum(p.shape[1] for p in decoding.decode(io.BytesIO(content), rate_hz=(44_100, 48_000)[number % 2])[0])
        assert samples in (4410, 4800), samples
"""
CHECKS = "/lib/x86_64-linux-gnu/libc_malloc_debug.so.0"  # glibc's, where it is there


def test_channel_orders_of_their_own_leave_the_heap_whole(tmp_path):
    """Hundreds of times, in a process whose malloc overwrites what is freed and aborts where something is freed twice."""
    for name, content in {
        "caf": caf(tones(6, seconds=0.1), CENTRE_FIRST[0]),
        "mov": mov(tones(6, seconds=0.1), 124 << 16 | 6),
        "two": caf(tones(2, seconds=0.1), RIGHT_FIRST[0]),
        "mask": wav(tones(4, seconds=0.1), MASK_WITHOUT_A_NAME[0]),
    }.items():
        (tmp_path / name).write_bytes(content)
    checks = {"MALLOC_PERTURB_": "165", "MALLOC_CHECK_": "3"} | ({"LD_PRELOAD": CHECKS} if os.path.exists(CHECKS) else {})
    subprocess.run([sys.executable, "-c", MANY_TIMES, str(tmp_path), "60"], check=True, env=os.environ | checks)


def test_a_frame_whose_decoder_gave_it_an_order_of_its_own_is_refused(monkeypatch):
    """No decoder of a file that we can write does; an xHE-AAC one may."""
    monkeypatch.setattr(downmix, "is_custom", lambda names: True)
    with pytest.raises(errors.UnsupportedFormat, match="pcm_f32le: unsupported channel order \\(FL FR FC\\)"):
        decoded(wav(tones(3, seconds=0.1), THREE[0]))


@pytest.mark.parametrize(
    ("names", "native", "custom"),
    [
        (("FC",), True, False),
        (SEVEN_ONE[0], True, False),
        (CENTRE_FIRST[0], False, True),
        (("FL", "FL"), False, True),
        (("FL", "UNK"), False, True),
        (("NONE", "NONE"), False, False),
        (("AMBI0", "AMBI1"), False, False),
        ((), False, False),
    ],
)
def test_an_order_is_ffmpegs_own_or_the_files_or_none(names, native, custom):
    assert (downmix.is_native(names), downmix.is_custom(names)) == (native, custom)


def test_the_context_is_left_without_an_order_that_it_would_have_to_free():
    import av

    from sep_batch.pipeline.audio.streams import taken_channels

    with av.open(io.BytesIO(caf(tones(6, seconds=0.1), CENTRE_FIRST[0]))) as container:
        codec = container.streams.audio[0].codec_context
        assert taken_channels(codec) == (6, CENTRE_FIRST[0])
        assert codec.layout.name == "6 channels"
    with av.open(io.BytesIO(wav(tones(4, seconds=0.1), MASK_WITHOUT_A_NAME[0]))) as container:
        codec = container.streams.audio[0].codec_context
        assert taken_channels(codec) == (4, MASK_WITHOUT_A_NAME[0])
        assert codec.layout == av.AudioLayout("FL+FR+LFE+BC")


@pytest.mark.parametrize("channels", [65, 4_000_000_000, 2_000_000_000])
def test_a_header_of_ever_so_many_channels_is_refused_at_once(channels):
    content = bytearray(caf(tones(3, seconds=0.1), THREE[0]))
    place = content.index(b"desc") + 12 + 24  # after rate, codec, flags, bytes and frames a packet
    content[place : place + 4] = channels.to_bytes(4, "big")
    content[content.index(b"chan") : content.index(b"chan") + 4] = b"free"
    with pytest.raises((errors.UnsupportedFormat, errors.DecodeError)):
        decoded(bytes(content))


def test_the_docs_name_every_channel_with_its_gain():
    text = (ROOT / "docs" / "reference" / "sources.md").read_text()
    table = text[text.index("<!-- gains -->") : text.index("<!-- /gains -->")]
    decibels = {1: "0 dB in its own", A: "-3 dB", B: "-6 dB", 0: "left out"}
    for name, (left, right) in downmix.GAINS.items():
        (line,) = [line for line in table.splitlines() if f"`{name}`" in line]
        gain = next(words for value, words in decibels.items() if max(left, right) == pytest.approx(value, abs=1e-5))
        assert line.split("|")[2].strip().startswith(gain), name
        if left == right and left:
            assert "in both" in line
