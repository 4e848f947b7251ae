"""Synthesised songs: a sung voice over chords, bass and drums. Their stems are known, and free of any copyright.

A wave of one instrument is (samples,), a mix (2, samples); all are float64 until `song` returns float32. Times are in seconds,
pitches are MIDI note numbers (69 is 440 Hz). The same arguments give the same song.

from sep_batch.jobs.demo.synthesis import song
truth = song(seed=1, seconds=10.0)
mix = truth["vocals"] + truth["accompaniment"]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

SCALE = (0, 2, 4, 5, 7, 9, 11)  # semitones above the key
PROGRESSIONS = ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (0, 2, 3, 4))  # degrees of the scale, one per bar
RHYTHMS = ((1, 0.5, 0.5, 1.25), (0.5, 0.5, 1, 1.25), (1.5, 0.5, 1.25), (0.5, 0.5, 0.5, 0.5, 1.25))  # beats; a breath follows
KIT = ((0, "kick"), (2, "snare"), (3, "kick"), (4, "kick"), (6, "snare"), *((eighth, "hat") for eighth in range(8)))
REGISTER = 64  # pitch of the voice's lowest key note, in C
COMPASS = (-3, 7)  # steps of the scale below and above it
VIBRATO_HZ, VIBRATO_SEMITONES = 5.3, 1.0
TRACT = 1.15  # factor on the tenor's formants, for a shorter vocal tract
TILT, TILT_FROM_HZ = 1.5, 500  # a soft voice: above this frequency, levels fall by this power of it
CONTROL = 64  # samples between two points of the voice's spectral envelope
TOP_HZ = 10_000  # highest harmonic of the voice
PEAK = 0.8  # peak of the mix

# Frequency in Hz, level in dB, bandwidth in Hz of five formants. Source: Csound Manual, "Formant Values", tenor.
VOWELS = {
    "a": ((650, 1080, 2650, 2900, 3250), (0, -6, -7, -8, -22), (80, 90, 120, 130, 140)),
    "e": ((400, 1700, 2600, 3200, 3580), (0, -14, -12, -14, -20), (70, 80, 100, 120, 120)),
    "i": ((290, 1870, 2800, 3250, 3540), (0, -15, -18, -20, -30), (40, 90, 100, 120, 120)),
    "o": ((400, 800, 2600, 2800, 3000), (0, -10, -12, -12, -26), (70, 80, 100, 130, 135)),
    "u": ((350, 600, 2700, 2900, 3300), (0, -20, -17, -14, -26), (40, 60, 100, 120, 120)),
}


class Score(NamedTuple):
    """Score that all instruments follow.

    Attributes:
        degrees: Roots of the chords as steps of the scale, one per bar.
        key: Semitones above C.
        beat_s: Length of a beat; a bar has four.
        samples: Length of every wave.
        rate_hz: Sample rate.
    """

    degrees: tuple[int, ...]
    key: int
    beat_s: float
    samples: int
    rate_hz: int


class Note(NamedTuple):
    """One sung note."""

    start_s: float
    length_s: float
    pitch: float
    vowel: str


def song(seed: int, seconds: float, rate_hz: int = 44_100) -> dict[str, np.ndarray]:
    """Compose and synthesise a song; key, tempo and melody depend on the seed.

    Args:
        seed: Seed of the random choices.
        seconds: Duration of the song.
        rate_hz: Sample rate.

    Returns:
        vocals and accompaniment, each (2, samples) float32; their sum is the mix and peaks at `PEAK`.
    """
    rng = np.random.default_rng(seed)
    beat_s, key = 60 / rng.uniform(84, 126), int(rng.integers(-4, 5))
    degrees = np.resize(PROGRESSIONS[seed % len(PROGRESSIONS)], int(seconds / beat_s / 4) + 1).tolist()
    score = Score(tuple(degrees), key, beat_s, round(seconds * rate_hz), rate_hz)
    sung = np.tile(voice(melody(score, rng), score, rng), (2, 1))
    stems = {"vocals": sung, "accompaniment": chords(score) + bass(score) + drums(score, rng)}
    stems = {name: _in_a_room(wave / wave.std(), rate_hz, rng) for name, wave in stems.items()}
    full = PEAK / np.abs(sum(stems.values())).max()
    return {name: (full * wave).astype(np.float32) for name, wave in stems.items()}


def melody(score: Score, rng: np.random.Generator) -> list[Note]:
    """Compose a melody: each bar starts near a tone of its chord, moves in steps, and ends with a breath."""
    notes = []
    for bar, root in enumerate(score.degrees):
        beat, step = 4.0 * bar, root + int(rng.choice((0, 2, 4))) - 1
        for length in RHYTHMS[rng.integers(len(RHYTHMS))]:
            pitch, vowel = REGISTER + score.key + _semitones(step), str(rng.choice(list(VOWELS)))
            notes.append(Note(beat * score.beat_s, length * score.beat_s, pitch, vowel))
            beat, step = beat + length, int(np.clip(step + rng.choice((-2, -1, 1, 2)), *COMPASS))
    return notes


def voice(notes: Sequence[Note], score: Score, rng: np.random.Generator) -> np.ndarray:
    """Synthesise the voice: harmonics at the levels of the vowels' formants, and breath noise.

    Args:
        notes: Notes in order, not overlapping.
        score: Score with length and sample rate.
        rng: Random generator for the breath.

    Returns:
        (samples,).
    """
    time = np.arange(score.samples) / score.rate_hz
    coarse, pitch_hz = time[::CONTROL], _sung_hz(notes, time)
    phase, formants = 2 * np.pi * np.cumsum(pitch_hz) / score.rate_hz, _formants(notes, coarse)
    wave = np.zeros(score.samples)
    for harmonic in range(1, int(TOP_HZ / pitch_hz.min())):
        levels = _resonance(harmonic * pitch_hz[::CONTROL], *formants)
        wave += np.interp(time, coarse, levels) * np.sin(harmonic * phase)
    breath, consonants = _hiss(score, 3_000, 9_000, rng), rng.uniform(0, 0.1, (len(notes), 1)) * [0, 1, 1, 0]
    wave = (wave + 0.005 * breath) * _curve(time, notes, (0, 0.12, 0.5, 0.85, 0.99), [0, 0.8, 1, 0.7, 0])
    return np.asarray(wave + breath * _curve(time, notes, (-0.2, -0.1, 0.0, 0.08), consonants))


def chords(score: Score) -> np.ndarray:
    """Synthesise plucked triads in eighths, one string after the other, spread from left to right: (2, samples)."""
    wave = np.zeros((2, score.samples))
    for eighth in range(8 * len(score.degrees)):
        for string, third in enumerate((0, 2, 4, 7)):
            pitch, left = 48 + score.key + _semitones(score.degrees[eighth // 8] + third), 0.2 + 0.2 * string
            tone = (0.5 if eighth % 2 else 1) * _pluck(pitch, 1.2, 14, score.rate_hz)
            _add(wave, np.outer((left, 1 - left), tone), eighth * score.beat_s / 2 + 0.012 * string, score.rate_hz)
    return wave


def bass(score: Score) -> np.ndarray:
    """Synthesise the plucked roots of the chords on every beat: (samples,)."""
    wave = np.zeros(score.samples)
    for beat in range(4 * len(score.degrees)):
        tone = _pluck(36 + score.key + _semitones(score.degrees[beat // 4]), score.beat_s, 6, score.rate_hz)
        _add(wave, 2 * tone, beat * score.beat_s, score.rate_hz)
    return wave


def drums(score: Score, rng: np.random.Generator) -> np.ndarray:
    """Synthesise kick, snare and hi-hat in the pattern of `KIT`, bar after bar: (samples,)."""
    hit = score._replace(samples=score.rate_hz // 4)
    time = np.arange(hit.samples) / hit.rate_hz
    sounds = {
        "kick": 3 * np.sin(2 * np.pi * (48 * time + 4 * (1 - np.exp(-time / 0.03)))) * np.exp(-time / 0.08),
        "snare": np.sin(2 * np.pi * 190 * time) * np.exp(-time / 0.05)
        + 0.7 * _hiss(hit, 800, 16_000, rng) * np.exp(-time / 0.06),
        "hat": 0.25 * _hiss(hit, 6_000, 16_000, rng) * np.exp(-time / 0.02),
    }
    wave = np.zeros(score.samples)
    for bar in range(len(score.degrees)):
        for eighth, name in KIT:
            _add(wave, sounds[name], (8 * bar + eighth) * score.beat_s / 2, score.rate_hz)
    return wave


def _semitones(step: int) -> int:
    """Return the semitones from the key to a step of the scale."""
    return 12 * (step // 7) + SCALE[step % 7]


def _hz(pitch: Any) -> Any:
    """Return the frequency of a pitch, or of an array of them."""
    return 440 * 2 ** ((pitch - 69) / 12)


def _curve(time: np.ndarray, notes: Sequence[Note], fractions: Sequence[float], values: np.ndarray | list[float]) -> np.ndarray:
    """Interpolate linearly between values, (points,) or (notes, points), at these fractions of every note."""
    at = np.array([[note.start_s + fraction * note.length_s for fraction in fractions] for note in notes])
    curve: np.ndarray = np.interp(time, at.ravel(), np.broadcast_to(values, at.shape).ravel())
    return curve


def _sung_hz(notes: Sequence[Note], time: np.ndarray) -> np.ndarray:
    """Return the voice's pitch in Hz: it slides into notes from below, and vibrato grows while they are held."""
    pitches = np.array([[note.pitch] for note in notes]) - [0.8, 0, 0]
    depth = _curve(time, notes, (0.0, 0.3, 0.6, 0.98), [0, 0, VIBRATO_SEMITONES, VIBRATO_SEMITONES])
    sung = _curve(time, notes, (0.0, 0.15, 0.98), pitches) + depth * np.sin(2 * np.pi * VIBRATO_HZ * time)
    return np.asarray(_hz(sung))


