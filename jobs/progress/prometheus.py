"""`--metrics-port`: the metrics of a run for Prometheus, read from the state of the run at each scrape.

Separate has one actor per GPU, so the busy share of its actors is that of the GPUs.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from sep_batch.jobs.progress.display import Watcher
from sep_batch.jobs.progress.run_state import RunState
from sep_batch.pipeline import errors

HOST = "127.0.0.1"  # other machines have access only if the user names a host
PREFIX = "sep_batch"


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
        logging.getLogger("sep_batch").info("metrics: http://%s:%d/metrics", self._host, server.server_port)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class Counts(Collector):
    """The metrics, with their values at each scrape."""

    def __init__(self, standing: RunState) -> None:
        self._standing = standing

    def collect(self) -> Iterator[Metric]:
        """Yield each metric."""
        summary = self._standing.summary
        yield InfoMetricFamily(f"{PREFIX}_run", "Name and OUT of the run", {"run": summary.run or "", "out": summary.out})
        yield GaugeMetricFamily(f"{PREFIX}_tracks_planned", "Tracks to do in this run", self._standing.todo)
        tracks = CounterMetricFamily(f"{PREFIX}_tracks", "Tracks finished in this run", labels=["status", "error_class"])
        tracks.add_metric(["ok", ""], summary.ok)
        for name, count in summary.failed.copy().items():
            tracks.add_metric(["failed", name], count)
        yield tracks
        damaged = "Tracks finished ok in this run that are truncated or have skipped packets"
        yield CounterMetricFamily(f"{PREFIX}_damaged_tracks", damaged, summary.ok_damaged)
        yield CounterMetricFamily(f"{PREFIX}_audio_seconds", "Seconds of audio separated in this run", summary.audio_s)
        stages = CounterMetricFamily(
            f"{PREFIX}_stage_seconds", "Seconds of work of each stage on finished tracks", labels=["stage"]
        )
        for stage, seconds in summary.stage_s.items():
            stages.add_metric([stage], seconds)
        yield stages
        yield self._gauges("actors", "Largest number of actors of each stage", summary.actors)
        yield self._gauges("busy_ratio", "Share of the time that each stage's actors were busy", self._standing.busy)

    def _gauges(self, name: str, help: str, values: dict[str, int] | dict[str, float]) -> Metric:
        gauges = GaugeMetricFamily(f"{PREFIX}_{name}", help, labels=["stage"])
        for stage, value in values.items():
            gauges.add_metric([stage], value)
        return gauges
