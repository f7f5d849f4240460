"""Device types are pytrees that jit takes and gives back; host types cannot be changed."""

import dataclasses
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtr1_jax import config, types

HOST = (types.Instance, types.Target, types.Example, types.Video)
DEVICE = [kind for kind in vars(types).values() if dataclasses.is_dataclass(kind) and kind not in HOST]


def filled(kind):
    """A value of a device type whose fields are arrays, the i-th one filled with i."""
    return kind(*(np.full((2, 3), i) for i, _ in enumerate(dataclasses.fields(kind))))


@pytest.mark.parametrize("kind", DEVICE)
def test_device_types_are_pytrees_with_their_fields_in_order(kind):
    value = filled(kind)
    leaves, structure = jax.tree.flatten(value)
    assert [int(leaf[0, 0]) for leaf in leaves] == list(range(len(dataclasses.fields(kind))))
    again = jax.tree.unflatten(structure, leaves)
    assert type(again) is kind
    for field in dataclasses.fields(kind):
        assert getattr(again, field.name) is getattr(value, field.name)


def test_jit_maps_a_prompt_and_keeps_none():
    prompt = dataclasses.replace(filled(types.Prompt), images=None)
    doubled = jax.jit(lambda p: jax.tree.map(lambda x: x * 2, p))(prompt)
    assert doubled.images is None
    assert doubled.token_bp.shape == (2, 3)
    assert jnp.all(doubled.next_b == 2 * prompt.next_b)


def test_images_inside_a_prompt_and_columns_inside_rewards_are_leaves():
    prompt = dataclasses.replace(filled(types.Prompt), images=filled(types.Images))
    assert len(jax.tree.leaves(prompt)) == 5 + 6
    ones = np.ones((1, 2))
    rewards = types.Rewards(columns={"structure": ones, "mask_iou": ones}, total_bg=ones)
    paths = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(rewards)}
    assert paths == {".columns['structure']", ".columns['mask_iou']", ".total_bg"}


def test_nothing_can_be_changed():
    for value, name in [
        (types.Instance(1, "mug", (0, 0, 1, 1), np.ones((2, 2), bool)), "label"),
        (types.Target(np.zeros((2, 2), bool), np.zeros((0, 4), np.float32)), "mask"),
        (filled(types.Rollout), "token_bgs"),
    ]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)


def test_tasks_are_those_of_the_settings():
    assert typing.get_args(typing.get_type_hints(config.Data)["task"]) == (*types.TASKS, "unified")
