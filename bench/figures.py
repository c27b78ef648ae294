"""One line for each thing that was measured: the figure, the goal, and whether it was met."""

from __future__ import annotations


def heading(text: str) -> None:
    print(f"\n{text}\n{'':52} {'figure':>10} {'goal':>10}")


def line(what: str, figure: float, unit: str, goal: float | None = None) -> None:
    """Print a figure; `goal` is the most that it should be, where there is one."""
    end = "" if goal is None else f" {goal:10.4g}  {'met' if figure <= goal else 'NOT MET'}"
    print(f"{what:52} {figure:10.3f}{end}  {unit}", flush=True)
