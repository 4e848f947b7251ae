"""`--metrics-port` and `--metrics-file`: the metrics of a run for Prometheus, read from the state of the run at each scrape.

A file serves short runs, which Prometheus cannot scrape: the textfile collector of node_exporter reads it, also after the run.
Separate has one actor per GPU, so the busy share of its actors is that of the GPUs.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, start_http_server, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from sep_batch.jobs.progress.display import LOGGER, Watcher
from sep_batch.jobs.progress.run_state import RunState
from sep_batch.pipeline import errors
from sep_batch.pipeline.storage import uris

HOST = "127.0.0.1"  # other machines have access only if the user names a host
PREFIX = "sep_batch"
ENDING = ".prom"  # of the files that node_exporter's textfile collector reads


class Metrics(Watcher):
    """Serves the metrics over HTTP while a run is watched."""

    def __init__(self, address: str) -> None:
        """Take PORT or HOST:PORT; 0 is any free port, which the log names.

        Raises:
            UsageError: The address is neither.
        """
        host, _, port = address.rpartition(":")
        if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
            raise errors.UsageError(f"--metrics-port {address}: expected PORT or HOST:PORT, as 9090 or 0.0.0.0:9090")
        self._address, self._host, self._port = address, host.strip("[]") or HOST, int(port)

    @contextlib.contextmanager
    def watching(self, standing: RunState) -> Iterator[None]:
        """Serve the metrics until the block ends.

        Raises:
            NotRunnableError: The port is in use, or the host is not this machine's.
        """
        registry = CollectorRegistry()
        registry.register(Counts(standing))
        try:
            server, thread = start_http_server(self._port, self._host, registry=registry)
        except OSError as error:
            raise errors.NotRunnableError(f"--metrics-port {self._address}: {error.strerror}") from error
        LOGGER.info("metrics: http://%s:%d/metrics", self._host, server.server_port)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class MetricsFile(Watcher):
    """Writes the metrics to a file when the flow starts, every ten seconds, and at the end of the run; each time as a whole."""

    def __init__(self, path: str) -> None:
        """Take the path of the file; nothing is written yet.

        Raises:
            UsageError: node_exporter would not read a file of this name.
            NotRunnableError: The folder does not exist or cannot be written to.
        """
        if not path.endswith(ENDING) or os.path.isdir(path):
            raise errors.UsageError(
                f"{self._flag(path)}: expected a file whose name ends in {ENDING}, as textfile/sep-batch{ENDING}"
            )
        try:
            with tempfile.TemporaryFile(dir=os.path.dirname(path) or "."):
                pass
        except OSError as error:
            problem = f"its folder cannot be written to ({error.strerror})"
            raise errors.NotRunnableError(f"{self._flag(path)}: {problem}; create the folder, or name another one") from error
        self._path, self._has_failed = path, False

    @contextlib.contextmanager
    def watching(self, standing: RunState) -> Iterator[None]:
        """Write the metrics once more after the block, whatever ends it."""
        try:
            yield
        finally:
            self._write(standing)

    def started(self, standing: RunState) -> None:
        """Write the metrics."""
        self._write(standing)

    def ticked(self, standing: RunState) -> None:
        """Write the metrics, once OUT is known, which they are labelled with."""
        if standing.summary.out:
            self._write(standing)

    def _write(self, standing: RunState) -> None:
        """Write the metrics to a temporary file in the same folder, and rename it. The first of several failures is logged."""
        registry = CollectorRegistry()
        registry.register(Counts(standing))
        try:
            write_to_textfile(self._path, registry)
            self._has_failed = False
        except OSError as error:
            if not self._has_failed:
                LOGGER.warning("warning: %s: could not be written (%s)", self._flag(self._path), error.strerror)
            self._has_failed = True

    @staticmethod
    def _flag(path: str) -> str:
        return f"--metrics-file {uris.printable(path)}"


class Counts(Collector):
    """The metrics, with their values at each call. OUT labels all of them: one machine may have the files of several."""

    def __init__(self, standing: RunState) -> None:
        self._standing = standing

    def collect(self) -> Iterator[Metric]:
        """Yield each metric."""
        standing, summary = self._standing, self._standing.summary
        yield InfoMetricFamily(f"{PREFIX}_run", "Name and OUT of the run", {"run": summary.run or "", "out": summary.out})
        yield self._gauge("run_start_timestamp_seconds", "Time at which the run began, in seconds since 1970", standing.began_at)
        if standing.ended_at is not None:
            ended = "Time at which the run ended, in seconds since 1970"
            yield self._gauge("run_end_timestamp_seconds", ended, standing.ended_at)
            yield self._gauge("run_exit_code", "Exit code of the run, once it has ended", standing.exit_code)
        yield self._gauge("tracks_planned", "Tracks to do in this run", standing.todo)
        tracks: dict[tuple[str, ...], float] = {("ok", ""): summary.ok}
        tracks |= {("failed", name): count for name, count in summary.failed.copy().items()}
        yield self._family(CounterMetricFamily, "tracks", "Tracks finished in this run", tracks, labels=("status", "error_class"))
        damaged = "Tracks finished ok in this run that are truncated or have skipped packets"
        yield self._family(CounterMetricFamily, "damaged_tracks", damaged, {(): summary.ok_damaged})
        audio = "Seconds of audio separated in this run"
        yield self._family(CounterMetricFamily, "audio_seconds", audio, {(): summary.audio_s})
        for kind, name, help, values in (
            (CounterMetricFamily, "stage_seconds", "Seconds of work of each stage on finished tracks", summary.stage_s),
            (GaugeMetricFamily, "actors", "Largest number of actors of each stage", summary.actors),
            (GaugeMetricFamily, "busy_ratio", "Share of the time that each stage's actors were busy", standing.busy),
        ):
            yield self._family(kind, name, help, {(stage,): value for stage, value in values.items()}, labels=("stage",))

    def _gauge(self, name: str, help: str, value: float) -> Metric:
        return self._family(GaugeMetricFamily, name, help, {(): value})

    def _family(
        self,
        kind: type[CounterMetricFamily | GaugeMetricFamily],
        name: str,
        help: str,
        values: Mapping[tuple[str, ...], float],
        *,
        labels: tuple[str, ...] = (),
    ) -> Metric:
        family = kind(f"{PREFIX}_{name}", help, labels=("out", *labels))
        for key, value in values.items():
            family.add_metric((self._standing.summary.out, *key), value)
        return family
