"""Draw the recording of a terminal as an animated SVG: text and lines, animated by CSS alone, so that it runs in an <img>.

A recording is a list of (seconds, text), as the terminal received them. `play` returns the frames that a terminal shows, `pieces`
the runs of characters that each frame adds and removes, and `draw` the SVG: one element a piece, which CSS shows from the start
of its first frame to the start of the first frame without it. Lines keep their place when the screen scrolls; the group of all
lines moves instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import pyte

BURST_S = 0.02  # output with shorter gaps is one frame
HOLD_S = 6.0  # time of the last frame, before the animation starts again
CELL, LINE, BASELINE, FONT_PX = 9, 19, 14, 15  # pixels; monospaced fonts are about 0.6 em wide
BAR, MARGIN = 38, 14  # height of the title bar; space around the text
FONTS = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
INK, PAPER, FRAME, TITLE = "#d8e0ee", "#151b26", "#3d4860", "#8b98b0"
PALETTE = {
    "default": INK,
    "black": "#3b4559",
    "red": "#ff7b8a",
    "green": "#7fd88f",
    "brown": "#ffca7a",  # pyte's name of yellow
    "blue": "#82aaff",
    "magenta": "#d6a4ff",
    "cyan": "#7fdbe8",
    "white": INK,
    "brightblack": "#76839c",
}
LIGHT = {"─": "we", "│": "ns", "┌": "es", "┐": "ws", "└": "en", "┘": "wn", "├": "ens", "┤": "wns", "┬": "wes", "┴": "wen"}
LIGHT |= {"┼": "wens"}  # the arms of each box-drawing character, by compass direction
HEAVY = {"━": "we", "╸": "w", "╺": "e"}

DOCUMENT = Template(f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 $outer_width $outer_height" role="img"
 width="$outer_width" height="$outer_height" aria-labelledby="title description" xml:space="preserve">
<title id="title">$title</title>
<desc id="description">$description</desc>
<style>
svg{{color:{INK}}}
text{{font:{FONT_PX}px {FONTS};fill:currentColor;white-space:pre}}
path{{fill:none;stroke:currentColor}}
.heavy{{stroke-width:4}}
.lines,.lines *{{animation-duration:${{seconds}}s;animation-timing-function:step-end;animation-iteration-count:infinite}}
$rules
@media (prefers-reduced-motion:reduce){{*{{animation:none!important}}}}
</style>
<rect width="$width" height="$height" rx="10" fill="{PAPER}" stroke="{FRAME}"/>
<circle cx="22" cy="19" r="6" fill="#ff5f57"/>
<circle cx="42" cy="19" r="6" fill="#febc2e"/>
<circle cx="62" cy="19" r="6" fill="#28c840"/>
<text x="$middle" y="24" text-anchor="middle" style="color:{TITLE}">$title</text>
<svg x="{MARGIN}" y="{BAR}" width="$text_width" height="$text_height"><g class="lines">
<rect class="cursor" width="{CELL}" height="{LINE - 2}" fill="{INK}" fill-opacity=".7"/>
$body
</g></svg>
</svg>
""")


class Style(NamedTuple):
    """Looks of a character: colours, and font."""

    colour: str
    background: str | None
    is_bold: bool
    is_italic: bool
    is_underlined: bool


class Cell(NamedTuple):
    """One character on the screen."""

    text: str
    style: Style

    @property
    def is_blank(self) -> bool:
        """Whether nothing of the character can be seen."""
        return self.text == " " and not self.style.background and not self.style.is_underlined


class Frame(NamedTuple):
    """Screen of a terminal from a time on.

    Attributes:
        start_s: Time since the beginning.
        scrolled: Number of lines that have left the screen at the top.
        lines: Cells of each line on the screen.
        cursor: Row, counted from the first line ever shown, and column of the cursor; None while it is hidden.
    """

    start_s: float
    scrolled: int
    lines: tuple[tuple[Cell, ...], ...]
    cursor: tuple[int, int] | None


@dataclass
class Piece:
    """Run of characters of one style.

    Attributes:
        row, column: Place of its first character; rows are counted from the first line ever shown.
        cells: Its characters.
        start_s, end_s: Times at which it appears and disappears; the end is None if it is still shown at last.
    """

    row: int
    column: int
    cells: tuple[Cell, ...]
    start_s: float
    end_s: float | None = None


