"""Is a twin true? Its objects are matched with the annotated ones, and the facts of matched objects are compared.

One matching of objects serves all columns: the one-to-one matching with the largest sum of vIoU (the IoU of boxes, for
a picture; Kuhn 1955, the Hungarian method). A pair's facts count in full from an IoU of MATCH_IOU on and in proportion
below: weight = min(1, IoU / MATCH_IOU). With K = max(objects of the twin, annotated objects), the columns are

    twin_iou         sum of the pairs' IoU / K
    twin_labels      sum of the weights of the pairs with equal labels / K
    twin_attributes  F1: 2 * weighted number of shared attributes of pairs / all attributes of both sides
    twin_depth       weighted share of the annotated pairs of objects, one nearer than the other, that the twin orders
                     the same way
    twin_relations   relations that the annotation confirms / stated relations that it can check; 1 if there are objects
                     but no such relation
    twin_tracks      videos: sum over the pairs of weight * (frames in which both are visible / frames in which either
                     is) * agreement of velocities / K

So an object too many and a missing object cost the same, and what is said of objects that are not there counts as
false. A column whose facts the annotation lacks has no value, see `twin_facts.known`. The columns are our own.

A relation is checked by the annotated boxes and depths of the pair, on average over their frames:

    left of, right of, above, below   the centres are GAP apart, or the boxes share less than TOUCH of the axis
    in front of, behind               the annotated depths; not checkable where one of them is not known
    inside, around                    INSIDE of the one box lies within the other one
    overlapping                       the boxes overlap
    touching                          false if the boxes are APART; else not checkable, since boxes that meet may
                                      belong to things that do not
    on                                false if the boxes are APART, or the first one is lower by GAP; else not
                                      checkable, since a box does not say what carries what

What is not checkable counts neither way. Words that are none of these relations, and relations of an object that is not
there, count as false.

Everything here is jnp for one twin; callers vmap over queries and rollouts. Boxes are x1,y1,x2,y2 in the unit frame.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dtr1_jax.rewards.geometry import box_iou, track_iou_matrix
from dtr1_jax.types import pytree

COLUMNS = ("twin_iou", "twin_labels", "twin_attributes", "twin_depth", "twin_relations", "twin_tracks")
MATCH_IOU = 0.5
GAP = 0.05  # unit frame: two centres closer than this have no order along an axis, as in generated queries
TOUCH = 0.01  # unit frame: boxes that overlap by at most this along an axis are apart along it, as in generated queries
APART = 0.02  # unit frame: objects whose boxes are farther from one another along an axis are not in contact
INSIDE = 0.9  # share of its area that an object inside another one has within it
SLOW = 0.02  # unit frame per frame: this much difference of velocity costs all agreement on an object that stands still
# Kinds of relations, in the order of their numbers in Facts.relation_r3.
RELATIONS = (
    "left of", "right of", "above", "below", "in front of", "behind", "inside", "around", "overlapping", "touching",
    "on",
)  # fmt: skip


@pytree
class Facts:
    """The facts of one twin, or of the annotation of one picture or video, padded to M objects.

    Attributes:
      box_mt4: float32[M, T, 4], the box in each frame, unit frame; T = 1 for a picture.
      visible_mt: bool[M, T], True if the object has a box in the frame. Example row: [0 1 1 0].
      count: int32[], number of objects; more than M if some were left out, the smallest first.
      label_m: int32[M], number of the label's name, -1 at padding.
      attribute_ma: int32[M, A], numbers of different words, -1 at padding.
      attributes: int32[], number of attributes of all `count` objects.
      depth_m: int32[M], 1 = nearest, 0 = not known.
      velocity_m2: float32[M, 2], mean motion dx, dy of the centre from one frame to the next, unit frame.
      relation_r3: int32[R, 3], row of the first object, kind (index in RELATIONS; -1 = not a known kind), row of the
        second object; rows are -1 at padding and for objects that were left out.
      relations: int32[], number of relations.
    """

    box_mt4: Any
    visible_mt: Any
    count: Any
    label_m: Any
    attribute_ma: Any
    attributes: Any
    depth_m: Any
    velocity_m2: Any
    relation_r3: Any
    relations: Any


def twin_columns(twin: Facts, truth: Facts) -> dict[str, jax.Array]:
    """float[] for each of COLUMNS, in [0, 1]: one twin against the annotation.

    Two sides without objects agree in everything. `twin` and `truth` have the same T, and may differ in M.
    """
    score_mn = track_iou_matrix(twin.box_mt4, twin.visible_mt, truth.box_mt4, truth.visible_mt)
    score_mn = jnp.where(twin.visible_mt.any(1)[:, None] & truth.visible_mt.any(1)[None], score_mn, 0.0)
    row_k, column_k = optax.assignment.hungarian_algorithm(-score_mn)
    iou_k = score_mn[row_k, column_k]
    weight_k = jnp.minimum(iou_k / MATCH_IOU, 1.0)
    most = jnp.maximum(twin.count, truth.count)

    def of_objects(sum_: jax.Array) -> jax.Array:
        return jnp.where(most == 0, 1.0, sum_ / jnp.maximum(most, 1))

    same_k = twin.label_m[row_k] == truth.label_m[column_k]
    motion_k = _same_motion(twin, truth, row_k, column_k)
    return {
        "twin_iou": of_objects(iou_k.sum()),
        "twin_labels": of_objects((weight_k * same_k).sum()),
        "twin_attributes": _attribute_f1(twin, truth, row_k, column_k, weight_k),
        "twin_depth": _depth_order(twin, truth, row_k, column_k, weight_k),
        "twin_relations": _confirmed_relations(twin, truth, row_k, column_k, weight_k),
        "twin_tracks": of_objects((weight_k * motion_k).sum()),
    }


def _attribute_f1(twin, truth, row_k, column_k, weight_k):
    """F1 of the attributes of both sides; 1 if neither has any."""
    a_ka, b_ka = twin.attribute_ma[row_k], truth.attribute_ma[column_k]
    shared_k = ((a_ka[:, :, None] == b_ka[:, None, :]) & (a_ka >= 0)[:, :, None]).any(2).sum(1)
    total = twin.attributes + truth.attributes
    return jnp.where(total == 0, 1.0, 2 * (weight_k * shared_k).sum() / jnp.maximum(total, 1))


def _depth_order(twin, truth, row_k, column_k, weight_k):
    """Weighted share of the annotated ordered pairs that the twin orders the same way; 1 if there are no such pairs."""
    a_k, b_k = twin.depth_m[row_k], truth.depth_m[column_k]
    known_kk = (b_k > 0)[:, None] & (b_k > 0)[None]
    nearer_kk = known_kk & (b_k[:, None] < b_k[None])
    agreed_kk = nearer_kk & (a_k > 0)[:, None] & (a_k > 0)[None] & (a_k[:, None] < a_k[None])
    # The pairs are counted over all annotated objects, whether the twin has them or not.
    depth_n = truth.depth_m
    pairs = ((depth_n > 0)[:, None] & (depth_n[:, None] < depth_n[None])).sum()
    share = (agreed_kk * weight_k[:, None] * weight_k[None]).sum() / jnp.maximum(pairs, 1)
    return jnp.where(pairs == 0, 1.0, share)


def _same_motion(twin, truth, row_k, column_k):
    """float[K] in [0, 1]: agreement of two objects in the frames where they are visible, times that of velocities."""
    a_kt, b_kt = twin.visible_mt[row_k], truth.visible_mt[column_k]
    both_k, either_k = (a_kt & b_kt).sum(1), (a_kt | b_kt).sum(1)
    a_k2, b_k2 = twin.velocity_m2[row_k], truth.velocity_m2[column_k]
    error_k = jnp.linalg.norm(a_k2 - b_k2, axis=-1)
    agreement_k = jnp.maximum(1 - error_k / (jnp.linalg.norm(b_k2, axis=-1) + SLOW), 0)
    return both_k / jnp.maximum(either_k, 1) * agreement_k


def _confirmed_relations(twin, truth, row_k, column_k, weight_k):
    """Share of the stated relations that hold between the annotated objects of the pairs, of those that are checkable.

    Without any such relation it is 1, since nothing false is stated; but a twin without objects says nothing, and has
    0.
    """
    m = len(twin.label_m)
    # Row of the annotation that a row of the twin is matched with; -1 if the boxes do not agree well enough.
    partner_m = jnp.full(m, -1).at[row_k].set(jnp.where(weight_k >= 1, column_k, -1))
    first_r, kind_r, second_r = twin.relation_r3.T
    a_r, b_r = (jnp.where(row_r >= 0, partner_m[row_r], -1) for row_r in (first_r, second_r))
    holds_r, checkable_r = jax.vmap(lambda kind, a, b: _holds(truth, kind, a, b))(kind_r, a_r, b_r)
    possible_r = (a_r >= 0) & (b_r >= 0) & (kind_r >= 0) & (a_r != b_r)
    checked = twin.relations - (possible_r & ~checkable_r).sum()
    unstated = jnp.where((twin.count > 0) | (truth.count == 0), 1.0, 0.0)
    return jnp.where(checked == 0, unstated, (holds_r & possible_r).sum() / jnp.maximum(checked, 1))


def _holds(truth, kind, a, b):
    """(bool[], whether annotated object `a` is in the relation `kind` to object `b`; bool[], whether it is checkable).

    What is not checkable does not hold.
    """
    both_t = truth.visible_mt[a] & truth.visible_mt[b]

    def mean(x_t):
        return jnp.where(both_t, x_t, 0.0).sum() / jnp.maximum(both_t.sum(), 1)

    a_t4, b_t4 = truth.box_mt4[a], truth.box_mt4[b]
    dx, dy = (mean((b_t4[:, i] + b_t4[:, i + 2] - a_t4[:, i] - a_t4[:, i + 2]) / 2) for i in (0, 1))
    # The space between the boxes along each axis; below 0, they overlap by so much.
    gap_x, gap_y = (mean(jnp.maximum(a_t4[:, i] - b_t4[:, i + 2], b_t4[:, i] - a_t4[:, i + 2])) for i in (0, 1))
    near, far = truth.depth_m[a], truth.depth_m[b]
    ordered = (near > 0) & (far > 0)
    overlap = mean(jax.vmap(box_iou)(a_t4, b_t4)) > 0
    apart = jnp.maximum(gap_x, gap_y) > APART

    def side(distance, gap):
        return (distance >= GAP) | ((gap >= -TOUCH) & (distance >= TOUCH))

    holds = jnp.array([
        side(dx, gap_x), side(-dx, gap_x), side(dy, gap_y), side(-dy, gap_y), ordered & (near < far),
        ordered & (near > far),
        mean(jax.vmap(_share_within)(a_t4, b_t4)) >= INSIDE, mean(jax.vmap(_share_within)(b_t4, a_t4)) >= INSIDE,
        overlap, False, False,
    ])  # fmt: skip
    always = jnp.array(True)
    checkable = jnp.array([
        *(always,) * 4, ordered, ordered, *(always,) * 3, apart, apart | (dy <= -GAP),
    ])  # fmt: skip
    seen = both_t.any()
    return holds[kind] & seen, checkable[kind] | ~seen


def _share_within(a_4, b_4):
    """Share of the area of box `a` that lies within box `b`; 0 if `a` has no area."""
    low_2, high_2 = jnp.maximum(a_4[:2], b_4[:2]), jnp.minimum(a_4[2:], b_4[2:])
    area = jnp.prod(jnp.maximum(a_4[2:] - a_4[:2], 0))
    return jnp.where(area > 0, jnp.prod(jnp.maximum(high_2 - low_2, 0)) / jnp.where(area > 0, area, 1), 0.0)
