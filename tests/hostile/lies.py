"""Headers that lie, of every container: file name, what has to become of it, how it is made.

What has to become of it is an error class, or `ok` and which of `truncated`, `skipped` and `nonfinite` its row says beside it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
from craft import (
    box,
    box_place,
    element,
    flac_block,
    floats,
    form,
    id3,
    matroska,
    mp4,
    ogg_page,
    ogg_pages,
    packed_text,
    patched,
    pcm,
    riff,
    silent_flac,
    stream_info,
    table,
    wav,
    whole,
    xing,
)
from signals import noise

Table = dict[str, tuple[str, Callable[[], bytes]]]


def _spoilt(value: float, *, every: int = 100) -> bytes:
    wave = noise(20_000)
    wave[:, ::every] = value
    return floats(wave)


WAV: Table = {  # WAV
    "wav_data_size_0.wav": ("ok", lambda: wav(data_size=0)),
    "wav_data_size_huge.wav": ("ok", lambda: wav(data_size=0x7FFFFFF0)),
    "wav_data_size_open.wav": ("ok", lambda: wav(data_size=0xFFFFFFFF, size=0xFFFFFFFF)),
    "wav_data_size_odd.wav": ("ok", lambda: wav(data_size=len(pcm()) - 1)),
    "wav_riff_size_0.wav": ("ok", lambda: wav(size=0)),
    "wav_riff_size_huge.wav": ("ok truncated", lambda: wav(size=0x6FFFFFF0)),
    "wav_riff_size_of_a_recorder.wav": ("ok", lambda: wav(size=0x7FFFFFF0)),
    "wav_align_0.wav": ("ok", lambda: wav(form(align=0))),
    "wav_align_1.wav": ("ok", lambda: wav(form(align=1))),
    "wav_align_65535.wav": ("ok", lambda: wav(form(align=65_535))),
    "wav_channels_0.wav": ("decode_error", lambda: wav(form(channels=0))),
    "wav_channels_64.wav": ("ok", lambda: wav(form(channels=64))),
    "wav_channels_65.wav": ("unsupported_format", lambda: wav(form(channels=65))),
    "wav_channels_255.wav": ("unsupported_format", lambda: wav(form(channels=255))),
    "wav_channels_65535.wav": ("decode_error", lambda: wav(form(channels=65_535))),
    "wav_rate_0.wav": ("decode_error", lambda: wav(form(rate_hz=0))),
    "wav_rate_1.wav": ("unsupported_format", lambda: wav(form(rate_hz=1))),
    "wav_rate_999.wav": ("unsupported_format", lambda: wav(form(rate_hz=999))),
    "wav_rate_768001.wav": ("unsupported_format", lambda: wav(form(rate_hz=768_001))),
    "wav_rate_2e9.wav": ("unsupported_format", lambda: wav(form(rate_hz=2_000_000_000))),
    "wav_rate_4e9.wav": ("decode_error", lambda: wav(form(rate_hz=4_000_000_000))),
    "wav_bits_0.wav": ("unsupported_format", lambda: wav(form(bits=0))),
    "wav_bits_7.wav": ("ok", lambda: wav(form(bits=7))),
    "wav_bits_64.wav": ("ok", lambda: wav(form(bits=64))),
    "wav_bits_65535.wav": ("unsupported_format", lambda: wav(form(bits=65_535))),
    "wav_tag_unknown.wav": ("unsupported_format", lambda: wav(form(tag=0x9999))),
    "wav_tag_mp3.wav": ("decode_error", lambda: wav(form(tag=0x55))),
    "wav_tag_adpcm.wav": ("decode_error", lambda: wav(form(tag=2, bits=4))),
    "wav_extensible_of_noise.wav": ("unsupported_format", lambda: wav(form(tag=0xFFFE, more=b"\x16\0" + bytes(range(22))))),
    "wav_extension_lies.wav": ("ok", lambda: wav(form(more=b"\xff\xff"))),
    "wav_format_missing.wav": ("decode_error", lambda: wav(riff(b"junk", b"x"))),
    "wav_format_after_data.wav": ("ok", lambda: riff(b"RIFF", b"WAVE" + riff(b"data", pcm()) + form())),
    "wav_format_twice.wav": ("ok", lambda: wav(form(), form(channels=60, rate_hz=8_000))),
    "wav_format_huge.wav": ("decode_error", lambda: wav(riff(b"fmt ", form()[8:], 0x7FFFFFF0))),
    "wav_data_missing.wav": ("decode_error", lambda: riff(b"RIFF", b"WAVE" + form())),
    "wav_list_lies.wav": ("decode_error", lambda: wav(form(), riff(b"LIST", b"INFOIART", 0x7FFFFFF0))),
    "wav_blocks_30000.wav": ("ok", lambda: wav(form(), riff(b"junk", b"") * 30_000)),
    "wav_rf64_without_ds64.wav": ("decode_error", lambda: wav(magic=b"RF64", size=0xFFFFFFFF, data_size=0xFFFFFFFF)),
    "wav_rf64_lies.wav": (
        "too_long",
        lambda: wav(
            riff(b"ds64", struct.pack("<QQQI", 2**62, 2**62, 2**60, 0)),
            form(),
            magic=b"RF64",
            size=2**32 - 1,
            data_size=2**32 - 1,
        ),
    ),
    "wav_rf64_table_lies.wav": (
        "ok",
        lambda: wav(
            riff(b"ds64", struct.pack("<QQQI", 90_000, 88_200, 22_050, 2**32 - 1)), form(), magic=b"RF64", size=2**32 - 1
        ),
    ),
    "wav_nan_some.wav": ("ok nonfinite", lambda: _spoilt(np.nan)),
    "wav_nan_all.wav": ("nonfinite", lambda: _spoilt(np.nan, every=1)),
    "wav_inf_some.wav": ("ok nonfinite", lambda: _spoilt(-np.inf)),
    "wav_inf_all.wav": ("nonfinite", lambda: _spoilt(np.inf, every=1)),
    "wav_1e38_some.wav": ("ok nonfinite", lambda: _spoilt(3e38)),
    "wav_1e38_all.wav": ("nonfinite", lambda: _spoilt(-3e38, every=1)),
    "wav_1e-40_all.wav": ("ok", lambda: _spoilt(1e-40, every=1)),
}


def _flac(info: bytes, *blocks: bytes) -> bytes:
    """Return a FLAC of honest frames, whose metadata are these."""
    honest = whole("flac")
    frames = honest[honest.index(b"\xff\xf8", 42) :]
    return b"fLaC" + flac_block(0, info, last=not blocks) + b"".join(blocks) + frames


HONEST_INFO = partial(stream_info, 48_000, rate_hz=48_000, block=(4608, 4608))

FLAC: Table = {
    "flac_declared_30_h.flac": ("too_long", lambda: silent_flac(10, declared=30 * 3600 * 44_100)),
    "flac_declared_23_h.flac": ("damaged", lambda: silent_flac(10, declared=23 * 3600 * 44_100)),
    "flac_declared_nothing.flac": ("ok", lambda: silent_flac(10, declared=0)),
    "flac_declared_too_few.flac": ("ok", lambda: silent_flac(10, declared=1)),
    "flac_20_minutes_of_silence.flac": ("ok", lambda: silent_flac(1200)),
    "flac_info_rate_0.flac": ("ok", lambda: _flac(stream_info(48_000, rate_hz=0))),
    "flac_info_rate_1.flac": ("damaged", lambda: _flac(stream_info(48_000, rate_hz=1))),
    "flac_info_8_channels.flac": ("ok", lambda: _flac(HONEST_INFO(channels=8))),
    "flac_info_1_bit.flac": ("decode_error", lambda: _flac(HONEST_INFO(bits=1))),
    "flac_info_blocks_of_0.flac": ("decode_error", lambda: _flac(stream_info(48_000, rate_hz=48_000, block=(0, 0)))),
    "flac_info_blocks_upside_down.flac": ("decode_error", lambda: _flac(stream_info(48_000, rate_hz=48_000, block=(65_535, 16)))),
    "flac_info_short.flac": ("decode_error", lambda: _flac(HONEST_INFO()[:20])),
    "flac_info_missing.flac": ("decode_error", lambda: b"fLaC" + flac_block(1, bytes(100), last=True) + whole("flac")[8192:]),
    "flac_never_last.flac": ("empty_audio", lambda: _flac(HONEST_INFO(), flac_block(1, bytes(10)))),
    "flac_picture_lies.flac": ("decode_error", lambda: _flac(HONEST_INFO(), flac_block(6, bytes(50), last=True, size=2**24 - 1))),
    "flac_picture_length_lies.flac": (
        "ok",
        lambda: _flac(HONEST_INFO(), flac_block(6, struct.pack(">II", 3, 2**32 - 1) + bytes(50), last=True)),
    ),
    "flac_comments_lie.flac": ("ok", lambda: _flac(HONEST_INFO(), flac_block(4, b"\xff" * 40, last=True))),
    "flac_seek_table_lies.flac": ("ok", lambda: _flac(HONEST_INFO(), flac_block(3, b"\x7f" * 180, last=True))),
    "flac_frames_of_noise.flac": ("decode_error", lambda: whole("flac")[:8300] + np.random.default_rng(1).bytes(40_000)),
    "flac_hole.flac": ("ok truncated", lambda: patched(whole("flac"), 60_000, bytes(20_000))),
    "flac_header_only.flac": ("empty_audio", lambda: b"fLaC" + flac_block(0, HONEST_INFO(), last=True)),
}

MP3: Table = {
    "mp3_sync_only.mp3": ("decode_error", lambda: b"\xff\xfb\x90\x64"),
    "mp3_sync_1000_times.mp3": ("decode_error", lambda: b"\xff\xfb\x90\x64" * 1000),
    "mp3_id3_only.mp3": ("decode_error", lambda: id3(bytes(500))),
    "mp3_id3_longer_than_file.mp3": ("decode_error", lambda: id3(whole("mp3"), size=2**28 - 1)),
    "mp3_id3_size_0.mp3": ("ok", lambda: id3(b"TIT2" + bytes(60), size=0) + whole("mp3")),
    "mp3_id3_frame_lies.mp3": ("ok", lambda: id3(b"TIT2\x7f\x7f\x7f\x7f\0\0\3abc") + whole("mp3")),
    "mp3_id3_unpacks_to_200_mb.mp3": (
        "ok",
        lambda: id3(packed_text(200 << 20, zlib.compress(bytes(1 << 20)) * 8)) + whole("mp3"),
    ),
    "mp3_id3_before_a_playlist.mp3": (
        "decode_error",
        lambda: id3(bytes(20)) + b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nx.ts\n",
    ),
    "mp3_id3_before_a_flac.mp3": ("ok", lambda: id3(bytes(20)) + whole("flac")),
    "mp3_declared_100_h.mp3": ("too_long", lambda: xing(2**24) + whole("mp3")),
    "mp3_declared_20_h.mp3": ("damaged", lambda: xing(2**21) + whole("mp3")),
    "mp3_declared_1_frame.mp3": ("ok", lambda: xing(1) + whole("mp3")),
    "mp3_noise_within.mp3": ("ok truncated skipped", lambda: patched(whole("mp3"), 6000, np.random.default_rng(2).bytes(4000))),
    "mp3_then_zeros.mp3": ("ok", lambda: whole("mp3") + bytes(1 << 20)),
    "mp3_of_two_rates.mp3": ("ok", lambda: whole("mp3") + whole("mp2")),
}


def _opus_head(place: int, new: bytes) -> bytes:
    first, *rest = ogg_pages(whole("opus"))
    return ogg_page(first, 28 + place, new) + b"".join(rest)


def _ogg_page_again(place: int, new: bytes, number: int) -> bytes:
    pages = ogg_pages(whole("opus"))
    pages[number] = ogg_page(pages[number], place, new)
    return b"".join(pages)


OGG: Table = {
    "ogg_sign_only.ogg": ("decode_error", lambda: b"OggS"),
    "ogg_checksum_wrong.ogg": ("ok truncated", lambda: patched(whole("ogg"), -30_000, b"\0\1\2\3")),
    "ogg_every_checksum_wrong.ogg": (
        "decode_error",
        lambda: b"".join(patched(page, 22, bytes(4)) for page in ogg_pages(whole("ogg"))),
    ),
    "ogg_page_lost.ogg": ("ok truncated", lambda: b"".join(ogg_pages(whole("ogg"))[:3] + ogg_pages(whole("ogg"))[5:])),
    "ogg_headers_lost.ogg": ("decode_error", lambda: b"".join(ogg_pages(whole("ogg"))[2:])),
    "ogg_no_headers_opus.opus": ("decode_error", lambda: b"".join(ogg_pages(whole("opus"))[2:])),
    "ogg_granule_huge.opus": ("too_long", lambda: _ogg_page_again(6, struct.pack("<q", 2**62), -1)),
    "ogg_granule_negative.opus": ("ok skipped", lambda: _ogg_page_again(6, struct.pack("<q", -5), -1)),
    "ogg_granule_30_h.opus": ("too_long", lambda: _ogg_page_again(6, struct.pack("<q", 30 * 3600 * 48_000), -1)),
    "ogg_version_9.opus": ("damaged", lambda: _ogg_page_again(4, b"\x09", 2)),
    "ogg_table_lies.opus": ("damaged", lambda: _ogg_page_again(26, b"\xff", 2)),
    "opus_channels_0.opus": ("decode_error", lambda: _opus_head(9, b"\0")),
    "opus_channels_255.opus": ("decode_error", lambda: _opus_head(9, b"\xff")),
    "opus_preskip_65535.opus": ("damaged", lambda: _opus_head(10, b"\xff\xff")),
    "opus_gain_max.opus": ("ok", lambda: _opus_head(16, b"\xff\x7f")),
    "opus_mapping_255.opus": ("decode_error", lambda: _opus_head(18, b"\xff")),
    "ogg_two_streams.ogg": ("ok", lambda: whole("opus") + whole("ogg")),
}

FTYP = box(b"ftyp", b"M4A \0\0\0\0")


def _nested(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = box(b"moov", content)
    return FTYP + content


MP4: Table = {
    "mp4_honest.m4a": ("ok", mp4),
    "mp4_moov_missing.m4a": ("decode_error", lambda: FTYP + box(b"mdat", pcm())),
    "mp4_ftyp_only.m4a": ("decode_error", lambda: FTYP),
    "mp4_stts_absurd.m4a": ("decode_error", lambda: mp4(stts=table(2**28, 1, 1))),
    "mp4_stts_many.m4a": ("ok", lambda: mp4(stts=table(1, 2**32 - 1, 2**31 - 1))),
    "mp4_stts_long.m4a": ("ok", lambda: mp4(stts=table(1, 22_050, 2**31 - 1))),
    "mp4_stts_negative.m4a": ("ok", lambda: mp4(stts=table(1, 22_050, 2**32 - 5))),
    "mp4_stsz_many.m4a": ("ok", lambda: mp4(stsz=table(4, 2**31 - 1))),
    "mp4_stsz_many_and_0.m4a": ("decode_error", lambda: mp4(stsz=table(0, 2**28))),
    "mp4_stsz_huge.m4a": ("ok", lambda: mp4(stsz=table(2**31 - 1, 22_050))),
    "mp4_stsc_many.m4a": ("ok", lambda: mp4(stsc=table(1, 1, 2**31 - 1, 1))),
    "mp4_stsc_0.m4a": ("damaged", lambda: mp4(stsc=table(1, 1, 0, 1))),
    "mp4_stco_beyond_end.m4a": ("empty_audio", lambda: mp4(stco=table(1, 2**32 - 1))),
    "mp4_stco_many.m4a": ("ok", lambda: mp4(stco=table(2**28, 32))),
    "mp4_timescale_0.m4a": ("damaged", lambda: mp4(timescale=0)),
    "mp4_timescale_1.m4a": ("damaged", lambda: mp4(timescale=1)),
    "mp4_rate_0.m4a": ("ok", lambda: mp4(rate_hz=0)),
    "mp4_channels_0.m4a": ("decode_error", lambda: mp4(channels=0)),
    "mp4_channels_65535.m4a": ("decode_error", lambda: mp4(channels=65_535)),
    "mp4_codec_unknown.m4a": ("unsupported_format", lambda: mp4(entry=b"zzzz")),
    "mp4_codec_of_a_film.m4a": ("unsupported_format", lambda: mp4(entry=b"avc1")),
    "mp4_alac_without_cookie.m4a": ("decode_error", lambda: mp4(entry=b"alac")),
    "mp4_alac_frames_of_16_million.m4a": (
        "decode_error",
        lambda: mp4(
            entry=b"alac",
            more=box(b"alac", table() + struct.pack(">IBBBBBBHIII", 2**24, 0, 16, 40, 10, 14, 2, 255, 0, 0, 44_100)),
        ),
    ),
    "mp4_box_size_0.m4a": ("unsupported_format", lambda: FTYP + box(b"moov", bytes(100), size=0)),
    "mp4_box_size_2.m4a": ("decode_error", lambda: FTYP + box(b"moov", bytes(100), size=2)),
    "mp4_box_size_64_bit.m4a": ("unsupported_format", lambda: FTYP + struct.pack(">I4sQ", 1, b"moov", 2**63 - 1) + bytes(100)),
    "mp4_moov_in_moov_5000_times.m4a": ("decode_error", lambda: _nested(5000)),
    "mp4_moov_unpacks_to_2_gb.m4a": (
        "decode_error",
        lambda: (
            FTYP
            + box(
                b"moov",
                box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", struct.pack(">I", 2**31 - 200) + zlib.compress(bytes(1 << 22)))),
            )
        ),
    ),
    "mp4_data_first_and_cut.m4a": ("unsupported_format", lambda: mp4()[:-200]),
    "mp4_entries_absurd.m4a": ("decode_error", lambda: patched(mp4(), box_place(mp4(), b"stsd"), table(2**32 - 1))),
    "mp4_aac_of_noise.m4a": (
        "damaged",
        lambda: patched(whole("m4a"), box_place(whole("m4a"), b"mdat"), np.random.default_rng(3).bytes(9000)),
    ),
}

MATROSKA: Table = {
    "mka_honest.mka": ("ok", matroska),
    "mka_sign_only.mka": ("decode_error", lambda: b"\x1aE\xdf\xa3"),
    "mka_rate_0.mka": ("decode_error", lambda: matroska(rate=bytes(8))),
    "mka_rate_nan.mka": ("ok", lambda: matroska(rate=struct.pack(">d", np.nan))),
    "mka_rate_1e300.mka": ("ok", lambda: matroska(rate=struct.pack(">d", 1e300))),
    "mka_rate_negative.mka": ("ok", lambda: matroska(rate=struct.pack(">d", -44_100.0))),
    "mka_channels_0.mka": ("decode_error", lambda: matroska(channels=b"\0")),
    "mka_channels_2e32.mka": ("decode_error", lambda: matroska(channels=b"\xff\xff\xff\xff")),
    "mka_codec_unknown.mka": ("unsupported_format", lambda: matroska(codec=b"A_NOTHING")),
    "mka_size_lies.mka": ("ok", lambda: matroska(size=2**50)),
    "mka_private_lies.mka": ("ok", lambda: matroska(more=element("63A2", bytes(30), size=2**31))),
    "mka_lace_lies.mka": ("empty_audio", lambda: matroska(block=b"\x81\0\0\x86\xff\xff\xff\xff" + pcm())),
    "mka_block_unpacks.mka": (
        "empty_audio",
        lambda: matroska(
            more=element("6D80", element("6240", element("5034", element("4254", b"\0")))),
            block=b"\x81\0\0\x80" + zlib.compress(bytes(100_000_000)),
        ),
    ),
    "mka_no_track.mka": ("decode_error", lambda: matroska()[:60] + bytes(200)),
    "webm_opus_private_of_noise.webm": (
        "decode_error",
        lambda: patched(whole("webm"), whole("webm").index(b"OpusHead"), b"NotsHead\xff\xff"),
    ),
}


def _aiff(rate: bytes, *, channels: int = 2, samples: int = 22_050, bits: int = 16, offset: int = 0) -> bytes:
    described = struct.pack(">hIh", channels, samples, bits) + rate
    sound = struct.pack(">II", offset, 0) + pcm()
    body = b"AIFFCOMM" + struct.pack(">I", 18) + described + b"SSND" + struct.pack(">I", len(sound)) + sound
    return b"FORM" + struct.pack(">I", len(body)) + body


HZ_44100 = bytes.fromhex("400eac44000000000000")


def _au(*, offset: int = 24, size: int = 2**32 - 1, encoding: int = 3, rate_hz: int = 44_100, channels: int = 2) -> bytes:
    return b".snd" + struct.pack(">IIIII", offset, size, encoding, rate_hz, channels) + pcm()


def _caf(*, rate: float = 44_100.0, channels: int = 2, bytes_a_packet: int = 4, frames_a_packet: int = 1) -> bytes:
    described = struct.pack(">d4sIIIII", rate, b"lpcm", 2, bytes_a_packet, frames_a_packet, channels, 16)
    desc = b"desc" + struct.pack(">q", len(described)) + described
    return b"caff\0\1\0\0" + desc + b"data" + struct.pack(">q", -1) + bytes(4) + pcm()


OTHERS: Table = {
    "aiff_honest.aiff": ("ok", lambda: _aiff(HZ_44100)),
    "aiff_rate_0.aiff": ("decode_error", lambda: _aiff(bytes(10))),
    "aiff_rate_inf.aiff": ("decode_error", lambda: _aiff(b"\x7f\xff" + bytes(8))),
    "aiff_rate_huge.aiff": ("decode_error", lambda: _aiff(b"\x7f\xfe" + b"\xff" * 8)),
    "aiff_channels_0.aiff": ("decode_error", lambda: _aiff(HZ_44100, channels=0)),
    "aiff_channels_negative.aiff": ("decode_error", lambda: _aiff(HZ_44100, channels=-1)),
    "aiff_samples_lie.aiff": ("decode_error", lambda: _aiff(HZ_44100, samples=2**32 - 1)),
    "aiff_bits_0.aiff": ("ok", lambda: _aiff(HZ_44100, bits=0)),
    "aiff_offset_lies.aiff": ("empty_audio", lambda: _aiff(HZ_44100, offset=2**32 - 1)),
    "au_offset_lies.au": ("ok", lambda: _au(offset=2**32 - 1)),
    "au_encoding_unknown.au": ("decode_error", lambda: _au(encoding=999)),
    "au_channels_0.au": ("decode_error", lambda: _au(channels=0)),
    "au_channels_2e31.au": ("decode_error", lambda: _au(channels=2**31)),
    "au_rate_0.au": ("decode_error", lambda: _au(rate_hz=0)),
    "caf_honest.caf": ("ok", _caf),
    "caf_rate_nan.caf": ("decode_error", lambda: _caf(rate=np.nan)),
    "caf_rate_1e300.caf": ("unsupported_format", lambda: _caf(rate=1e300)),
    "caf_channels_2e31.caf": ("decode_error", lambda: _caf(channels=2**31)),
    "caf_packets_huge.caf": ("decode_error", lambda: _caf(bytes_a_packet=2**31 - 1)),
    "caf_packets_of_many_frames.caf": ("ok", lambda: _caf(frames_a_packet=2**31 - 1)),
    "tta_seek_table_huge.tta": (
        "decode_error",
        lambda: b"TTA1" + struct.pack("<HHHIII", 1, 2, 16, 1000, 2**32 - 1, 0) + bytes(100),
    ),
    "tta_rate_0.tta": ("decode_error", lambda: b"TTA1" + struct.pack("<HHHIII", 1, 2, 16, 0, 44_100, 0) + bytes(100)),
    "wv_samples_lie.wv": ("damaged", lambda: patched(whole("wv"), 12, b"\xff\xff\xff\x7f")),
    "wv_block_size_lies.wv": ("decode_error", lambda: patched(whole("wv"), 4, b"\xff\xff\xff\x7f")),
    "ape_frames_absurd.ape": (
        "decode_error",
        lambda: (
            b"MAC \x96\x0f\0\0"
            + struct.pack("<IIIIIII", 52, 24, 2**32 - 1, 0, 2**31, 0, 0)
            + bytes(16)
            + struct.pack("<HHIIIHHI", 2000, 0, 73_728, 73_728, 2**32 - 1, 16, 2, 44_100)
            + bytes(200)
        ),
    ),
    "asf_objects_lie.wma": ("ok", lambda: patched(whole("wma"), 16, b"\xff" * 8)),
    "asf_packets_lie.wma": (
        "decode_error",
        lambda: patched(whole("wma"), whole("wma").index(bytes.fromhex("a1dcab8c")) + 92, b"\xff" * 8),
    ),
    "ac3_sync_only.ac3": ("decode_error", lambda: b"\x0b\x77"),
    "ac3_of_noise.ac3": ("decode_error", lambda: b"\x0b\x77" + np.random.default_rng(4).bytes(9000)),
    "aac_sync_only.aac": ("empty_audio", lambda: b"\xff\xf1"),
    "aac_frame_length_0.aac": ("decode_error", lambda: b"\xff\xf1\x50\x80\0\x1f\xfc" * 300),
    "aac_frame_length_7.aac": ("decode_error", lambda: b"\xff\xf1\x50\x80\0\xff\xfc" * 300),
}


LIES: Table = WAV | FLAC | MP3 | OGG | MP4 | MATROSKA | OTHERS
