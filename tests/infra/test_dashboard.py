"""The Grafana dashboard: every metric in it is exported, every exported metric is in it, and it imports into any Grafana."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from infra_files import INFRA
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sep_batch.jobs.progress.bottleneck import COLUMNS
from sep_batch.jobs.progress.prometheus import Counts
from sep_batch.jobs.progress.run_state import RunState
from sep_batch.pipeline import errors

DASHBOARD = json.loads((INFRA / "grafana" / "sep-batch.json").read_text())
PANELS = DASHBOARD["panels"]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OF_PROMETHEUS = {"instance", "job"}  # labels that it adds
QUERIES = {f"{panel['title']} {target['refId']}": target for panel in PANELS for target in panel["targets"]}


@pytest.fixture(scope="module")
def exported():
    """Labels of each metric that a run with a failed track exports at its end, by the metric's name."""
    state = RunState()
    state.summary.out, state.summary.actors, state.summary.seconds = "out", dict.fromkeys(COLUMNS, 1), 1.0
    state.summary.count("failed", "not_found", 0.0)
    state.end(errors.SOME_FAILED)
    registry = CollectorRegistry()
    registry.register(Counts(state))
    samples = [one for family in text_string_to_metric_families(generate_latest(registry).decode()) for one in family.samples]
    return {sample.name: sample.labels.keys() for sample in samples}


def names(text):
    return set(re.findall(r"sep_batch_[a-z_]+", text))


def test_every_exported_metric_is_on_the_dashboard_and_no_other(exported):
    assert set().union(*(names(target["expr"]) for target in QUERIES.values())) == exported.keys()
    assert names(json.dumps(DASHBOARD)) == exported.keys()


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_chooses_by_out_and_uses_only_labels_that_its_metrics_have(query, exported):
    text, legend = QUERIES[query]["expr"], QUERIES[query]["legendFormat"]
    for name, braces in re.findall(r"(sep_batch_[a-z_]+)(\{[^}]*\})?", text):
        assert braces.startswith('{out=~"$out"'), name
        assert set(re.findall(r"(\w+)\s*(?:=~|!=|=)", braces)) <= exported[name], name
    labels = set().union(*(exported[name] for name in names(text))) | OF_PROMETHEUS
    grouped = {label for group in re.findall(r" by \(([^)]*)\)", text) for label in re.split(r",\s*", group)}
    shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert grouped | shown <= labels
    assert shown <= grouped or not grouped
    assert [text.count(left) for left in "([{"] == [text.count(right) for right in ")]}"]


def test_a_counter_is_shown_as_a_rate_or_as_the_counts_of_one_run():
    for target in QUERIES.values():
        assert bool(re.search(r"(audio|stage)_seconds_total", target["expr"])) == ("rate(" in target["expr"])


def test_it_names_no_data_source_of_its_own():
    assert "__inputs" not in DASHBOARD  # they fill a dashboard that is imported by hand, and break one that is provisioned
    source, out = DASHBOARD["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert out["datasource"] == SOURCE
    for part in (*PANELS, *QUERIES.values()):
        assert part["datasource"] == SOURCE


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    squares = [
        square
        for panel in PANELS
        for at in [panel["gridPos"]]
        for square in itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"]))
    ]
    assert len(set(squares)) == len(squares)
    assert max(x for x, _ in squares) < 24


def test_the_exit_codes_have_the_colours_of_what_is_no_failure():
    (panel,) = (panel for panel in PANELS if panel["title"].startswith("Exit code"))
    (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
    colours = {int(code): shown["color"] for code, shown in mapping["options"].items()}
    assert {code for code, colour in colours.items() if colour == "yellow"} == {
        errors.SOME_FAILED,
        errors.STOPPED,
        errors.LeaseHeldError.exit_code,
    }
    assert {code for code, colour in colours.items() if colour == "green"} == {0}