def _formants(notes: Sequence[Note], time: np.ndarray) -> np.ndarray:
    """Return frequency, level and bandwidth of five formants over time, (3, 5, n); vowels change gradually."""
    table = np.array([VOWELS[note.vowel] for note in notes])
    return np.array([[_curve(time, notes, (0.2, 0.8), table[:, kind, [n]]) for n in range(5)] for kind in range(3)])


def _resonance(at_hz: np.ndarray, centre_hz: np.ndarray, level_db: np.ndarray, width_hz: np.ndarray) -> np.ndarray:
    """Return the gain of parallel resonators, (5, n) each, at a frequency over time, (n,)."""
    gains = 10 ** (level_db / 20) / np.hypot(1, 2 * (at_hz - TRACT * centre_hz) / width_hz)
    return np.asarray(gains.sum(axis=0) * (TILT_FROM_HZ / np.maximum(at_hz, TILT_FROM_HZ)) ** TILT)


@lru_cache(maxsize=64)
def _pluck(pitch: float, length_s: float, harmonics: int, rate_hz: int) -> np.ndarray:
    """Return a string's tone, which must not be written to (it is cached); higher harmonics decay faster."""
    time, root_hz = np.arange(round(length_s * rate_hz)) / rate_hz, _hz(pitch)
    numbers = np.arange(1, harmonics + 1)[:, None]
    tones = np.sin(2 * np.pi * root_hz * numbers * time) * np.exp(-time * (2 + 1.5 * numbers)) / numbers
    return np.asarray(tones.sum(axis=0) * np.linspace(1, 0, time.size))


