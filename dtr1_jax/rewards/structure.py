"""The reward column `structure`: how sound a transcript is.

DT-R1 rewards a sound structure with all or nothing. All completions of a policy that writes none then earn the same,
and it learns nothing, so here the stages on the way to a sound transcript count too. The formula is our own:

    structure = 1                        where the transcript has no fault,
                CAP * passed / stages    otherwise.

Only a sound transcript scores more than CAP: one that passes all stages and still has a fault (parts out of order or
repeated, text outside the parts) scores CAP. A text without a closed part passes no stage and scores 0.
"""

from __future__ import annotations

from dtr1_jax.twin.transcript import Transcript

CAP = 0.75


def structure(transcript: Transcript) -> float:
    """The structure score of a completion, in [0, 1]; 1.0 exactly where `transcript.sound`, otherwise at most CAP.

    The stages: the twin part is there; the twin is sound; the thought is there; the answer part is there; the answer is
    sound. Where the example brought the twin, its two stages are left out, since the policy did not write it. Where
    specialists made the twin, the request takes its place: it is there; it is sound.
    """
    if transcript.sound:
        return 1.0
    if not transcript.parts:
        return 0.0
    parts = transcript.parts
    brought = transcript.twin is not None and "twin" not in parts
    stages = [] if brought else ["twin" in parts, transcript.twin is not None]
    if transcript.constructor == "specialists":
        stages = ["construct" in parts, transcript.request is not None]
    stages += ["think" in parts, "answer" in parts, transcript.answer is not None]
    return CAP * sum(stages) / len(stages)
