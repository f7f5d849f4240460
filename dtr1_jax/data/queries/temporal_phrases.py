"""The phrases of queries about time in the words of the splits; see phrases.py."""

from __future__ import annotations

from collections.abc import Iterator

from dtr1_jax.data.queries.phrases import Phrases

STATES = {  # name of the filter: relative clauses
    "moves left": Phrases(
        ("that moves to the left", "that goes left", "that is going left"),
        ("that is moving left",),
        ("which goes to the left",),
    ),
    "moves right": Phrases(
        ("that moves to the right", "that goes right", "that is going right"),
        ("that is moving right",),
        ("which goes to the right",),
    ),
    "moves up": Phrases(
        ("that moves up", "that goes to the top", "that is going to the top"),
        ("that is moving to the top",),
        ("which goes up",),
    ),
    "moves down": Phrases(
        ("that moves down", "that goes to the bottom", "that is going to the bottom"),
        ("that is moving to the bottom",),
        ("which goes down",),
    ),
    "still": Phrases(
        ("that stays where it is", "that does not move", "that does not go anywhere"),
        ("that does not go from where it is",),
        ("which stays where it is",),
    ),
    "moves": Phrases(
        ("that moves", "that does not stay where it is", "that is going somewhere"),
        ("that is moving",),
        ("which does move",),
    ),
    "enters": Phrases(
        ("that comes into the picture", "that was not there at first", "that was not to be seen at first"),
        ("that was not in the picture at first",),
        ("which comes in",),
    ),
    "leaves": Phrases(
        ("that leaves the picture", "that is gone at the end", "that is not to be seen at the end"),
        ("that is not there at the end",),
        ("which is gone at the end",),
    ),
    "hidden": Phrases(
        ("that is hidden for a while", "that goes out of sight and comes back", "that is not to be seen for a while"),
        ("that is out of sight for a while",),
        ("which is hidden for a while",),
    ),
    "turns": Phrases(
        ("that turns back", "that goes one way and then comes back", "that turns and goes back"),
        ("that turns and comes back",),
        ("which goes back",),
    ),
    "stays": Phrases(
        ("that is there from the first moment to the last", "that is in the picture all the time"),
        ("that is there all the time",),
        ("which is in the picture from the first moment to the last",),
    ),
}

EXTREMES = {
    "fastest": Phrases(
        ("the fastest {}", "the {}, whichever moves most quickly", "the {} that is fastest of all"),
        ("the {}, the one that is fastest",),
        ("the {}, the one that moves most quickly",),
    ),
    "slowest": Phrases(
        ("the slowest moving {}", "the {}, whichever moves most slowly", "the {} that is slowest of those that move"),
        ("the {}, the one that is slowest of all that move",),
        ("the {}, the one that moves most slowly",),
    ),
    "first to enter": Phrases(
        ("the first {} to come in", "the {}, whichever comes in first", "the {} that is first to come in"),
        ("the {}, the first one to come in",),
        ("the {}, the one that comes in first",),
    ),
    "last to enter": Phrases(
        ("the last {} to come in", "the {}, whichever comes in last", "the {} that is last to come in"),
        ("the {}, the last one to come in",),
        ("the {}, the one that comes in last",),
    ),
    "first to leave": Phrases(
        ("the first {} to leave", "the {}, whichever leaves first", "the {} that is first to leave"),
        ("the {}, the first one to leave",),
        ("the {}, the one that leaves first",),
    ),
    "last to leave": Phrases(
        ("the last {} to leave", "the {}, whichever leaves last", "the {} that is last to leave"),
        ("the {}, the last one to leave",),
        ("the {}, the one that leaves last",),
    ),
}

RELATIONS = {  # braces stand for the anchor
    "towards": Phrases(
        ("that moves towards {}", "that comes closer to {}", "that is coming closer to {}"),
        ("that is moving closer to {}",),
        ("which goes towards {}",),
    ),
    "away from": Phrases(
        ("that moves away from {}", "that goes farther from {}", "that is going farther from {}"),
        ("that is moving farther from {}",),
        ("which goes away from {}",),
    ),
    "same way as": Phrases(
        ("that moves the same way as {}", "that goes where {} goes", "that is going the same way as {}"),
        ("that is moving the same way as {}",),
        ("which goes the same way as {}",),
    ),
    "faster than": Phrases(
        ("that moves faster than {}", "that is faster than {}", "that is going faster than {}"),
        ("that is moving faster than {}",),
        ("which goes faster than {}",),
    ),
    "slower than": Phrases(
        ("that moves but slower than {}", "that is moving and is slower than {}", "that does move but slower than {}"),
        ("that does move, slower than {}",),
        ("which moves but slower than {}",),
    ),
}

# Name of the event: (relative clauses for the objects, clauses for the anchor). In a relative clause, {0} stands for
# "before" or "after" and {1} for the anchor's clause, as in "that leaves before the mug comes in".
EVENTS = {
    "enters": (
        Phrases(
            ("that comes in {0} {1}", "that comes into the picture {0} {1}", "that comes to be seen {0} {1}"),
            ("that enters the picture {0} {1}",),
            ("which comes in {0} {1}",),
        ),
        Phrases(
            ("{} comes in", "{} comes into the picture", "{} comes to be seen"),
            ("{} enters the picture",),
            ("{} is seen to come in",),
        ),
    ),
    "leaves": (
        Phrases(
            ("that leaves {0} {1}", "that is gone {0} {1}", "that goes from the picture {0} {1}"),
            ("that goes out of the picture {0} {1}",),
            ("which leaves {0} {1}",),
        ),
        Phrases(
            ("{} leaves", "{} is gone", "{} goes from the picture"), ("{} goes out of the picture",), ("{} goes away",)
        ),
    ),
}
TIMES = ("before", "after")


def pools() -> Iterator[Phrases]:
    """Yields all phrases of this module, so that a test can check them."""
    for table in (STATES, EXTREMES, RELATIONS):
        yield from table.values()
    for pair in EVENTS.values():
        yield from pair
