"""Specialists that read drawn pictures: each colour is a class, and its pixels are the mask."""

import numpy as np

from dtr1_jax.specialists.findings import DepthMap, Detections, Masks, TrackedMasks
from dtr1_jax.twin import masks as mask_codes

COLOURS = {"person": (255, 0, 0), "dog": (0, 0, 255), "dining table": (0, 128, 0), "car": (255, 255, 0)}


def picture(*boxes, size=(80, 120)):
    """A gray picture with filled boxes (label, x1, y1, x2, y2) in pixels; later ones cover earlier ones."""
    image = np.full((*size, 3), 128, np.uint8)
    for label, x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = COLOURS[label]
    return image


class Counting:
    """Counts the pictures it is shown; raises for pictures of a shape in `broken`."""

    def __init__(self, broken=()):
        self.pictures, self.broken, self.closed = 0, broken, 0

    def look(self, images):
        if any(image.shape[:2] in self.broken for image in images):
            raise RuntimeError("the model broke")
        self.pictures += len(images)

    def close(self):
        self.closed += 1


class Detector(Counting):
    """A detector with classes, whose boxes are those of the colours; `repeats` gives each one several times."""

    classes = tuple(COLOURS)

    def __init__(self, broken=(), repeats=1, score=0.9):
        super().__init__(broken)
        self.repeats, self.score = repeats, score

    def detect(self, images, threshold=0.5):
        self.look(images)
        return [self._one(image, threshold) for image in images]

    def _one(self, image, threshold, labels=None):
        rows = []
        for label, colour in COLOURS.items():
            box = mask_codes.bbox((image == colour).all(-1)) if labels is None or label in labels else None
            rows += [(box, self.score - 0.01 * k, label) for k in range(self.repeats) if box is not None]
        rows = [row for row in rows if row[1] > threshold]
        boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
        return Detections(boxes, np.array([row[1] for row in rows], np.float32), tuple(row[2] for row in rows))


class OpenDetector(Detector):
    """A detector that takes phrases; it knows the names of COLOURS."""

    classes = ()

    def detect(self, images, phrases, threshold=0.5):
        self.look(images)
        return [self._one(image, threshold, labels) for image, labels in zip(images, phrases, strict=True)]


class Segmenter(Counting):
    """The pixels of the colour in the middle of a box."""

    def segment(self, images, boxes):
        self.look(images)
        results = []
        for image, rows in zip(images, boxes, strict=True):
            h, w = image.shape[:2]
            middles = [image[int((b[1] + b[3]) / 2 * h), int((b[0] + b[2]) / 2 * w)] for b in rows]
            masks = np.array([(image == middle).all(-1) for middle in middles]).reshape(-1, h, w)
            results.append(Masks(masks, np.full(len(rows), 0.8, np.float32)))
        return results


class Depth(Counting):
    """Lower rows are nearer."""

    def estimate(self, images):
        self.look(images)
        return [
            DepthMap(np.repeat(np.linspace(0, 1, i.shape[0], dtype=np.float32)[:, None], i.shape[1], 1)) for i in images
        ]


class Track:
    """A track as trackers/linking.link returns it."""

    def __init__(self, label, boxes):
        self.label, self.boxes = label, boxes


def link(frames, detections, gap, high, low):
    """One track for each label, of its first box in each frame."""
    labels = dict.fromkeys(label for found in detections for label in found.labels)
    tracks = []
    for label in labels:
        boxes = np.zeros((len(detections), 4), np.float32)
        for t, found in enumerate(detections):
            if label in found.labels:
                boxes[t] = found.boxes[found.labels.index(label)]
        tracks.append(Track(label, boxes))
    return tracks


class Follower:
    """A tracker that follows the colour in the middle of each prompt, as Sam2.track does.

    It loses all objects `lost` frames after the first of a call. `calls` has (frames, prompts) of each call.
    """

    def __init__(self, lost=99):
        self.lost, self.calls = lost, []

    def __call__(self, frames, prompts):
        self.calls.append((len(frames), len(prompts)))
        colours = [frames[0][self._middle(frames[0], prompt)] for prompt in prompts]
        for k, image in enumerate(frames):
            masks = np.array([(image == colour).all(-1) for colour in colours])
            present = masks.any((1, 2)) & (k < self.lost)
            yield TrackedMasks(
                masks=masks & present[:, None, None], scores=np.full(len(prompts), 0.7, np.float32), frame=k,
                objects=tuple(prompt.object for prompt in prompts), present=np.where(present, 5.0, -5.0),
            )  # fmt: skip

    def _middle(self, image, prompt):
        if prompt.mask is not None:
            return tuple(np.argwhere(prompt.mask)[0])
        h, w = image.shape[:2]
        return int((prompt.box[1] + prompt.box[3]) / 2 * h), int((prompt.box[0] + prompt.box[2]) / 2 * w)
