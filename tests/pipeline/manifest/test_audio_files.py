from __future__ import annotations

import pytest

from sep_batch.pipeline.manifest import audio_files
from sep_batch.pipeline.manifest.audio_files import AUDIO_EXTENSIONS, AudioFiles
from sep_batch.pipeline.storage import Info


def listed(*names, **options):
    """List a folder of these names; return it, and the audio in it."""
    files = AudioFiles("/m", **options)
    return files, [info.uri for info in files.of(Info(f"/m/{name}", 1, None) for name in names)]


@pytest.mark.parametrize("extension", AUDIO_EXTENSIONS)
def test_every_extension_of_audio_is_listed_in_either_case(extension):
    assert listed(f"a{extension}", f"b{extension.upper()}", "c.txt")[1] == [f"/m/a{extension}", f"/m/b{extension.upper()}"]


def test_the_commonest_extensions_are_told_first_and_rare_ones_counted():
    names = [f"{number}.{kind}" for number, kind in enumerate("abcdefghij" + "cc" + "jjj")]
    files, _ = listed("a.wav", *names, "noextension", "Vol. 2 (final)", "song.Mp3 copy")
    assert files.warnings() == ["left out: 18 other files (.j 4, .c 3, no extension 3, .a 1, .b 1, .d 1, .e 1, .f 1, others 3)"]


def test_extensions_beyond_the_bound_are_counted_without_being_kept(monkeypatch):
    monkeypatch.setattr(audio_files, "MOST_EXTENSIONS", 2)
    files, _ = listed("1.a", "1.b", "1.c", "2.d", "2.a")
    assert files.nothing().startswith("found no audio in /m: 5 other files (.a 2, no extension 2, .b 1);")


def test_objects_that_stand_for_folders_are_not_told():
    files, audio = listed("", "deep/", "deep_$folder$", "deep/a.wav")
    assert (audio, files.warnings()) == (["/m/deep/a.wav"], [])


def test_of_manifest_files_beside_audio_the_first_are_kept():
    names = [f"{letter}.csv" for letter in "abcde"]
    files, _ = listed(*names[:4], "song.wav", *names[4:], "_old.csv", with_manifests=True)
    assert [info.uri for info in files.manifests] == ["/m/a.csv", "/m/b.csv", "/m/c.csv"]
    assert files.warnings() == [
        "left out: 1 manifest file with a name or folder that begins with _ (_old.csv)",
        "5 manifest files beside audio, not read: a.csv, b.csv, c.csv, ...; to run one, name it: sep-batch run /m/a.csv",
    ]
