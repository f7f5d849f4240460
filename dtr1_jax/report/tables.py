"""The report's numbers: the run's main settings, the tiles with scores before and after training, and all settings."""

from __future__ import annotations

from typing import Any

from dtr1_jax import plain_text
from dtr1_jax.evaluation import request_table, table, twin_answers
from dtr1_jax.report.markup import series, setting, to_text

TAIL = 10  # steps of training over which the figures of requests are averaged
HEADLINES = {"eval/giou": "gIoU", "eval/ciou": "cIoU", "eval/structure": "structure", "eval/reward": "reward"}
# The main metric of each task and modality, except segmentation of pictures, which HEADLINES has.
TASK_HEADLINES = {
    f"eval/{task}/{modality}/{table.main_metric(task, modality)}": f"{task}, {modality}"
    for task, modality in table.FIGURES
    if (task, modality) != ("segmentation", "picture")
}


def title_section(config: dict, rows: list[dict]) -> str:
    """The title and the settings that say which run this is.

    Args:
      config: the run's config.json; {} where there is none.
      rows: the run log, in the order of steps.
    """
    facts = {
        "policy": setting(config, "policy", "name"),
        "data": setting(config, "data", "source"),
        "task": setting(config, "data", "task"),
        "variant": setting(config, "grpo", "variant"),
        "LoRA rank": setting(config, "lora", "rank"),
        "queries a step": setting(config, "rollout", "queries"),
        "completions a query": setting(config, "rollout", "group"),
        "learning rate": setting(config, "optim", "lr"),
        "segmenter": setting(config, "reward", "segmenter"),
        "seed": setting(config, "seed"),
        "last step": rows[-1]["step"] if rows else None,
    }
    shown = {name: plain_text.without_keys(to_text(value)) for name, value in facts.items() if value is not None}
    chips = "".join(f"<span><b>{name}</b> {value}</span>" for name, value in shown.items())
    return (
        f'<header><h1>DT-R1: a policy learns to build a digital twin</h1><p class="chips">'
        f"{chips or 'no config.json in this folder'}</p></header>"
    )


def headline_section(rows: list[dict]) -> str:
    """A tile for each headline metric, with its first and its last held-out value in the run log `rows`.

    Where no held-out reward was logged, its tile compares the first and the last training steps.
    """
    logged = {name for row in rows for name in row}
    task_headlines = {
        name: f"{label}: {name.rpartition('/')[2]}" for name, label in TASK_HEADLINES.items() if name in logged
    }
    headlines = HEADLINES
    if task_headlines:
        general = {name: label for name, label in HEADLINES.items() if "iou" not in name or name in logged}
        headlines = {"eval/mean": "mean of the tasks", **task_headlines, **general}
    tiles = "".join(_tile(rows, name, label) for name, label in headlines.items())
    return f'<section><h2>Before and after</h2><div class="tiles">{tiles}</div></section>'


def warnings_section(warnings: list[dict]) -> str:
    """The warnings that the run gave about itself (run/warnings_file.py); "" where there are none."""
    if not warnings:
        return ""
    lines = "".join(f"<li>step {to_text(w['step'])}: {to_text(w['message'])}</li>" for w in warnings)
    return f'<section><h2>Warnings</h2><ul class="warnings">{lines}</ul></section>'


def error_section(rows: list[dict]) -> str:
    """Perception x reasoning of the last and the first evaluation in the run log `rows`; "" if there are none."""
    logged = [lines for row in rows if (lines := twin_answers.lines(row))]
    if not logged:
        return ""
    header, *last = logged[-1]
    earlier = {tuple(line[:2]): line for line in logged[0][1:]} if len(logged) > 1 else {}
    body = ""
    for line in last:
        before = earlier.get(tuple(line[:2]))
        body += "<tr>" + "".join(f"<td>{to_text(word)}</td>" for word in line) + "</tr>"
        if before:
            words = ["", "before training", *before[2:]]
            body += "<tr>" + "".join(f'<td class="note">{to_text(word)}</td>' for word in words) + "</tr>"
    head = "".join(f"<th>{to_text(word)}</th>" for word in header)
    return (
        "<section><h2>Where errors come from</h2><p>Perception is right if the answer that the policy's own twin"
        " implies is right; reasoning is right if the policy states the answer that its twin implies.</p>"
        f"<table><tr>{head}</tr>{body}</table></section>"
    )


