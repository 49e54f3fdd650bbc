"""Alerts of a run as the page shows them."""

import time
from dataclasses import asdict
from typing import Any

from rlcs.alerts import alerts_of
from rlcs.dashboard.metric_log import read_rows
from rlcs.dashboard.runs import Run


def run_alerts(run: Run) -> list[dict[str, Any]]:
    """ALERT objects of the interface (docs/dashboard.md), the latest first."""
    guard = [
        row
        for row in read_rows(run.path / "alerts.jsonl")
        if isinstance(row.get("step"), int) and all(isinstance(row.get(key), str) for key in ("kind", "sentence", "domain"))
    ]
    running = run.status() == "running"
    found = alerts_of(run.log, guard, now=time.time() if running else None)
    shown = [asdict(alert) | {"step_from": alert.step, "step": alert.last_step} for alert in found]
    for alert in shown:
        del alert["last_step"]
    return sorted(shown, key=lambda alert: (not alert["active"], -alert["step"]))
