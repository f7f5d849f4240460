"""`--mode=check`: reads a data set before the first step, and says what a run would find in it."""

from __future__ import annotations

import json
import logging
from typing import Any

from dtr1_jax import config, draw, places
from dtr1_jax.data import duplicates, inspection, json_files, outlines, sources, tokenizer
from dtr1_jax.data.prompts import Style
from dtr1_jax.models.weights import native
from dtr1_jax.modes import results
from dtr1_jax.policies import pretrained
from dtr1_jax.report import data_sheet, data_summary
from dtr1_jax.run import atomic
from dtr1_jax.types import Example

SAMPLE, SECONDS = 256, 60.0  # examples and seconds for each split
DRAWN = 24  # examples on the sheet
STARTING, STARTING_SECONDS = 32, 0.7  # the same for the summary at the start of a training

log = logging.getLogger(__name__)


def run(c: config.Config, out: str | None = None) -> tuple[str, bool]:
    """Checks the data of the settings; returns the findings as text, and whether a run could use the data.

    With `out`, writes check.json with all findings and sheet.png with DRAWN examples into that folder.

    Raises ConfigError if the folder cannot be written or the settings do not fit the policy's files.
    """
    folder = results.open_folder(places.path(out), "--out") if out else None
    style, trouble = _style(c)
    findings: dict[str, Any] = {"data": _name(c)}
    opened: dict[str, sources.Source] = {}
    shown: list[tuple[str, Example]] = []
    for name, split in _splits(c):
        findings[name], examples = _part(c, split, style, opened, name)
        shown += [(name, example) for example in examples]
    findings["shared_pictures"] = _shared(opened)
    fault = _fault(findings)
    findings["usable"] = fault is None
    lines = [*data_summary.table(findings)]
    if trouble:
        lines.append(f"prompts and tiny targets are not counted: {trouble}")
    if folder is not None:
        with atomic.replacing(folder / "check.json") as partial:
            partial.write_text(json.dumps(findings, indent=2) + "\n", "utf-8")
        if shown:
            with atomic.replacing(folder / "sheet.png") as partial:
                partial.write_bytes(draw.to_png(data_sheet.sheet(_chosen(shown))))
        lines.append(f"written: {folder / 'check.json'}" + (f" and {folder / 'sheet.png'}" if shown else ""))
    counts = " and ".join(f"{findings[name].get('usable', 0)} of a sample for {name}" for name in data_summary.SPLITS)
    lines.append(f"not usable: {fault}" if fault else f"usable: {counts}")
    return "\n".join(map(_plain, lines)), fault is None


def describe(c: config.Config, train: sources.Source, heldout: sources.Source, style: Style) -> None:
    """Logs five lines about the data of a run that begins, from small samples."""
    findings: dict[str, Any] = {"data": _name(c)}
    for name, source in zip(data_summary.SPLITS, (train, heldout)):
        part = inspection.inspect(source, style, sample=STARTING, seconds=STARTING_SECONDS, seed=c.data.seed)
        findings[name] = part.facts
    for line in data_summary.summary(findings):
        log.info("%s", line)


def _plain(line: str) -> str:
    """A line without control characters, which a file name or a label may have."""
    return "".join(character if character.isprintable() else "?" for character in line)


def _splits(c: config.Config) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("train", c.data.train_split), ("heldout", c.data.eval_split)


def _style(c: config.Config) -> tuple[Style | None, str]:
    """The style of the policy's prompts, or None with the reason: data can be looked at without the policy's files."""
    try:
        return pretrained.load_policy(c).style, ""
    except (config.ConfigError, native.WeightsError, json_files.DataError, tokenizer.TokenizerError, OSError) as error:
        return None, " ".join(str(error).split())


def _part(
    c: config.Config, split: str, style: Style | None, opened: dict[str, sources.Source], name: str
) -> tuple[dict[str, Any], list[Example]]:
    """The findings about a split and examples to draw. Puts its source into `opened`, unless it cannot be opened."""
    with inspection.collected_warnings() as warnings:
        try:
            source = sources.open_source(c.data, split)
        except (json_files.DataError, OSError) as error:
            return {"split": split, "error": " ".join(str(error).split()), "warnings": warnings}, []
        opened[name] = source
        part = inspection.inspect(source, style, sample=SAMPLE, seconds=SECONDS, seed=c.data.seed, shown=DRAWN)
    return {"split": split, **part.facts, "warnings": warnings}, part.shown


def _shared(opened: dict[str, sources.Source]) -> dict[str, Any]:
    """Pictures that are in both splits."""
    files = [outlines.picture_files(opened[name]) if name in opened else [] for name in data_summary.SPLITS]
    found = duplicates.shared_files(*files)
    pairs = [[str(path) for path in pair] for pair in found.pairs]
    return {"files": len(files[1]), "count": len(pairs), "complete": found.complete, "examples": pairs[:20]}


def _fault(findings: dict[str, Any]) -> str | None:
    """Why no run could use the data; None if one could."""
    for name in data_summary.SPLITS:
        part = findings[name]
        if "error" in part:
            return f"{name}: {part['error']}"
        if not part["usable"]:
            first = part["messages"][0] if part["messages"] else "there are none"
            return f"{name}: none of {part['sample']} examples can be used; the first: {first}"
    return None


def _chosen(shown: list[tuple[str, Example]]) -> list[tuple[str, Example]]:
    """At most DRAWN examples, half of each split; where one has fewer, more of the other."""
    train, heldout = ([pair for pair in shown if pair[0] == name] for name in data_summary.SPLITS)
    few = min(len(heldout), max(DRAWN // 2, DRAWN - len(train)))
    return train[: DRAWN - few] + heldout[:few]


def _name(c: config.Config) -> str:
    return f"{c.data.source} {c.data.root}".strip()