class _Screen(pyte.Screen):
    """Screen of a terminal that counts the lines that have left it at the top."""

    scrolled = 0

    def index(self) -> None:
        self.scrolled += self.cursor.y == self.lines - 1
        super().index()

    def frame(self, start_s: float) -> Frame:
        cursor = None if self.cursor.hidden else (self.scrolled + self.cursor.y, min(self.cursor.x, self.columns - 1))
        lines = (tuple(_cell(self.buffer[row][column]) for column in range(self.columns)) for row in range(self.lines))
        return Frame(start_s, self.scrolled, tuple(lines), cursor)


def play(recording: Sequence[tuple[float, str]], columns: int, rows: int, longest_s: float) -> list[Frame]:
    """Return the frames of a recording, each different from the one before it.

    Args:
        recording: Times in seconds, and the text that the terminal received.
        columns: Width of the terminal.
        rows: Height of the terminal.
        longest_s: Time to which longer ones without a change are cut.
    """
    screen = _Screen(columns, rows)
    stream = pyte.Stream(screen)
    frames: list[Frame] = []
    changed_s, start_s = recording[0][0], 0.0
    for number, (time_s, text) in enumerate(recording, start=1):
        stream.feed(text)
        if number < len(recording) and recording[number][0] - time_s < BURST_S:
            continue
        frame = screen.frame(start_s + min(time_s - changed_s, longest_s))
        if not frames or frame[1:] != frames[-1][1:]:
            frames.append(frame)
            changed_s, start_s = time_s, frame.start_s
    return frames


def pieces(frames: Sequence[Frame]) -> list[Piece]:
    """Return the runs of characters that the frames show, in the order in which they appear."""
    drawn: list[Piece] = []
    shown: dict[int, list[Piece]] = {}
    for frame in frames:
        for row, line in enumerate(frame.lines, start=frame.scrolled):
            kept = []
            for piece in shown.get(row, ()):
                if all(map(_is_same, piece.cells, line[piece.column :])):
                    kept.append(piece)
                else:
                    piece.end_s = frame.start_s
            covered = {column for piece in kept for column in range(piece.column, piece.column + len(piece.cells))}
            added = [Piece(row, column, cells, frame.start_s) for column, cells in _runs(line, covered)]
            shown[row] = kept + added
            drawn += added
    return drawn


def draw(frames: Sequence[Frame], title: str, description: str) -> str:
    """Return the SVG of some frames; without animation, it shows the last one.

    Args:
        frames: Frames, from `play`.
        title: Title of the window, and of the picture.
        description: Description of the picture for those who do not see it.
    """
    rows, columns = len(frames[0].lines), len(frames[0].lines[0])
    width, height = CELL * columns + 2 * MARGIN, LINE * rows + BAR + MARGIN
    total_s = frames[-1].start_s + HOLD_S
    styles = {Style(INK, None, is_bold=False, is_italic=False, is_underlined=False): ""}
    groups: dict[tuple[float, float | None], list[str]] = {}
    for piece in pieces(frames):
        groups.setdefault((piece.start_s, piece.end_s), []).extend(_elements(piece, styles))
    rules, body = [], []
    for number, ((start_s, end_s), elements) in enumerate(groups.items()):
        name = f"{'e' if end_s else 'k'}{number}"  # e ends, k is kept
        body.append(f'<g class="{name}">{"".join(elements)}</g>')
        if start_s or end_s:
            rules.append(f".{name}{{animation-name:{name}{';visibility:hidden' if end_s else ''}}}")
            rules.append(_keyframes(name, _visibility(start_s, end_s, total_s)))
    for name, rule in (("cursor", _cursor), ("lines", _scrolled)):
        steps = _steps({frame.start_s: rule(frame) for frame in frames}, total_s)
        rules += [f".{name}{{animation-name:{name};{rule(frames[-1])}}}", _keyframes(name, steps)]
    rules += [f".{name}{{{_css(style)}}}" for style, name in styles.items() if name]
    return DOCUMENT.substitute(
        title=escape(title),
        description=escape(description),
        rules="\n".join(rules),
        body="\n".join(body),
        seconds=f"{total_s:.2f}",
        width=width,
        height=height,
        outer_width=width + 2,
        outer_height=height + 2,
        middle=width // 2,
        text_width=CELL * columns,
        text_height=LINE * rows,
    )


def _cell(char: Any) -> Cell:
    """Return a character of pyte's with its colours resolved."""
    colour, background = _colour(char.fg), None if char.bg == "default" else _colour(char.bg)
    if char.reverse:
        colour, background = background or PAPER, colour
    return Cell(char.data, Style(colour, background, char.bold, char.italics, char.underscore))


def _colour(name: str) -> str:
    """Return the colour of one of pyte's names, or of six hexadecimal digits."""
    return PALETTE.get(name) or PALETTE.get(name.removeprefix("bright")) or f"#{name}"


