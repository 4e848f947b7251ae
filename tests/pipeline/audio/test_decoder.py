"""The decoder's process: the same samples as without it, one failed row for what breaks it, and nothing that it may do."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hostile.craft import FORMATS, video, whole
from planted import planted
from project_files import TESTS
from signals import noise

from sep_batch.pipeline import audio, errors
from sep_batch.pipeline.audio import codecs, decoder, decoder_process, decoding, messages, sandbox
from sep_batch.pipeline.audio.encoding import encode

RATE_HZ = 44_100
START_S = 5.0  # far more than the 0.4 s that it takes; a machine of tests is busy


@pytest.fixture
def new_children(monkeypatch):
    """Begin and end without children, and have those between do what planted files ask for."""
    monkeypatch.syspath_prepend(str(planted.FOLDER))
    end_children()
    yield
    end_children()


def end_children():
    while decoder._IDLE:
        decoder._IDLE.pop().end()


def decoded(decode, content, **options):
    pieces, found = decode(io.BytesIO(content), rate_hz=RATE_HZ, **options)
    return np.concatenate(list(pieces), axis=1), found


def children():
    return [child._popen.pid for child in decoder._IDLE]


@pytest.mark.parametrize("format", FORMATS)
def test_the_samples_and_what_is_found_are_those_of_decoding_in_this_process(format):
    content = whole(format)
    wave, found = decoded(audio.decode, content, offset_s=0.1, duration_s=0.5)
    expected, expected_found = decoded(decoding.decode, content, offset_s=0.1, duration_s=0.5)
    assert np.array_equal(wave, expected)
    assert found == expected_found
    assert audio.probe(io.BytesIO(content)) == decoding.probe(io.BytesIO(content))


def test_a_film_without_sound_is_told_as_such():
    with pytest.raises(errors.UnsupportedFormat, match="no audio stream"):
        decoded(audio.decode, video("matroska"))


def test_a_file_larger_than_the_shared_memory_arrives_whole():
    content = whole("wav", 20.0)
    assert len(content) > 4 * messages.SOURCE_BYTES
    wave, _ = decoded(audio.decode, content)
    assert np.array_equal(wave, decoded(decoding.decode, content)[0])


def test_one_child_serves_one_file_after_another(new_children):
    for format in ("wav", "flac", "mp3"):
        decoded(audio.decode, whole(format))
    assert len(decoder._IDLE) == 1
    assert decoder._IDLE[0].files == 3


def test_two_files_can_be_decoded_at_once_in_one_thread(new_children):
    both = [audio.decode(io.BytesIO(whole("wav", 3.0, hz)), rate_hz=RATE_HZ)[0] for hz in (440, 880)]
    waves = [np.concatenate(pieces, axis=1) for pieces in zip(*both, strict=True)]
    assert sum(wave.shape[1] for wave in waves) == 2 * 3 * RATE_HZ


def test_a_child_whose_file_is_left_early_takes_the_next(new_children):
    pieces, _ = audio.decode(io.BytesIO(whole("flac", 20.0)), rate_hz=RATE_HZ)
    next(pieces)
    pieces.close()
    before = children()
    assert len(before) == 1
    assert np.array_equal(decoded(audio.decode, whole("wav"))[0], decoded(decoding.decode, whole("wav"))[0])
    assert children() == before


def test_what_reading_the_source_raises_is_raised_and_the_child_goes_on(new_children):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 1 << 18:
                raise errors.FetchTimeout("the line is cut")
            return super().read(size)

    with pytest.raises(errors.FetchTimeout, match="the line is cut"):
        list(audio.decode(Broken(whole("wav", 20.0)), rate_hz=RATE_HZ)[0])
    before = children()
    decoded(audio.decode, whole("wav"))
    assert children() == before


@pytest.mark.parametrize("deed", planted.DIES_OF)
def test_what_breaks_the_decoder_is_one_failed_file_and_the_next_decodes(new_children, deed):
    decoded(audio.decode, whole("wav"))
    for attempt in (
        lambda: decoded(audio.decode, planted.file(deed), silent_s=1.0),
        lambda: audio.probe(io.BytesIO(planted.file(deed)), silent_s=1.0),
    ):
        with pytest.raises(errors.DecodeCrash, match=f"wav: .*{planted.DIES_OF[deed]}") as crash:
            attempt()
        assert errors.describe(crash.value, "decode")["error_class"] == "decode_crash"
        assert not crash.value.transient
        assert np.array_equal(decoded(audio.decode, whole("wav"))[0], decoded(decoding.decode, whole("wav"))[0])


def test_a_decoder_that_the_machine_kills_may_do_it_at_another_time(new_children):
    with pytest.raises(errors.DecodeCrash, match="SIGKILL") as crash:
        decoded(audio.decode, planted.file("kill"))
    assert crash.value.transient


def test_a_decoder_that_does_not_start_is_told_before_any_file_is_tried(new_children, monkeypatch, capfd):
    monkeypatch.setattr(decoder_process, "_PROGRAM", "sep_batch.no_such_program")
    with pytest.raises(errors.NotRunnableError, match="^the decoder did not start: its process ended with exit code 1$"):
        audio.start()
    assert "No module named sep_batch.no_such_program" in capfd.readouterr().err
    with pytest.raises(errors.DecodeCrash, match="exit code 1") as crash:
        decoded(audio.decode, whole("wav"))
    assert crash.value.transient


def test_an_endless_loop_is_over_its_cpu_time(new_children, monkeypatch):
    monkeypatch.setattr(decoder_process, "CPU_S", 1.0)
    with pytest.raises(errors.DecodeCrash, match=r"[12] s of CPU time for 0.0 s of audio"):
        decoded(audio.decode, planted.file("loop"))


def test_a_file_that_dies_of_what_another_one_left_is_decoded_in_a_new_child(new_children):
    """As where an earlier file broke the heap: the second one loses its process midway, and has all its samples."""
    decoded(audio.decode, whole("wav"))
    content, expected = whole("flac", 20.0), decoded(decoding.decode, whole("flac", 20.0))[0]
    pieces, found = audio.decode(io.BytesIO(content), rate_hz=RATE_HZ)
    waves = [next(pieces), next(pieces)]
    subprocess.run(["kill", "-SEGV", str(newest_child())], check=True)
    waves += pieces
    assert np.array_equal(np.concatenate(waves, axis=1), expected)
    assert found.samples == expected.shape[1]


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
def test_a_signal_that_is_meant_for_the_whole_run_leaves_the_decoder_at_work(new_children, name):
    """As Ctrl-C in a terminal: the run finishes what is in flight."""
    pieces, _ = audio.decode(io.BytesIO(whole("flac", 20.0)), rate_hz=RATE_HZ)
    first, child = next(pieces), newest_child()
    subprocess.run(["kill", f"-{name}", str(child)], check=True)
    assert first.shape[1] + sum(piece.shape[1] for piece in pieces) == 20 * RATE_HZ
    assert children() == [child]


def test_a_child_that_is_starting_is_out_of_reach_of_ctrl_c(new_children):
    audio.start()
    (child,) = children()
    assert os.getpgid(child) == child  # a terminal signals the run's group


def newest_child():
    """Return the process id of the child that was started last."""
    below = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = [int(pid) for path in below for pid in path.read_text().split()]
    return max(pid for pid in pids if b"decoder_child" in Path(f"/proc/{pid}/cmdline").read_bytes())


def test_inside_the_decoder_nothing_can_be_opened_sent_started_or_signalled(new_children):
    if why := audio.start():
        pytest.skip(why)
    with pytest.raises(errors.DecodeCrash) as crash:
        decoded(audio.decode, planted.file("attempts"))
    told = dict(pair.split("=") for pair in str(crash.value).partition("RuntimeError: ")[2].split(" (")[0].split())
    assert told.pop("threads") == "done"
    assert told == dict.fromkeys(told, str(errno.EPERM))
    assert len(told) == 10


def test_the_decoder_gets_no_credentials(new_children, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-1b")
    audio.start()
    environment = Path(f"/proc/{children()[0]}/environ").read_bytes()
    assert b"PYTHONPATH" in environment
    assert b"canary-1b" not in environment
    assert b"AWS" not in environment


def test_where_the_kernel_filters_no_calls_it_says_so_and_decodes(monkeypatch):
    libc = type("Libc", (), {"syscall": lambda *_: -1})()
    assert sandbox._filter_calls(libc).startswith("no system call filter: ")
    monkeypatch.setattr(sandbox.platform, "machine", lambda: "riscv64")
    assert sandbox._filter_calls(libc) == "no system call filter for riscv64"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_what_the_table_says_and_refuses_the_rest(machine):
    column = sandbox._column(machine)
    program = sandbox.filter_program(machine, pid=77)
    allowed = {numbers[column] for numbers in sandbox._NUMBERS.values()} - {-1}

    def outcome(number, first=0, audit=sandbox._AUDIT[machine]):
        return run_filter(program, {0: number, 4: audit, 16: first})

    for number in range(500):
        special = (sandbox._CLONE[column], sandbox._CLONE3[column], sandbox._TGKILL[column])
        if number not in special:
            assert outcome(number) == (sandbox._ALLOW if number in allowed else sandbox._REFUSE | errno.EPERM), number
    assert outcome(sandbox._CLONE3[column]) == sandbox._REFUSE | errno.ENOSYS
    assert outcome(sandbox._CLONE[column], sandbox._CLONE_THREAD | 0x100) == sandbox._ALLOW
    assert outcome(sandbox._CLONE[column], 0x11) == sandbox._REFUSE | errno.EPERM
    assert outcome(sandbox._TGKILL[column], 77) == sandbox._ALLOW
    assert outcome(sandbox._TGKILL[column], 78) == sandbox._REFUSE | errno.EPERM
    assert outcome(0x40000000) == sandbox._REFUSE | errno.EPERM  # x32 calls, on x86-64
    assert outcome(63, audit=0x40000003) == sandbox._KILL  # 32-bit calls


def run_filter(program, data):
    """Run a filter as the kernel does; data is what lies at each offset."""
    import struct

    place, value = 0, 0
    while True:
        code, true, false, operand = struct.unpack_from("HBBI", program, 8 * place)
        place += 1
        if code == sandbox._LOAD:
            value = data[operand]
        elif code == sandbox._RETURN:
            return operand
        else:
            holds = value == operand if code == sandbox._EQUAL else bool(value & operand)
            place += true if holds else false


def test_a_child_starts_in_less_than_seconds_and_imports_no_more_than_it_needs(new_children):
    begun = time.monotonic()
    audio.start()
    assert time.monotonic() - begun < START_S
    told = subprocess.run(
        [sys.executable, "-c", "import sep_batch.pipeline.audio.decoder_child, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"pyarrow", "torch", "fsspec", "pydantic", "ray"} & set(told.stdout.split())


def test_the_children_die_with_their_process():
    program = (
        "import io, os, sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from planted import planted; sys.path.insert(0, str(planted.FOLDER))\n"
        "from sep_batch.pipeline import audio\n"
        "from sep_batch.pipeline.audio import decoder\n"
        "import threading\n"
        "audio.start(); print(decoder._IDLE[0]._popen.pid, flush=True)\n"
        "threading.Thread(target=lambda: audio.probe(io.BytesIO(planted.file('loop'))), daemon=True).start()\n"
        "time.sleep(1); os.kill(os.getpid(), 9)\n"
    )
    tests = str(TESTS)
    told = subprocess.run([sys.executable, "-c", program, tests], capture_output=True, text=True, check=False)
    assert told.returncode == -9
    deadline = time.monotonic() + START_S
    while Path(f"/proc/{told.stdout.strip()}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_child_started_by_a_thread_outlives_the_thread(new_children):
    thread = threading.Thread(target=audio.start)
    thread.start()
    thread.join()
    time.sleep(0.2)
    (child,) = decoder._IDLE
    assert child._popen.poll() is None
    decoded(audio.decode, whole("wav"))
    assert [child] == decoder._IDLE


def test_headers_are_read_by_few_children_and_while_storage_is_waited_for_by_none(new_children):
    """Many threads ask at once, storage is slow, and each header needs bytes of both ends of its file."""
    content = whole("mp3", 15.0)

    class Slow(io.BytesIO):
        def read(self, size=-1):
            time.sleep(0.1)
            return super().read(size)

    headers, begun = [], time.monotonic()
    threads = [threading.Thread(target=lambda: headers.append(audio.probe(Slow(content)))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert headers == [decoding.probe(io.BytesIO(content))] * 16
    assert len(decoder._IDLE) <= decoder._AT_WORK
    assert time.monotonic() - begun < START_S


@pytest.mark.parametrize("form", ["mp3", "flac", "wav"])
def test_a_small_files_header_takes_one_request_to_a_child_which_reads_every_byte_once(form, monkeypatch):
    content = encode(noise(RATE_HZ), codecs.CODECS[form]["" if form == "mp3" else "16"], rate_hz=RATE_HZ)
    asked, answer = [], decoder_process.DecoderProcess._answer_read
    monkeypatch.setattr(decoder_process.DecoderProcess, "_answer_read", lambda *args: asked.append(args[1]) or answer(*args))
    end_children()
    assert decoder.probe(io.BytesIO(content)).rate_hz == RATE_HZ
    (child,) = decoder._IDLE
    assert (len(content) < messages.SOURCE_BYTES, asked, child.files) == (True, [[0, len(content)]], 1)
