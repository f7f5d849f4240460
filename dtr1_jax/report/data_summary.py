"""The findings about a data set (data/inspection.py) as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

TOP, RARE = 10, 5  # labels that are listed
SPLITS = ("train", "heldout")


def table(findings: Mapping[str, Any]) -> Iterator[str]:
    """All findings, for --mode=check. `findings` has "data", "train", "heldout" and "shared_pictures"."""
    yield f"data: {findings['data']}"
    for name in SPLITS:
        part = findings[name]
        if "error" in part:
            yield f"{name}: cannot be opened: {part['error']}"
            continue
        yield f"{name} (split {part['split']!r}): {part['examples']:,} examples: {_counts(part['tasks'])}"
        yield f"  sample of {part['sample']}: {part['usable']} can be used{_targets(part)}"
        yield from (f"  {line}" for line in _details(part))
        yield from (f"  left out {count} of the sample: {reason}" for reason, count in part["unusable"].items())
        yield from (f"  such as: {message}" for message in part["messages"])
        yield from (f"  warning: {text}" for text in part["warnings"])
    yield _shared(findings)


def summary(findings: Mapping[str, Any]) -> list[str]:
    """Five lines about the most important findings, for the start of a training."""
    train, heldout = (findings[name] for name in SPLITS)
    counts = [f"{name} {part['examples']:,} ({_kinds(part['tasks'])})" for name, part in zip(SPLITS, (train, heldout))]
    left = sum(part["sample"] - part["usable"] for part in (train, heldout))
    size = train["sample"] + heldout["sample"]
    reasons = [reason for part in (train, heldout) for reason in part["unusable"]]
    return [
        f"data: {findings['data']}: {', '.join(counts)}",
        f"  sample of {train['sample']} for training: {train['usable']} can be used{_targets(train)}",
        f"  {_labels(train)}",
        f"  {_prompts(train)}",
        f"  left out {left} of a sample of {size}"
        + (f": {reasons[0]}" if reasons else "")
        + "; --mode=check says more",
    ]


def _details(part: Mapping[str, Any]) -> Iterator[str]:
    if part["sizes"]:
        small, large = ("x".join(map(str, size)) for size in part["sizes"])
        yield f"pictures: {small} to {large} pixels" + (" (decoded)" if small != large else "")
    if part["tiny_below"]:
        yield (
            f"tiny targets: {part['tiny_boxes']} of {part['boxes']} boxes have a side below {part['tiny_below']} "
            f"pixels as the policy sees them; {part['tiny_masks']} of {part['masks']} masks are below "
            f"{part['tiny_below']} x {part['tiny_below']} pixels"
        )
    if part["cut_scenes"]:
        yield (
            f"left out objects: {part['cut_scenes']} of {part['usable']} scenes have more than data.max_objects; those "
            "of the answer and the largest are kept, and only the largest where the prompt shows the twin"
        )
    yield _labels(part)
    if part["answers"]:
        yield f"answers: {_top(part['answers'])}"
    yield _prompts(part)


def _targets(part: Mapping[str, Any]) -> str:
    """Empty targets and objects, as the end of a sentence."""
    text = ""
    if part["pointing"]:
        share = part["empty_targets"] / part["pointing"]
        text += f"; {part['empty_targets']} of {part['pointing']} targets ({share:.0%}) are empty: nothing fits"
    if part["objects"]:
        text += "; {fewest} to {most} objects in a picture, {mean} in the mean".format(**part["objects"])
    return text


def _labels(part: Mapping[str, Any]) -> str:
    labels, of = part["labels"], "all annotations" if part["labels_of"] == "all" else "the sample"
    if not labels:
        return f"labels: none in {of}: the examples have no annotated objects"
    text = f"labels: {len(labels)} in {of}: {_top(labels)}"
    if len(labels) > TOP:
        rare = list(labels.items())[-min(RARE, len(labels) - TOP) :]
        text += f"; rare: {', '.join(f'{name} {count}' for name, count in rare)}"
    return text


def _prompts(part: Mapping[str, Any]) -> str:
    found = part.get("prompt")
    if found is None:
        return "prompts: not counted, because the policy cannot be opened"
    text = f"prompts: the longest of the sample has {found['longest']} of {found['limit']} tokens"
    if found["too_long"]:
        text += f"; {found['too_long']} are too long and are left out: raise policy.prompt_tokens ({found['uid']})"
    return text


def _top(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in list(counts.items())[:TOP])


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"


def _kinds(tasks: Mapping[str, int]) -> str:
    return _counts(tasks) if len(tasks) <= 2 else f"{len(tasks)} kinds of query"


def _shared(findings: Mapping[str, Any]) -> str:
    shared = findings["shared_pictures"]
    if shared["files"] == 0:
        return "pictures in both splits: none, they are generated or not readable"
    if not shared["count"]:
        rest = "" if shared["complete"] else " so far; large files were not compared"
        return f"pictures in both splits: none of {shared['files']:,} held-out files, by content{rest}"
    first, second = shared["examples"][0]
    more = "" if shared["complete"] else "; large files were not compared"
    return (
        f"pictures in both splits: {shared['count']:,} of {shared['files']:,} held-out files have the content of a "
        f"training file, such as {second} and {first}{more}; remove them from one split, else the scores are too good"
    )
