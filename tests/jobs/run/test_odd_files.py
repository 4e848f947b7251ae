"""Odd files that are honest: each gives in a run, a plan, a probed manifest and a deep check what its honest source gives."""

from __future__ import annotations

import base64
import functools
import io
import itertools
import struct
from types import SimpleNamespace

import av
import channel_files
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile
from av.stream import Disposition
from catalogs import decoded, finished
from craft import WHOLE_HZ, box, box_place, flac_block, form, id3, mp4, ogg_page, ogg_pages, riff, wav, whole
from signals import RATE_HZ, noise, tone
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.plan.plan import run_plan
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.verify.verify import run_verify
from sep_batch.pipeline.audio import frames

SECONDS = 0.2
DRAWN = np.random.default_rng(11)
COVER = DRAWN.bytes(20_000)
ID3V1 = b"TAG" + b"a song".ljust(125, b"\0")
APE = b"APETAGEX" + struct.pack("<IIIIQ", 2000, 532, 1, 0xA0000000, 0) + COVER[:500]
APE += b"APETAGEX" + struct.pack("<IIIIQ", 2000, 532, 1, 0x80000000, 0)
PICTURE = struct.pack(">II", 3, 10) + b"image/jpeg" + struct.pack(">IIIIII", 0, 500, 500, 24, 0, len(COVER)) + COVER
HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n"
PCM = np.rint(32_767 * (tone(440, 8820, level=0.3) + noise(8820, level=0.02))).astype("<i2").T.tobytes()
TONE = tone(330, 8820, level=0.2)
SIX = ("FC", "FL", "FR", "BL", "BR", "LFE")


@functools.cache
def honest():
    """Return honest files by their names."""
    lossless = {"wav", "aiff", "au", "flac", "tta", "wv"}
    lossy = {"mp3", "mp2", "aac", "ac3", "m4a", "mka", "wma", "opus", "vorbis"}
    files = {name: whole(name, SECONDS) for name in (*lossless, *lossy)}
    return files | {
        "pcm": wav(data=PCM),
        "mov": mp4(),
        "tone": tracks("matroska", "pcm_s16le", TONE),
        "mulaw": wav(form(tag=7, channels=1, rate_hz=8000, bits=8), data=DRAWN.bytes(1600)),
        "5.1": channel_files.wav(channel_files.tones(6, seconds=SECONDS), ("FL", "FR", "FC", "LFE", "BL", "BR")),
        "3.0": channel_files.wav(quantized(channel_files.tones(3, seconds=SECONDS)), ("FL", "FR", "FC")),
    }


def quantized(wave):
    """Return a wave rounded to 16 bits."""
    return (np.rint(wave * 32_768) / 32_768).astype(np.float32)


def odd():
    """Return odd files by their names: each with the name of its honest source, or with the honest files that it is made of."""
    return before() | behind() | cut() | chains() | boxes() | sizes() | channels()


def before():
    files = honest()
    tags = {
        "cover": id3(COVER),
        "two_tags": id3(COVER[:700]) + id3(COVER[:90]),
        "ape_id3": APE + id3(COVER[:5000]),
        "http": HTTP,
        "zeros": bytes(777),
        "line_ends": b"\r\n\r\n",
    }
    kinds = ("flac", "vorbis", "wav", "tta", "aiff", "wv", "mp3", "aac", "ac3", "mov", "opus", "wma")
    pairs = zip(kinds, itertools.cycle(tags), strict=False)
    return {f"{tag}_before_{kind}": (tags[tag] + files[kind], kind) for kind, tag in pairs} | {
        "ones_before_mp2": (b"\xff" * 4 + files["mp2"], "mp2"),
        "picture_in_flac": (
            files["flac"][:42].replace(b"fLaC\x80", b"fLaC\0") + flac_block(6, PICTURE) + files["flac"][42:],
            "flac",
        ),
    }