def _hiss(score: Score, low_hz: float, high_hz: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise of rms 1 that falls off softly below and above two frequencies."""
    frequency = np.fft.rfftfreq(score.samples, 1 / score.rate_hz)
    gain = 1 / np.hypot(1, (low_hz / np.maximum(frequency, 1)) ** 3) / np.hypot(1, (frequency / high_hz) ** 3)
    wave = np.fft.irfft(np.fft.rfft(rng.standard_normal(score.samples)) * gain, score.samples)
    return np.asarray(wave / wave.std())


def _add(wave: np.ndarray, sound: np.ndarray, start_s: float, rate_hz: int) -> None:
    """Add a sound to a wave from a time on, cut at the end of the wave."""
    section = wave[..., round(start_s * rate_hz) :][..., : sound.shape[-1]]
    section += sound[..., : section.shape[-1]]


def _in_a_room(wave: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Add a short echo, different on each side."""
    time = np.arange(rate_hz // 2) / rate_hz
    echo = 0.01 * rng.standard_normal((2, time.size)) * np.exp(-time / 0.12)
    echo[:, 0] = 1
    length = wave.shape[-1] + time.size
    return np.fft.irfft(np.fft.rfft(wave, length) * np.fft.rfft(echo, length), length)[:, : wave.shape[-1]]
