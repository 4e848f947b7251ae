"""The result of a separation is a dict of waves; a notebook shows a player and a spectrogram of each."""

from __future__ import annotations

import base64
import io
import re
import wave
from html.parser import HTMLParser

import golden_models
import numpy as np
import pytest
import torch
from PIL import Image
from signals import RATE_HZ, tone

from sep_batch.model import stems as stems_module
from sep_batch.model.stems import SHOWN_S, Stems


class Tags(HTMLParser):
    """The tags of a text, each with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def content_of(attributes):
    return base64.b64decode(attributes["src"].partition("base64,")[2])


def test_a_separation_is_a_dict_of_waves_that_a_notebook_shows():
    separator = golden_models.small_separator("2stems")
    result = separator.separate(0.3 * tone(440, RATE_HZ))
    assert isinstance(result, dict)
    assert (tuple(result), result.rate_hz) == (separator.spec.stems, separator.spec.sample_rate_hz)
    tags = Tags(result._repr_html_())
    assert [player["aria-label"] for player in tags.of("audio")] == list(separator.spec.stems)
    assert [picture["alt"] for picture in tags.of("img")] == [f"Spectrogram of {stem}" for stem in separator.spec.stems]


def test_a_player_holds_the_stems_samples_in_16_bits():
    samples = np.array([[0.0, 0.5, 1.5, -2.0], [0.25, -0.5, 0.0, 0.0]], np.float32)
    (player,) = Tags(Stems({"vocals": torch.from_numpy(samples)}, RATE_HZ)._repr_html_()).of("audio")
    with wave.open(io.BytesIO(content_of(player))) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, RATE_HZ, 4)
        frames = np.frombuffer(file.readframes(4), "<i2").reshape(-1, 2).T
    assert frames.tolist() == [[0, 16384, 32767, -32768], [8192, -16384, 0, 0]]


def test_of_a_long_stem_the_beginning_is_shown_and_said():
    stem = torch.zeros(2, (SHOWN_S + 5) * 100)
    text = Stems({"vocals": stem}, 100)._repr_html_()
    with wave.open(io.BytesIO(content_of(Tags(text).of("audio")[0]))) as file:
        assert file.getnframes() == SHOWN_S * 100
    assert f"vocals, the first {SHOWN_S} of {SHOWN_S + 5} s" in text


def test_the_spectrogram_is_a_picture_and_without_matplotlib_there_is_none(monkeypatch):
    result = Stems({"vocals": torch.from_numpy(0.5 * tone(1_000, RATE_HZ))}, RATE_HZ)
    (picture,) = Tags(result._repr_html_()).of("img")
    pixels = np.asarray(Image.open(io.BytesIO(content_of(picture))).convert("L")).astype(int)
    rows = pixels.mean(axis=1)
    assert rows.max() > rows.min() + 100
    monkeypatch.setattr(stems_module, "find_spec", lambda _name: None)
    assert not re.search("<img", result._repr_html_())


@pytest.mark.parametrize("name", ["<script>", 'a"b'])
def test_a_name_is_text(name):
    tags = Tags(Stems({name: torch.zeros(2, 100)}, RATE_HZ)._repr_html_())
    assert [player["aria-label"] for player in tags.of("audio")] == [name]
    assert not tags.of("script")
