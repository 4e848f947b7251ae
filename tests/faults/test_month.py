"""A month of nights of `sync`: what each separates, tells and keeps is what a table says; its first five with every test run."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from catalogs import finished
from signals import tone

from sep_batch.jobs.run import run as job
from sep_batch.jobs.run.sync import run_sync
from sep_batch.jobs.verify.verify import run_verify
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import index, layout, lease
from sep_batch.pipeline.storage import retries

NOON_S = 1_750_000_000  # of the first day, as files tell it
DAY_S = 86_400
SECONDS = 0.5


def of_tone(hz, seconds=SECONDS):
    """Return a WAV file."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((2, 2, 44_100, 0, "NONE", ""))
        file.writeframes((tone(hz, round(seconds * 44_100)).T * 32_767).astype("<i2").tobytes())
    return content.getvalue()


class Killed(BaseException):
    """What no code of ours catches, as it cannot catch SIGKILL."""


class Month:
    """Songs below a folder or prefix, an OUT, and a clock.

    Attributes:
        songs, out: Where they are.
        now_s: What the clock of this machine says.
        closed: Folders that may not be read.
        wanted: Tones of the songs as they lie there.
    """

    def __init__(self, root, monkeypatch):
        self.songs, self.out, self.now_s = f"{root}/songs", f"{root}/stems", NOON_S
        self.is_disk = root.startswith("/")
        self.closed, self.wanted = set[str](), dict[str, tuple[float, float]]()
        self._monkeypatch = monkeypatch
        scandir = os.scandir

        def may_scan(path="."):
            if str(path).rpartition("/")[2] in self.closed:
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return scandir(path)

        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.fromtimestamp(self.now_s, tz)

        monkeypatch.setattr(os, "scandir", may_scan)
        for module in (lease, job):
            monkeypatch.setattr(module, "datetime", Clock)
        dead_s = 1.0 if self.is_disk else 10.0  # a heartbeat on object storage may take seconds where the machine is busy
        for name, seconds in (("DEAD_S", dead_s), ("BEAT_S", 0.2), ("LOOK_S", 0.1)):
            monkeypatch.setattr(lease, name, seconds)

    def write(self, name, content, at_s=None):
        """Write a file, as of now or another time."""
        storage.put(f"{self.songs}/{name}", content)
        if self.is_disk:
            os.utime(f"{self.songs}/{name}", (at_s or self.now_s, at_s or self.now_s))

    def changed_s(self, name):
        """Return a file's time, as far as a disk keeps one."""
        return os.stat(f"{self.songs}/{name}").st_mtime if self.is_disk else None

    def no_more_writes(self, monkeypatch, kind):
        """Have nothing be written, from the first file of a kind on."""
        begun, whole = [], {name: getattr(storage, name) for name in ("put", "put_file", "remove")}

        def patched(name):
            def call(uri, *arguments, **options):
                if begun or f"/_sep/{kind}/" in uri:
                    begun.append(uri)
                    if "/_sep/lease/" in uri:
                        return None  # from a thread, in which nothing is raised
                    raise Killed
                return whole[name](uri, *arguments, **options)

            return call

        for name in whole:
            monkeypatch.setattr(storage, name, patched(name))

    def holder_died(self, **says):
        """Have the process that holds OUT be gone, or another have held it."""
        holder = lease.newest(self.out)
        uri = f"{layout.lease_folder(self.out)}/{holder.number:06d}.json"
        storage.put(uri, json.dumps(holder.says | {"pid": 2**30, "ended": False} | says).encode())
        return uri

    def holder_elsewhere_died(self):
        """Have OUT held by a run of another machine, whose clock was an hour ahead, and which died a day ago."""
        at = datetime.fromtimestamp(self.now_s + 3600, UTC).isoformat()
        uri = self.holder_died(machine="elsewhere", host="elsewhere", since=at, at=at)
        if self.is_disk:
            long_ago = os.stat(uri).st_mtime - DAY_S
            os.utime(uri, (long_ago, long_ago))
        else:
            time.sleep(lease.DEAD_S)


