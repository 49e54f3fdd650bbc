"""Points and boxes on an image, in 0-1000 coordinates of its width and height: (x, y) and (x1, y1, x2, y2)."""

from __future__ import annotations

Box = tuple[float, float, float, float]
Point = tuple[float, float]

EDGE = 1e-6
"""Slack at a box edge, in 1/1000 of the screen: pixel coordinates divided by the screen size do not round-trip."""


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2); 0 for an empty one."""
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    if across <= 0 or down <= 0 or a[0] >= a[2] or a[1] >= a[3]:
        return 0.0
    shared = across * down
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
