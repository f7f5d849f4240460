"""What figures and files need of an answered query: a line of predictions.jsonl and a few numbers, without pictures.

JSON can hold it, so the processes of a run can send it to each other: each answers a share of the queries, and all
figures are computed from the queries of all.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from dtr1_jax import mesh
from dtr1_jax.asking import requested_work
from dtr1_jax.asking.requested_work import Work
from dtr1_jax.evaluation import query_metrics, table
from dtr1_jax.evaluation.benchmarks.twin_fidelity import Fidelity
from dtr1_jax.evaluation.drawings import to_pngs
from dtr1_jax.evaluation.predict import Prediction
from dtr1_jax.twin import text


@dataclasses.dataclass(frozen=True)
class Answered:
    """One held-out query with its answer.

    Attributes:
      place: of the query in its source.
      row: its line of predictions.jsonl, see `row`.
      reasoned: whether its transcript has a thought.
      failed: whether the segmenter made no mask for it.
      fidelity, work, seconds: as in `predict.Prediction`.
      pictures: kind -> PNG file, for the queries of the gallery.
    """

    place: int
    row: dict[str, Any]
    reasoned: bool
    failed: bool
    fidelity: Fidelity | None = None
    work: Work | None = None
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    pictures: Mapping[str, bytes] = dataclasses.field(default_factory=dict)


def of_prediction(prediction: Prediction, draws: bool = False) -> Answered:
    """A prediction without its arrays; with its drawings as PNG files if `draws`."""
    return Answered(
        place=prediction.place,
        row=row(prediction),
        reasoned=prediction.transcript.reasoned,
        failed=prediction.outcome.failed,
        fidelity=prediction.fidelity,
        work=prediction.work,
        seconds=prediction.seconds,
        pictures=to_pngs(prediction) if draws else {},
    )


def of_all(device_mesh: jax.sharding.Mesh, predictions: Sequence[Prediction], pictures: int = 0) -> list[Answered]:
    """The answered queries of all processes in the order of the source. All processes must call it.

    Args:
      device_mesh: of the run.
      predictions: those of this process, in the order of the source.
      pictures: how many of the first queries of all come with their drawings.
    """
    places = json.dumps([prediction.place for prediction in predictions]).encode()
    first = sorted(place for part in mesh.of_shares(device_mesh, places) for place in json.loads(part))[:pictures]
    own = [of_prediction(prediction, prediction.place in first) for prediction in predictions]
    if jax.process_count() == 1:
        return own
    message = json.dumps([_to_json(query) for query in own]).encode()
    parts = [json.loads(part) for part in mesh.of_shares(device_mesh, message)]
    return sorted((_from_json(query) for part in parts for query in part), key=lambda query: query.place)


def row(prediction: Prediction) -> dict[str, Any]:
    """The line of predictions.jsonl for one query: the query, the transcript and its parts, and the measures from which
    evaluation/table.py makes the table.
    """
    example, transcript = prediction.example, prediction.transcript
    modality = query_metrics.modality(prediction.outcome)
    line = {
        "uid": example.uid, "query": example.query, "task": example.task, "modality": modality,
        "category": example.category, "level": example.level, "transcript": transcript.text,
        "sound": transcript.sound, "faults": [dataclasses.asdict(f) for f in transcript.faults],
        "thought": transcript.thought, "columns": prediction.columns, **prediction.measures,
        "answer": json.loads(text.dumps_answer(transcript.answer, transcript.twin)) if transcript.answer else None,
        "twin": json.loads(text.dumps_twin(transcript.twin)) if transcript.twin else None,
        "references": list(example.target.references),
    }  # fmt: skip
    line |= {"benchmark": prediction.benchmark} if prediction.benchmark else {}
    return line | {"metric": table.main_metric(example.task, modality), "value": table.value(line)}


def _to_json(query: Answered) -> dict[str, Any]:
    values = {field.name: getattr(query, field.name) for field in dataclasses.fields(query)}
    return values | {
        "work": None if query.work is None else requested_work.to_counts(query.work),
        "pictures": {kind: base64.b64encode(png).decode() for kind, png in query.pictures.items()},
    }


def _from_json(values: dict[str, Any]) -> Answered:
    fidelity, work = values["fidelity"], values["work"]
    changed = {
        "fidelity": None if fidelity is None else Fidelity(*fidelity),
        "work": None if work is None else requested_work.of_counts(work),
        "pictures": {kind: base64.b64decode(png) for kind, png in values["pictures"].items()},
    }
    return Answered(**values | changed)
