"""What Ray prints."""

from __future__ import annotations

import ray
from ray._private.worker import print_to_stdstream

from sep_batch.pipeline import flow


def test_what_ray_publishes_to_its_drivers_is_not_printed_on_stdout(capsys, monkeypatch):
    monkeypatch.setattr(ray._private.worker, "print_to_stdstream", print_to_stdstream)  # put back at the end
    told = {"lines": ["Task submit failed"], "pid": "raylet", "is_err": False}
    ray._private.worker.print_to_stdstream(told, ignore_prefix=False)
    assert "Task submit failed" in capsys.readouterr().out
    flow.configure(flow.plan_resources(2, 0))
    ray._private.worker.print_to_stdstream(told, ignore_prefix=False)
    assert capsys.readouterr() == ("", "")