def _is_same(one: Cell, other: Cell) -> bool:
    return one == other or (one.is_blank and other.is_blank)


def _runs(line: Sequence[Cell], covered: set[int]) -> Iterator[tuple[int, tuple[Cell, ...]]]:
    """Yield column and cells of each run of one style and kind that is not covered, without blanks at its ends."""
    start, end, kind = 0, 0, None
    for column, cell in enumerate(line):
        if column not in covered and cell.is_blank:
            continue  # blanks join what is around them
        own = None if column in covered else (cell.style, cell.text in LIGHT, cell.text in HEAVY)
        if own is None or own != kind:
            if kind is not None:
                yield start, tuple(line[start:end])
            start, kind = column, own
        end = column + 1
    if kind is not None:
        yield start, tuple(line[start:end])


def _elements(piece: Piece, styles: dict[Style, str]) -> Iterator[str]:
    """Yield the elements of a piece; new styles get a class."""
    style, text = piece.cells[0].style, "".join(cell.text for cell in piece.cells)
    x, y, width = CELL * piece.column, LINE * piece.row, CELL * len(text)
    if style.background:
        yield f'<rect x="{x}" y="{y}" width="{width}" height="{LINE}" fill="{style.background}"/>'
    names = [styles.setdefault(style, f"s{len(styles)}"), "heavy" if text[0] in HEAVY else ""]
    attributes = f' class="{" ".join(filter(None, names))}"' if any(names) else ""
    if text[0] in LIGHT or text[0] in HEAVY:
        yield f'<path d="{_path(x, y, text)}"{attributes}/>'
    elif text.strip():
        attributes += f' textLength="{width}"' if len(text) > 1 else ""
        yield f'<text x="{x}" y="{y + BASELINE}"{attributes}>{escape(text)}</text>'


def _path(x: int, y: int, text: str) -> str:
    """Return the lines of box-drawing characters, those that meet as one."""
    middle, spans, path = y + LINE / 2, list[list[float]](), ""
    for number, char in enumerate(text):
        arms = LIGHT.get(char) or HEAVY.get(char, "")
        left, right = x + CELL * number, x + CELL * (number + 1)
        centre = (left + right) / 2
        for arm, span in (("w", [left, centre]), ("e", [centre, right])):
            if arm in arms and spans and spans[-1][1] == span[0]:
                spans[-1][1] = span[1]
            elif arm in arms:
                spans.append(span)
        if "n" in arms or "s" in arms:
            path += f"M{centre:g} {y if 'n' in arms else middle:g}V{y + LINE if 's' in arms else middle:g}"
    return path + "".join(f"M{start:g} {middle:g}H{end:g}" for start, end in spans)


def _css(style: Style) -> str:
    """Return the declarations of a style."""
    looks = {
        f"color:{style.colour}": True,
        "font-weight:bold": style.is_bold,
        "font-style:italic": style.is_italic,
        "text-decoration:underline": style.is_underlined,
    }
    return ";".join(declaration for declaration, is_on in looks.items() if is_on)


def _keyframes(name: str, steps: dict[str, str]) -> str:
    return f"@keyframes {name}{{" + "".join(f"{at}{{{rule}}}" for at, rule in steps.items()) + "}"


def _visibility(start_s: float, end_s: float | None, total_s: float) -> dict[str, str]:
    """Return the keyframes of something that is seen from a time on, until another or for good."""
    steps = {"0%": "visibility:hidden", _percent(start_s, total_s): "visibility:visible"}
    return steps if end_s is None else steps | {_percent(end_s, total_s): "visibility:hidden"}


def _steps(rules: dict[float, str], total_s: float) -> dict[str, str]:
    """Return the keyframes of rules that hold from a time on, without those that repeat the one before."""
    steps: dict[str, str] = {}
    before = None
    for time_s, rule in rules.items():
        if rule != before:
            steps[_percent(time_s, total_s)] = before = rule
    return steps


def _percent(time_s: float, total_s: float) -> str:
    return f"{100 * time_s / total_s:.2f}".rstrip("0").rstrip(".") + "%"


def _cursor(frame: Frame) -> str:
    """Return the rule of the cursor in a frame."""
    if frame.cursor is None:
        return "visibility:hidden"
    row, column = frame.cursor
    return f"visibility:visible;transform:translate({CELL * column}px,{LINE * row + 1}px)"


def _scrolled(frame: Frame) -> str:
    """Return the rule of all lines in a frame."""
    return f"transform:translate(0,{-LINE * frame.scrolled}px)"
