"""How sound a transcript is, as a number.

DT-R1 rewards a sound structure with all or nothing. A policy far from sound then sees no difference between its
completions, so here the steps on the way count too. The formula is our own:

    structure = 1                        where the transcript has no fault,
                CAP * passed / stages    otherwise.

CAP < 1 leaves a gap that only a sound transcript closes: one that passes all stages and still has a fault (parts out
of order or repeated, text outside them) scores CAP. A text without a closed part passes none: garbage scores 0.
"""

from __future__ import annotations

from dtr1_jax.twin.transcript import Transcript

CAP = 0.75


def structure(transcript: Transcript) -> float:
    """Scores the structure of a completion.

    Stages: the twin part is there; the twin is sound; the thought is there; the answer part is there; the answer is
    sound. A twin that the example brought is nobody's merit: its two stages are left out.

    Returns:
      A float in [0, 1]; 1.0 exactly where `transcript.sound`, otherwise at most CAP.
    """
    if transcript.sound:
        return 1.0
    if not transcript.parts:
        return 0.0
    parts = transcript.parts
    brought = transcript.twin is not None and "twin" not in parts
    stages = [] if brought else ["twin" in parts, transcript.twin is not None]
    stages += ["think" in parts, "answer" in parts, transcript.answer is not None]
    return CAP * sum(stages) / len(stages)