def behind():
    files = honest()
    tails = {"id3v1": ID3V1, "ape": APE + ID3V1, "zeros": bytes(5000), "line_end": b"\n", "chunk": riff(b"LIST", b"INFO")}
    kinds = (("mp3", "id3v1"), ("mp3", "zeros"), ("mp2", "line_end"), ("aac", "ape"), ("ac3", "line_end"), ("au", "id3v1"))
    kinds += (("wav", "chunk"), ("wv", "ape"), ("flac", "id3v1"), ("m4a", "zeros"))
    return {f"{tail}_behind_{kind}": (files[kind] + tails[tail], kind) for kind, tail in kinds}


def cut():
    """Return streams that begin within a frame; the honest ones begin with the next."""
    files = {}
    for kind in ("mp3", "mp2", "aac", "ac3"):
        content = honest()[kind]
        first = frames.first_run(content, 0, 5000).start
        following = next(place for place in range(first + 9, first + 9000) if frames.run_at(content, place).frames >= 3)
        files[f"cut_{kind}"] = (content[first + 7 :], (content[following:],))
    return files


def chains():
    vorbis, opus, flac = libvorbis(2, WHOLE_HZ), honest()["opus"], whole("ogg", SECONDS)
    mono, slow = libvorbis(1, WHOLE_HZ), libvorbis(2, 22_050)
    covered, long = with_cover(opus), whole("opus", 1.1)  # of two pages: one that is late cannot say that it ends early
    return {
        "chain_of_codecs": (numbered(vorbis, opus, flac), (vorbis, opus, flac)),
        "chain_of_channels": (numbered(vorbis, mono, vorbis), (vorbis, mono, vorbis)),
        "chain_of_rates": (numbered(slow, vorbis, slow, opus), (slow, vorbis, slow, opus)),
        "chain_under_one_number": (numbered(opus, opus, flac, step=0), (opus, opus, flac)),
        "chain_with_a_cover": (numbered(vorbis, covered, mono), (vorbis, opus, mono)),
        "opus_from_30_h_on": (later(long, 30 * 3600 * 48_000), (long,)),
        "flac_from_10_min_on": (later(flac, 600 * WHOLE_HZ), (flac,)),
        "subtitles_in_ogg": (beside_flac(), (flac,)),
    }


def boxes():
    content = honest()["mov"]
    size = int.from_bytes(content[:4], "big")
    other = tone(200, 8820, channels=1, level=0.3)
    return {
        "begins_with_wide": (moved(content, box(b"wide")), "mov"),
        "begins_with_free": (moved(content, box(b"free", bytes(24))), "mov"),
        "begins_with_skip_behind_zeros": (bytes(3) + moved(content, box(b"skip", b"by hand")), "mov"),
        "begins_with_mdat": (moved(content, b""), "mov"),
        "type_of_32_bytes_behind_a_zero": (b"\0" + moved(content, box(b"ftyp", content[8:size].ljust(24, b" "))), "mov"),
        "default_is_second_mov": (tracks("mov", "pcm_s16le", other, TONE), "tone"),
        "default_is_second_mka": (tracks("matroska", "pcm_s16le", other, TONE), "tone"),
    }


