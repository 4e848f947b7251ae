"""Pages of a built site: what they link, load and hold as anchors."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("source", "src"), ("iframe", "src"), ("object", "data")}
NOT_LOADED = {"search", "prev", "next", "index", "canonical"}  # relations of a <link> that a browser does not fetch


class Page(HTMLParser):
    """One page.

    Attributes:
        path: Path of its file.
        anchors: Ids of its elements.
        links: Values of href of its <a> elements.
        loads: Addresses of its scripts, styles and pictures.
        text: Its text, in one line.
    """

    def __init__(self, path):
        super().__init__()
        self.path, self.anchors, self.links, self.loads, self.text = path, set(), [], [], ""
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if "id" in values:
            self.anchors.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        is_fetched = not NOT_LOADED & set(values.get("rel", "").split())
        self.loads += [values[name] for name in values if (tag, name) in LOADED and is_fetched]

    def handle_data(self, data):
        self.text += data

    def target(self, link):
        """Return the file and the anchor that a link leads to; no file for one that leaves the site."""
        parts = urlsplit(link)
        if parts.scheme:
            return None, ""
        return (self.path.parent / unquote(parts.path)).resolve() if parts.path else self.path, unquote(parts.fragment)


def pages_of(folder):
    """Return the pages of a site by the path of their file."""
    return {path.resolve(): Page(path.resolve()) for path in sorted(Path(folder).rglob("*.html"))}