def request_section(rows: list[dict]) -> str:
    """What the policy asked specialists for, in the first and the last evaluation and in training; "" if nothing.

    Args:
      rows: the run log, in the order of steps. Figures of training are means over its last TAIL steps.
    """
    held = [row for row in rows if "eval/requested" in row]
    steps = [row for row in rows if "train/requested" in row][-TAIL:]
    shown = {"held-out, first": _means(held[:1]), "held-out, last": _means(held[-1:])} if len(held) > 1 else {}
    shown |= {"held-out": _means(held)} if len(held) == 1 else {}
    prefixes = dict.fromkeys(shown, "eval")
    if steps:
        name = f"training, mean of the last {len(steps)} steps"
        shown[name], prefixes[name] = _means(steps), "train"
    table = request_table.lines(shown, prefixes)
    if not table:
        return ""
    body = "".join("<tr>" + "".join(f"<td>{to_text(word)}</td>" for word in line) + "</tr>" for line in table[1:])
    head = "".join(f"<th>{to_text(word)}</th>" for word in table[0])
    return (
        "<section><h2>What the policy asks specialists for</h2><p>A unit of work is one operation on one picture or"
        " frame. Times are those of one training step, or of the whole evaluation.</p>"
        f"<table><tr>{head}</tr>{body}</table></section>"
    )


def _means(rows: list[dict]) -> dict[str, float]:
    """The mean of each number over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: [y for _, y in series(rows, name) if y is not None] for name in names}
    return {name: sum(known) / len(known) for name, known in values.items() if known}


def settings_section(config: dict) -> str:
    """All settings as nested tables behind a click, without what may be a password or key; "" where there are none."""

    def value(name: str, value: Any) -> str:
        if plain_text.is_secret(name) and value:
            return plain_text.HIDDEN
        return plain_text.without_keys(to_text(value))

    def nested(values: dict, depth: int = 3) -> str:
        cells = {k: nested(v, depth - 1) if isinstance(v, dict) and depth else value(k, v) for k, v in values.items()}
        rows = "".join(f"<tr><th>{to_text(k)}</th><td>{cell}</td></tr>" for k, cell in cells.items())
        return f"<table>{rows}</table>"

    if not config:
        return ""
    return f"<section><h2>Settings</h2><details><summary>all settings</summary>{nested(config)}</details></section>"


def _tile(rows: list[dict], name: str, label: str) -> str:
    values = [y for _, y in series(rows, name) if y is not None]
    note = "held-out"
    if name == "eval/reward" and not values:
        rewards = [y for _, y in series(rows, "train/reward") if y is not None]
        n = min(5, len(rewards) // 2) or 1
        note = f"training, mean of {n} step{'s' if n > 1 else ''}"
        values = [sum(rewards[:n]) / n, sum(rewards[-n:]) / n] if len(rewards) > 1 else rewards
    if not values:
        body = '<p class="none">not measured</p>'
    elif len(values) == 1:
        body = f'<p class="big">{values[0]:.3f}</p><p class="note">measured once</p>'
    else:
        gain = values[-1] - values[0]
        body = (
            f'<p class="big">{values[0]:.3f} <i>→</i> {values[-1]:.3f}</p>'
            f'<p class="{"up" if gain >= 0 else "down"}">{gain:+.3f}</p>'
        )
    return f'<div class="tile"><h3>{label} <small>{note}</small></h3>{body}</div>'