def song(name, hz, seconds=SECONDS, **write):
    """Return a deed: somebody adds or replaces a song."""

    def do(month):
        month.write(name, of_tone(hz, seconds), **write)
        month.wanted[name] = hz, seconds

    return do


def replaced(name, hz, *, earlier_s=0):
    """Return a deed: a song is replaced by a longer one that has its time, or an earlier one."""

    def do(month):
        then = month.changed_s(name)
        song(name, hz, 2 * SECONDS, at_s=then and then - earlier_s)(month)

    return do


def half(name, hz):
    """Return a deed: a song is there up to two fifths."""

    def do(month):
        content = of_tone(hz)
        month.write(name, content[: len(content) * 2 // 5])

    return do


def text(name, content=b"no audio"):
    """Return a deed: a file is added that is no audio, whatever its name says."""
    return lambda month: month.write(name, content)


def removed(name):
    """Return a deed: a file is removed."""

    def do(month):
        storage.remove(f"{month.songs}/{name}")
        month.wanted.pop(name, None)

    return do


def renamed(name, to):
    """Return a deed: a song has another name, and the time that it had."""

    def do(month):
        then, (hz, seconds) = month.changed_s(name), month.wanted[name]
        removed(name)(month)
        song(to, hz, seconds, at_s=then)(month)

    return do


def closed(*folders):
    """Return a deed: only these folders may not be read."""
    return lambda month: setattr(month, "closed", set(folders))


def set_back(month):
    """Set this machine's clock back: today is an hour before yesterday."""
    month.now_s -= DAY_S + 3600


@dataclass
class Night:
    """What happens on a day, and what the night after it must come to.

    Attributes:
        deeds: What people do to the songs.
        code: The exit code; None where the run is killed.
        done: Tracks that were done before.
        separated: Names of those that are separated.
        failed: Tracks that fail, by class.
        known: Tracks that failed before.
        gone: Names of those that are told to be in the listing no more.
        says: Words of a warning, or of the error.
        on_s3: What is otherwise on object storage.
        fault: What befalls the night: full, killed, busy, dead, absent.
    """

    deeds: tuple[Callable[[Month], None], ...] = ()
    code: int | None = 0
    done: int = 0
    separated: tuple[str, ...] = ()
    failed: dict[str, int] = field(default_factory=dict)
    known: int = 0
    gone: tuple[str, ...] = ()
    says: str = ""
    on_s3: dict[str, object] = field(default_factory=dict)
    fault: str = ""

    def told(self):
        """Return what the summary must hold."""
        counts = {name: getattr(self, name) for name in ("done", "failed", "known", "gone")}
        return counts | {"separated": len(self.separated)}


FIRST = (
    song("a.wav", 300),
    song("b.wav", 310),
    song("c.wav", 320),
    song("deep/d.wav", 330),
    text("notes.txt"),
    text("broken.wav"),
)
UPLOADS = (song(".g.wav.Xy12", 360), text("g.wav.part"))
BC, BCD = ("b.wav", "c.wav"), ("b.wav", "c.wav", "deep/d.wav")
ALBUMS = (song("album 1/01.wav", 410), song("album 2/01.wav", 420))
TWO, THREE = (song("i.wav", 430), song("j.wav", 440)), (song("k.wav", 450), song("l.wav", 460), song("m.wav", 470))
KLM = ("k.wav", "l.wav", "m.wav")
NIGHTS = [
    Night(FIRST, 3, 0, ("a.wav", "b.wav", "c.wav", "deep/d.wav"), {"unsupported_format": 1}, says="1 other file (.txt 1)"),
    Night(done=4, known=1),
    Night((song("e.wav", 340), half("f.wav", 350)), 3, 4, ("e.wav",), {"damaged": 1}, 1),
    Night((replaced("a.wav", 301), song("f.wav", 350)), 0, 4, ("a.wav", "f.wav"), known=1),
    Night(
        (renamed("b.wav", "b2.wav"), closed("deep")),
        0,
        4,
        ("b2.wav",),
        known=1,
        gone=BC[:1],
        says="1 unreadable folder (deep)",
        on_s3={"done": 5, "says": ""},
    ),
    Night((closed(),), done=6, known=1, gone=BC[:1]),
    Night((removed("c.wav"),), done=5, known=1, gone=BC),
    Night(UPLOADS, done=5, known=1, gone=BC, says="2 other files (.part 1, .txt 1), 1 hidden file"),
    Night((renamed(".g.wav.Xy12", "g.wav"), removed("g.wav.part")), 0, 5, ("g.wav",), known=1, gone=BC),
    Night((song("H.WAV", 400),), 0, 6, ("H.WAV",), known=1, gone=BC),
    Night(done=7, known=1, gone=BC),
    Night(ALBUMS, 0, 7, ("album 1/01.wav", "album 2/01.wav"), known=1, gone=BC),
    Night(TWO, 5, fault="full", says="No space left on device"),
    Night((), 0, 9, ("i.wav", "j.wav"), known=1, gone=BC),
    Night(THREE, None, fault="killed"),
    Night((), 0, 11, KLM, known=1, gone=BC),
    Night((set_back, replaced("k.wav", 451, earlier_s=3600)), 0, 13, ("k.wav",), known=1, gone=BC),
    Night((song("n.wav", 480),), 75, fault="busy", says="has been working on it since"),
    Night((), 0, 14, ("n.wav",), known=1, gone=BC, fault="dead"),
    Night((), 5, fault="absent", says="expected an existing folder or prefix"),
    Night(done=15, known=1, gone=BC),
    Night((song("broken.wav", 490),), 0, 15, ("broken.wav",), gone=BC),
    Night((renamed("deep/d.wav", "deeper/d.wav"),), 0, 15, ("deeper/d.wav",), gone=BCD),
    Night((song("c.wav", 320, at_s=NOON_S + DAY_S),), 0, 17, gone=("b.wav", "deep/d.wav")),
    Night((song("e.wav", 340),), 0, 16, ("e.wav",), gone=("b.wav", "deep/d.wav"), on_s3={"done": 17, "separated": ()}),
    Night((song("e.wave", 500),), 0, 17, ("e.wave",), gone=("b.wav", "deep/d.wav")),
    Night((text("songs.csv"),), done=18, gone=("b.wav", "deep/d.wav"), says="1 manifest file beside audio"),
    Night((text("empty.wav", b""),), 3, 18, failed={"empty_audio": 1}, gone=("b.wav", "deep/d.wav")),
    Night((removed("empty.wav"),), done=18, gone=("b.wav", "deep/d.wav")),
    Night(done=18, gone=("b.wav", "deep/d.wav"), says="left out"),
]
TONES = sorted({(hz, SECONDS) for hz in range(300, 510, 10)} | {(301, 2 * SECONDS), (451, 2 * SECONDS)})


def one_night(month, night, monkeypatch, model):
    """Run a night; return its exit code, what it did, and what it said."""
    if night.fault == "dead":
        month.holder_elsewhere_died()
    with monkeypatch.context() as patched:
        if night.fault == "killed":
            month.no_more_writes(patched, "journal")
        if night.fault == "full":
            put = storage.put

            def full(uri, *arguments, **options):
                if "/_sep/plan/" in uri:
                    raise retries.write_error(uri, OSError(errno.ENOSPC, "No space left on device"))
                return put(uri, *arguments, **options)

            patched.setattr(storage, "put", full)
        source = f"{month.songs}/absent" if night.fault == "absent" else month.songs
        try:
            summary = run_sync(source, month.out, model=model, gpus="0", max_failures="100%", format="wav")
        except errors.RunError as error:
            return error.exit_code, None, str(error)
        except Killed:
            code, said = None, ""
        else:
            return summary.exit_code, summary, "\n".join(summary.warnings)
    month.holder_died()
    return code, None, said


def sha256s(row):
    """Return what a row says of its stems' bytes."""
    return {stem["stem"]: stem["sha256"] for stem in row.stems}


def play(nights, month, monkeypatch, model, alone):
    """Play nights, and hold each against the table; `alone` has the stems' sha256 of each tone."""
    vouched = dict[str, tuple[float, float]]()
    for number, night in enumerate(nights):
        month.now_s += DAY_S
        for deed in night.deeds:
            deed(month)
        expected = Night(**vars(night) | ({} if month.is_disk else night.on_s3))
        if night.fault == "busy":
            with lease.hold(month.out):
                code, summary, said = one_night(month, night, monkeypatch, model)
        else:
            code, summary, said = one_night(month, night, monkeypatch, model)
        assert (number, code) == (number, expected.code), said
        assert expected.says in said, number
        if summary:
            name_of = {id: row.uri.removeprefix(f"{month.songs}/") for id, row in finished(month.out).items()}
            told = {
                "done": summary.done_before,
                "separated": summary.ok,
                "failed": dict(summary.failed),
                "known": summary.known_failed,
                "gone": tuple(sorted(name_of[id] for id in summary.vanished)),
            }
            assert (number, told) == (number, expected.told())
        vouched |= {name: month.wanted[name] for name in expected.separated}
        check_kept(month, vouched, alone, is_published=summary is not None)


def check_kept(month, vouched, alone, *, is_published):
    """Hold rows and bytes against the songs that were separated so far, those that are gone included."""
    rows = {row.uri.removeprefix(f"{month.songs}/"): row for row in finished(month.out).values() if row.status == "ok"}
    assert {name: sha256s(row) for name, row in rows.items()} == {name: alone[tone] for name, tone in vouched.items()}
    for row in rows.values():
        for stem in row.stems:
            assert hashlib.sha256(storage.read(f"{month.out}/{stem['uri']}")).hexdigest() == stem["sha256"]
    if is_published:
        published = [row for row in index.read(month.out).to_pylist() if row["status"] == "ok"]
        assert {row["uri"].removeprefix(f"{month.songs}/") for row in published} == vouched.keys()


@pytest.fixture
def root(request, tmp_path):
    """A folder of a disk, or a prefix of object storage."""
    return str(tmp_path) if request.param == "disk" else f"{request.getfixturevalue('s3')}/{tmp_path.name}"


def stems_alone(folder, model):
    """Separate every tone of the month by itself; return its stems' sha256."""
    for hz, seconds in TONES:
        storage.put(f"{folder}/songs/{hz}.wav", of_tone(hz, seconds))
    job.run_job(f"{folder}/songs", f"{folder}/stems", model=model, gpus="0", format="wav")
    rows = {row.uri.rpartition("/")[2]: sha256s(row) for row in finished(f"{folder}/stems").values()}
    return {(hz, seconds): rows[f"{hz}.wav"] for hz, seconds in TONES}


@pytest.mark.parametrize("root", ["disk"], indirect=True)
def test_five_nights_do_tell_and_keep_what_the_table_says(root, tiny, local, monkeypatch, tmp_path):
    alone = stems_alone(str(tmp_path / "alone"), tiny)
    play(NIGHTS[:5], Month(root, monkeypatch), monkeypatch, tiny, alone)


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("root", ["disk", "s3"], indirect=True)
def test_thirty_nights_do_tell_and_keep_what_the_table_says(root, tiny, one_ray, monkeypatch, tmp_path):
    assert len(NIGHTS) == 30
    alone = stems_alone(str(tmp_path / "alone"), tiny)
    month = Month(root, monkeypatch)
    play(NIGHTS, month, monkeypatch, tiny, alone)
    assert run_verify(month.out, deep=True).counts == {}
