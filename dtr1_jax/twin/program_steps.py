"""The steps by which a program reaches its answer, as the text of a thought."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dtr1_jax.twin import programs
from dtr1_jax.twin.things import Thing
from dtr1_jax.types import Program


def steps(program: Program, things: Sequence[Thing]) -> str:
    """A thought with one step for each operation of the program, such as `dog 2,3. left of 1: 3.`

    A step is the operation and the ids at which it ends; of "label" it is each label with its ids. The object to which
    others are related has its steps first. "none" stands where nothing fits. "" if the program cannot be executed on
    these objects.

    Raises ValueError if the program has an operation that twin/programs.py does not know.
    """
    if not programs.execute(program, things).executable:
        return ""
    return " ".join(f"{step}." for step in _steps(program, things))


def _steps(program: Program, things: Sequence[Thing]) -> list[str]:
    name, *arguments = program
    inner = [argument for argument in arguments if isinstance(argument, tuple) and programs.is_program(argument)]
    lines = [step for one in reversed(inner) for step in _steps(one, things)]
    found = programs.execute(program, things)
    if name == "label":
        of_label = {x.label: [] for x in things if x.id in found.ids}
        for x in things:
            if x.id in found.ids:
                of_label[x.label].append(x.id)
        line = ", ".join(f"{label} {_ids(ids)}" for label, ids in of_label.items()) or f"{arguments[0]} none"
    elif found.texts:
        line = f"{name}: {found.texts[0]}"
    elif len(inner) == 2 and name != "both" and (anchor := programs.execute(inner[1], things).ids):
        line = f"{name} {_largest(anchor, things)}: {_ids(found.ids)}"
    else:
        line = f"{name}: {_ids(found.ids)}"
    return list(dict.fromkeys((*lines, line)))


def _largest(ids: Iterable[int], things: Sequence[Thing]) -> int:
    """The one object that is meant by several (twin/programs.py)."""
    return max((x for x in things if x.id in set(ids)), key=lambda x: x.area).id


def _ids(ids: Iterable[int]) -> str:
    return ",".join(map(str, sorted(ids))) or "none"