def sizes():
    left, nothing, most = 0x7FFFFFFF, 0, 0xFFFFFFFF
    au, aiff = honest()["au"], honest()["aiff"]
    sound = aiff.index(b"SSND")
    long = riff(b"ds64", struct.pack("<QQQI", len(PCM) + 80, len(PCM), len(PCM) // 4, 0))
    four = {name: struct.pack(">I", value) for name, value in (("left", left), ("most", most))}
    return {
        "sizes_left_wav": (wav(data=PCM, size=left, data_size=left), "pcm"),
        "sizes_of_a_pipe_wav": (wav(data=PCM, size=most, data_size=most), "pcm"),
        "sizes_of_nothing_wav": (wav(data=PCM, size=nothing, data_size=nothing), "pcm"),
        "rf64": (wav(long, form(), data=PCM, magic=b"RF64", size=most, data_size=most), "pcm"),
        "bw64": (wav(long, form(), data=PCM, magic=b"BW64", size=most, data_size=most), "pcm"),
        "sizes_of_a_pipe_au": (au[:8] + four["most"] + au[12:], "au"),
        "sizes_left_aiff": (aiff[:4] + four["left"] + aiff[8 : sound + 4] + four["left"] + aiff[sound + 8 :], "aiff"),
    }


def channels():
    waves = dict(zip(("FL", "FR", "FC", "LFE", "BL", "BR"), channel_files.tones(6, seconds=SECONDS), strict=True))
    three = quantized(channel_files.tones(3, seconds=SECONDS))
    return {
        "centre_first_caf": (channel_files.caf(np.stack([waves[name] for name in SIX]), SIX), "5.1"),
        "no_names_wav": (channel_files.wav(np.stack(list(waves.values())), None), "5.1"),
        "three_tta": (channel_files.by_ffmpeg(three, "tta", "tta", "3.0", samples="s16"), "3.0"),
        "three_flac": (channel_files.by_ffmpeg(three, "flac", "flac", "3.0", samples="s16"), "3.0"),
        "mulaw_id3": (id3(COVER[:400]) + honest()["mulaw"], "mulaw"),
    }


def libvorbis(channels, rate_hz):
    out, count = io.BytesIO(), round(SECONDS * rate_hz)
    wave = tone(440, count, channels=channels, rate_hz=rate_hz, level=0.3)
    soundfile.write(out, wave.T, rate_hz, format="OGG", subtype="VORBIS")
    return out.getvalue()


def numbered(*links, step=1):
    """Return links as one file; each stream has a number of its own, or all have the same."""
    return b"".join(
        ogg_page(page, 14, struct.pack("<I", 7 + step * place)) for place, link in enumerate(links) for page in ogg_pages(link)
    )


def later(content, samples):
    """Return an Ogg file whose positions begin late."""
    pages = ogg_pages(content)
    moved_by = [samples if int.from_bytes(page[6:14], "little") > 0 else 0 for page in pages]
    positions = [struct.pack("<q", int.from_bytes(page[6:14], "little") + by) for page, by in zip(pages, moved_by, strict=True)]
    return b"".join(ogg_page(page, 6, position) for page, position in zip(pages, positions, strict=True))


def with_cover(opus):
    """Return Opus with a picture in its comments, over several pages."""
    pages = ogg_pages(opus)
    entry = b"METADATA_BLOCK_PICTURE=" + base64.b64encode(PICTURE)
    packet = b"OpusTags" + struct.pack("<III", 0, 1, len(entry)) + entry
    numbers, made = itertools.count(1), [pages[0]]
    for begin in range(0, len(packet), 255 * 255):
        piece = packet[begin : begin + 255 * 255]
        is_last = len(piece) < 255 * 255
        lacing = bytes([255] * (len(piece) // 255) + ([len(piece) % 255] if is_last else []))
        head = b"OggS\0" + bytes([begin > 0]) + struct.pack("<qIII", 0 if is_last else -1, 0, next(numbers), 0)
        made.append(ogg_page(head + bytes([len(lacing)]) + lacing + piece, 14, pages[0][14:18]))
    return b"".join(made + [ogg_page(page, 18, struct.pack("<I", next(numbers))) for page in pages[2:]])


def beside_flac():
    """Return the Ogg of `whole` with a larger stream between its pages, of a codec that is not read."""
    pages = ogg_pages(whole("ogg", SECONDS))
    head = struct.pack("<BqIII", 2, 0, 99, 0, 0) + b"\1\x2a" + b"\x80kate".ljust(42, b"\0")
    more = [ogg_page(b"OggS\0" + head, 0, b"OggS")]
    for number in range(1, 9):
        lacing = bytes([255] * 70 + [0])
        head = struct.pack("<BqIII", 4 * (number == 8), number, 99, number, 0) + bytes([len(lacing)]) + lacing
        more.append(ogg_page(b"OggS\0" + head + COVER[: 255 * 70], 0, b"OggS"))
    return b"".join([pages[0], more[0], *pages[1:-1], *more[1:], pages[-1]])


def moved(content, first):
    """Return a QuickTime file that begins with other boxes than its type, its samples told where they are then."""
    size, place = int.from_bytes(content[:4], "big"), box_place(content, b"stco") + 8
    start = int.from_bytes(content[place : place + 4], "big") + len(first) - size
    return first + content[size:place] + struct.pack(">I", start) + content[place + 4 :]


def tracks(container, encoder, *waves):
    """Return a file of tracks of 16 bits, of which the last is the default."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as muxer:
        streams = [muxer.add_stream(encoder, rate=RATE_HZ, layout=("mono", "stereo")[len(wave) - 1]) for wave in waves]
        for stream in streams:
            stream.disposition = Disposition.default if stream is streams[-1] else Disposition(0)
        for stream, wave in zip(streams, waves, strict=True):
            integers = np.rint(wave.T * 32_767).astype(np.int16).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(integers, format="s16", layout=stream.codec_context.layout.name)
            frame.sample_rate, frame.pts = RATE_HZ, 0
            muxer.mux(stream.encode(frame))
            muxer.mux(stream.encode(None))
    return out.getvalue()


@pytest.fixture
def catalog(tmp_path):
    """A manifest of all odd files and their honest sources."""
    files = {f"honest_{name}": content for name, content in honest().items()} | {name: file[0] for name, file in odd().items()}
    folder = tmp_path / "songs"
    folder.mkdir()
    for name, content in files.items():
        (folder / f"{name}.mp3").write_bytes(content)  # of which only the content tells what it is
    path = tmp_path / "songs.parquet"
    pyarrow.parquet.write_table(pa.table({"id": list(files), "uri": [f"songs/{name}.mp3" for name in files]}), path)
    return SimpleNamespace(path=path, folder=folder, names=list(files))


def samples_of(source):
    """Return how many samples come out of the honest files that an odd one is made of, each decoded alone."""
    return sum(decoded(content).samples for content in ((honest()[source],) if isinstance(source, str) else source))


def hashes(row):
    return {stem["stem"]: stem["sha256"] for stem in row.stems}


def test_an_odd_file_gives_what_its_honest_source_gives_wherever_it_is_read(catalog, tmp_path, tiny, local):
    out, files = str(tmp_path / "out"), odd()
    assert len(files) >= 40
    assert run_plan(str(catalog.path), out, model=tiny).reasons == {"new": len(catalog.names)}
    summary = run_job(str(catalog.path), out, model=tiny)
    rows = finished(out)
    assert {name: row.error for name, row in rows.items() if row.status != "ok"} == {}
    flags = {name: (row.truncated, row.skipped_packets) for name, row in rows.items()}
    assert {name: flag for name, flag in flags.items() if any(flag)} == {}
    assert (summary.ok, summary.ok_damaged, sorted(rows)) == (len(catalog.names), 0, sorted(catalog.names))

    expected = {name: samples_of(source) / RATE_HZ for name, (_, source) in files.items()}
    assert {name: rows[name].audio_s for name in files} == pytest.approx(expected)
    same = {name: source for name, (_, source) in files.items() if isinstance(source, str)}
    assert [name for name, source in same.items() if hashes(rows[name]) != hashes(rows[f"honest_{source}"])] == []

    report = run_verify(out, deep=True)
    assert (report.exit_code, report.tracks) == (0, {"ok": len(catalog.names)})
    assert run_plan(str(catalog.path), out, model=tiny).todo == 0

    probed = CliRunner().invoke(app, ["manifest", str(catalog.folder), "--probe", "-o", str(tmp_path / "probed.parquet")])
    assert (probed.exit_code, "could not be probed" in probed.output) == (0, False), probed.output
    lengths = pyarrow.parquet.read_table(tmp_path / "probed.parquet").select(["uri", "probed_s"]).to_pylist()
    told = {row["uri"].rpartition("/")[2].removesuffix(".mp3"): row["probed_s"] for row in lengths}
    assert told == pytest.approx({name: rows[name].audio_s for name in catalog.names}, abs=0.1)
