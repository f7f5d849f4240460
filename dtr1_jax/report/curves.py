"""The report's charts: the main panels, a panel for each metric that several tasks have, and all other numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dtr1_jax import types
from dtr1_jax.report import charts
from dtr1_jax.report.markup import series, setting, to_text

_TASK_COLOURS = {task: i for i, task in enumerate(types.TASKS)}  # the same in every panel


def curve_section(rows: list[dict], config: dict) -> str:
    """Charts of all numbers in the run log. Numbers without a panel of their own are in a section that a click opens.

    Args:
      rows: the run log, in the order of steps.
      config: the run's config.json, whose reward columns are drawn in the panel "Reward"; {} where there is none.
    """
    names = list(dict.fromkeys(n for row in rows for n in row if n != "step"))
    task_panels = _task_panels(names)
    names = [n for n in names if not any(n in by_task.values() for by_task in task_panels.values())]
    charted: set[str] = set()
    figures = []
    for title, pattern in _panels(config).items():
        matches = [n for n in names if re.fullmatch(pattern, n)]
        charted.update(matches)
        figures.append(_figure(title, {n: series(rows, n) for n in matches}))
    for title, by_task in task_panels.items():
        figures.append(_figure(title, {task: series(rows, n) for task, n in by_task.items()}, _TASK_COLOURS))
    rest = [_figure(n, {n: series(rows, n)}) for n in names if n not in charted]
    more = f'<details><summary>{len(rest)} other numbers</summary><div class="grid2">{"".join(rest)}</div></details>'
    note = "" if rows else '<p class="none">No metrics.jsonl in this folder yet, or no line in it.</p>'
    return (
        f'<section><h2>Curves <small>over steps</small></h2>{note}<div class="grid2">{"".join(figures)}</div>'
        f"{more if rest else ''}</section>"
    )


def _panels(config: dict) -> dict[str, str]:
    """Title of a panel -> regular expression of the names that it shows."""
    weights = setting(config, "reward", "weights")
    task_weights = [w for w in weights.values() if isinstance(w, dict)] if isinstance(weights, dict) else []
    columns = dict.fromkeys(name for of_task in task_weights for name in of_task if isinstance(name, str))
    # train/length is the completions' length, which has a panel of its own; the column is train/reward_length.
    rewards = "|".join(re.escape(name) for name in ("reward", *columns) if name != "length")
    return {
        "Reward": rf"train/(reward/.*|reward_length|(reward_)?({rewards})([/_]mean)?)",
        "Held-out IoU": r"eval/(giou|ciou)",
        "Structure": r"(eval|train)/structure",
        "Completions that reason (share with a thought)": r"(eval|train)/reasoned",
        "KL to the reference": r"train/.*\bkl.*|train/kl.*",
        "Entropy (nats a token)": r"train/.*entropy.*",
        "Completion length (tokens)": r"train/.*length.*",
        "Clip share": r"train/.*clip.*",
        "Tokens per second": r".*(tokens_per_s|tokens/s).*",
    }


def _figure(title: str, lines: Mapping[str, list[charts.Point]], colours: Mapping[str, int] | None = None) -> str:
    chart = charts.chart(lines, label=title, colours=colours)
    return f'<figure class="panel"><figcaption>{to_text(title)}</figcaption>{chart}</figure>'


def _task_panels(names: list[str]) -> dict[str, dict[str, str]]:
    """Title of a panel -> task -> name in the run log, for names with a task in them: train/vqa/reward, and so on.

    The reward comes first. Numbers of queries and the figures of the table "Where errors come from" have no panel.
    """
    panels: dict[str, dict[str, str]] = {}
    for task in types.TASKS:
        for name in names:
            path = name.split("/")
            if task in path[1:] and path[-1] != "examples" and path[1] != "program":
                title = f"{'/'.join(p for p in path if p != task)} by task"
                panels.setdefault(title, {}).setdefault(task, name)
    return dict(sorted(panels.items(), key=lambda item: item[0] not in ("train/reward by task", "eval/reward by task")))
