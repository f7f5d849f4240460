"""What a policy asks specialists for, as counts that can be added, and the figures that they give.

A *unit* of work is one operation on one picture, or on one frame of a video. Requests of a batch that are equal and
about equal pictures are one *look*, and its units count once. Whether work is needless is decided as in the reward
column `economy` (rewards/economy.py), for each completion with a sound request.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence

from dtr1_jax.twin.construct import OPS, Request

# Phases of a step or an evaluation, in their order: the policy writes its requests, the specialists look, the twins go
# into the cache, the policy writes its answers.
PHASES = ("write_request", "perceive", "insert", "write_answer")


@dataclasses.dataclass(frozen=True)
class Work:
    """What some completions asked for. Counts of several are added by `added`.

    Attributes:
      queries: number of queries.
      completions: number of completions.
      requests: completions with a sound request.
      looks: different pairs of a picture (or video) and a request.
      failures: looks where something could not be done.
      units: operation -> units of the looks.
      ops: operations of the sound requests, together.
      phrases: phrases of the sound requests, together.
      frames: pictures or frames of the sound requests, together.
      needless: units that `economy` counts as needless, of all sound requests.
      weighed: units that `economy` counts, of all sound requests.
      twins: completions with an inserted twin.
      objects: objects of these twins, together.
      hits: calls of the perceiver's memory of earlier results that found one.
      lookups: all calls of this memory.
    """

    queries: int = 0
    completions: int = 0
    requests: int = 0
    looks: int = 0
    failures: int = 0
    units: Mapping[str, int] = dataclasses.field(default_factory=dict)
    ops: int = 0
    phrases: int = 0
    frames: int = 0
    needless: int = 0
    weighed: int = 0
    twins: int = 0
    objects: int = 0
    hits: int = 0
    lookups: int = 0


def of_request(request: Request, needless: int, weighed: int) -> Work:
    """The counts of one completion with a sound request; its look is counted by `of_look`."""
    return Work(
        requests=1, ops=len(request.ops), phrases=len(request.phrases), frames=_pictures(request), needless=needless,
        weighed=weighed,
    )  # fmt: skip


def of_look(request: Request, failed: bool) -> Work:
    """The counts of one look."""
    return Work(looks=1, failures=int(failed), units=dict.fromkeys(request.ops, _pictures(request)))


def added(parts: Sequence[Work]) -> Work:
    """The sums of all counts."""
    units: collections.Counter[str] = collections.Counter()
    for part in parts:
        units.update(part.units)
    names = [field.name for field in dataclasses.fields(Work) if field.name != "units"]
    return Work(units=dict(units), **{name: sum(getattr(part, name) for part in parts) for name in names})


def to_counts(work: Work) -> dict[str, float]:
    """All counts by name, the same names in the same order for any work, so that processes can add theirs."""
    names = [field.name for field in dataclasses.fields(Work) if field.name != "units"]
    return {f"units/{op}": work.units.get(op, 0) for op in OPS} | {name: getattr(work, name) for name in names}


def of_counts(counts: Mapping[str, float]) -> Work:
    """The work of counts that `to_counts` names."""
    whole = {name: round(number) for name, number in counts.items()}
    units = {op: whole.pop(f"units/{op}") for op in OPS}
    return Work(units={op: number for op, number in units.items() if number}, **whole)


def figures(work: Work, seconds: Mapping[str, float]) -> dict[str, float]:
    """The figures by name, without "train/" or "eval/" before them; docs/perception.md explains each.

    A figure without anything to measure is left out, such as the share of needless work where no request is sound.

    Args:
      work: the counts.
      seconds: names of PHASES -> seconds that they took together; others are ignored.
    """
    queries = max(work.queries, 1)
    numbers = {
        "requested": work.requests / max(work.completions, 1), "looks": work.looks / queries,
        "looks_failed": work.failures, "work": sum(work.units.values()) / queries,
        **{f"work_{op}": work.units.get(op, 0) / queries for op in OPS},
        "twin_objects": work.objects / max(work.twins, 1),
    }  # fmt: skip
    if work.requests:
        numbers |= {
            "ops_asked": work.ops / work.requests, "phrases_asked": work.phrases / work.requests,
            "frames_asked": work.frames / work.requests,
        }  # fmt: skip
    numbers |= {"needless": work.needless / work.weighed} if work.weighed else {}
    numbers |= {"remembered": work.hits / work.lookups} if work.lookups else {}
    return numbers | {f"{name}_s": seconds[name] for name in PHASES if name in seconds}


def _pictures(request: Request) -> int:
    """How many pictures a request is about: 1, or the frames of a video."""
    return max(1, len(request.frames))
