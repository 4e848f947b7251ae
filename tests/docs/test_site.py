"""The site of docs/: built without a warning, with no dead link, read and searched from the disk in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import typer
from html_pages import pages_of
from project_files import ROOT

from sep_batch.jobs.cli.main import app
from sep_batch.pipeline import errors

DOCS = ROOT / "docs"
# Elements beyond the right edge of the window that are in no box with a scroll bar of its own.
BEYOND = """() => {
    const scrolls = element => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
    const held = element => element && ((scrolls(element) && element.getBoundingClientRect().right <= innerWidth)
        || held(element.parentElement.closest("article *")));
    return [...document.querySelectorAll("article *")]
        .filter(element => element.getBoundingClientRect().right > innerWidth + 1 && !held(element))
        .map(element => `${element.tagName} ${element.textContent.slice(0, 60)}`);
}"""
BROWSERS = ("chromium", "google-chrome", "google-chrome-stable")
SOURCES = [path for path in sorted(DOCS.rglob("*.md")) if path.name != "contributing.md" or (ROOT / "CONTRIBUTING.md").exists()]


def options_of_make():
    """Return the options with which `make docs` calls Sphinx."""
    (options,) = re.findall(r"-m sphinx (.+) --doctree-dir \S+ docs build/docs$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return options.split()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the site as `make docs` does; returns its folder, and how Sphinx ended."""
    for module in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(module, reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        *options_of_make(),
        "--quiet",
        "--doctree-dir",
        folder / "doctrees",
        DOCS,
        folder / "html",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SEP_BATCH_REPOSITORY_URL", raising=False)
        return folder / "html", subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(built):
    """The site's pages by file."""
    folder, _ = built
    return pages_of(folder)


@pytest.fixture(scope="module")
def browser():
    """Chromium, without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"there is none of {', '.join(BROWSERS)} here")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program)
        yield chromium
        chromium.close()


def page_named(site, name):
    (page,) = [page for path, page in site.items() if path.as_posix().endswith(f"/html/{name}.html")]
    return page


def test_make_docs_builds_without_a_warning_and_would_fail_with_one(built):
    _, ended = built
    assert (ended.returncode, ended.stdout + ended.stderr) == (0, "")
    assert {"--fail-on-warning", "--nitpicky"} <= set(options_of_make())


def test_every_file_of_docs_is_a_page_that_the_index_leads_to(built, site):
    folder, _ = built
    reached, ahead = set(), [folder.resolve() / "index.html"]
    while ahead:
        path = ahead.pop()
        if path in site and path not in reached:
            reached.add(path)
            ahead += [target for target, _ in map(site[path].target, site[path].links) if target]
    names = {path.relative_to(folder.resolve()).with_suffix("").as_posix() for path in reached}
    assert {path.relative_to(DOCS).with_suffix("").as_posix() for path in SOURCES} - names == set()


def test_every_link_leads_to_a_file_and_an_anchor_that_is_there(site):
    dead = []
    for page in site.values():
        for link in page.links:
            target, anchor = page.target(link)
            if target is None:
                continue
            if not target.is_file() or (target in site and anchor and anchor not in site[target].anchors):
                dead.append(f"{page.path.name}: {link}")
    assert dead == []


def test_pages_load_nothing_from_a_network_and_no_file_that_is_not_there(built, site):
    folder, _ = built
    for page in site.values():
        for address in page.loads:
            target, _ = page.target(address)
            assert target, f"{page.path.name} loads {address}"
            assert target.is_file(), f"{page.path.name} loads {address}"
    for style in folder.rglob("*.css"):
        assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)\"']*", style.read_text()) == [], style.name


def commands(command, path=()):
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


def test_the_command_line_page_has_every_command_and_option_with_its_help_and_an_anchor(site):
    page = page_named(site, "reference/command-line")
    for path, command in commands(typer.main.get_command(app)):
        anchor = "-".join(path) or "sep-batch"
        assert anchor in page.anchors
        for parameter in command.params:
            assert re.sub("_", "-", f"{anchor}-{parameter.opts[0].strip('-').lower()}") in page.anchors, (path, parameter.opts)
            default = parameter.default if isinstance(parameter.default, str | float) and not parameter.is_flag else None
            text = " ".join((parameter.help or "").split()) + (f" Default: {default}" if default is not None else "")
            assert text in page.text
    assert "--gpus <str>" in page.text
    assert "Environment variable: SEP_BATCH_CONFIG" in page.text


def test_the_python_page_has_every_public_name_and_every_error_with_an_exit_code(site):
    page = page_named(site, "reference/python")
    public = re.findall(r"^\| `([\w.]+)`", (DOCS / "reference" / "python.md").read_text(), re.MULTILINE)
    assert set(public) - page.anchors == set()
    ending = {name for name, item in vars(errors).items() if isinstance(item, type) and issubclass(item, errors.RunError)}
    assert {f"{errors.__name__}.{name}.exit_code" for name in ending} - page.anchors == set()


@pytest.mark.parametrize(
    ("link", "with_url", "without"),
    [
        ("[a](storage.md#b)", "[a](storage.md#b)", "[a](storage.md#b)"),
        ("[`a`](../../CHANGELOG.md)", "[`a`](../changelog.md)", "[`a`](../changelog.md)"),
        ("[a](../../LICENSE#b)", "[a](https://host/blob/main/LICENSE#b)", "[a](path:../../LICENSE)"),
        ("[a](../../infra/)", "[a](https://host/blob/main/infra)", "a"),
        ("[a](../../none.md)", "[a](../../none.md)", "[a](../../none.md)"),
        ("[a](https://b.org/c) [d](#e)", "[a](https://b.org/c) [d](#e)", "[a](https://b.org/c) [d](#e)"),
    ],
)
def test_a_link_out_of_docs_leads_to_a_page_to_the_repository_or_to_a_copy(monkeypatch, link, with_url, without):
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    monkeypatch.syspath_prepend(DOCS / "_extensions")
    from repository_links import rewritten

    page = DOCS / "guides" / "operate.md"
    for url, expected in (("https://host/blob/main/", with_url), ("", without)):
        config = SimpleNamespace(repository_url=url, repository_pages={"CHANGELOG.md": "changelog.md"})
        assert rewritten(SimpleNamespace(srcdir=DOCS, config=config), link, page, page) == expected


def test_a_link_of_an_included_file_is_read_from_that_file(monkeypatch):
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    monkeypatch.syspath_prepend(DOCS / "_extensions")
    from repository_links import rewritten

    site = SimpleNamespace(srcdir=DOCS, config=SimpleNamespace(repository_url="", repository_pages={}))
    text = "[a](../docs/guides/nightly.md#b), [c](compose.yaml)"
    assert rewritten(site, text, ROOT / "infra" / "README.md", DOCS / "guides" / "infrastructure.md") == (
        "[a](nightly.md#b), [c](path:../../infra/compose.yaml)"
    )


def watched(browser, **options):
    """Return a new tab of the browser, and the list to which its errors and its requests of a network are added."""
    page, faults = browser.new_page(**options), []
    page.on("console", lambda message: faults.append(f"{page.url}: {message.text}"))
    page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or faults.append(f"{page.url}: {request.url}"))
    return page, faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_each_page_without_an_error_and_without_scrolling_sideways(built, site, browser, width, scheme):
    page, faults = watched(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
    for path in site:
        page.goto(path.as_uri())
        widest = page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
        faults += [f"{path.name}: {widest} px"] if widest > width else []
        faults += [f"{path.name}: {element}" for element in page.evaluate(BEYOND)]
    page.close()
    assert faults == []


@pytest.mark.parametrize(("words", "name"), [("worker_crash", "guides/operate"), ("bit-depth", "reference/command-line")])
def test_the_search_finds_a_word_on_the_disk(built, browser, words, name):
    folder, _ = built
    page, faults = watched(browser)
    page.goto(f"{(folder / 'search.html').as_uri()}?q={words}")
    page.wait_for_function("document.querySelector('.search-summary')?.textContent.includes('finished')")
    links = page.eval_on_selector_all("ul.search li a", "links => links.map(link => link.href)")
    page.close()
    assert faults == []
    assert any(link.startswith((folder / f"{name}.html").as_uri()) for link in links), links
