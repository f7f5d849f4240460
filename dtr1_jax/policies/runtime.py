"""The things that always travel together when a policy answers: settings, policy, weights, devices and host tools."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Collection, Iterator

import jax

from dtr1_jax import mesh
from dtr1_jax.config import Config
from dtr1_jax.models import sentence_encoder
from dtr1_jax.policies import rollout_layout
from dtr1_jax.policies.pretrained import PretrainedPolicy
from dtr1_jax.rewards.text_scorers import TextScorers
from dtr1_jax.specialists import catalogue
from dtr1_jax.specialists.learned_segmenter import LearnedSegmenter, open_segmenter
from dtr1_jax.specialists.perceived import Perceiver
from dtr1_jax.specialists.segmenter import Segmenter


@dataclasses.dataclass(frozen=True)
class Runtime:
    """Everything that is needed to query a policy and to score its answers.

    Attributes:
      config: all settings.
      policy: the spec, tokenizer and prompt style of the policy.
      mesh: the devices. The processes prepare rows by its batch shards (mesh.share_of_rows).
      params: the policy's weights on the mesh; None before they are read.
      lora: its LoRA adapters on the mesh; None if there are none.
      segmenter: makes masks from boxes; None if no masks are needed.
      text_scorers: score answers in words; None if no reward column needs them.
      perceiver: runs the specialists that a policy asks for; None if policy.constructor is not "specialists".
      rollout_mesh: the same devices as the programs of a rollout use them, where rows are prepared by another mesh, as
        several processes hold one copy of the weights together; None = mesh.
    """

    config: Config
    policy: PretrainedPolicy
    mesh: jax.sharding.Mesh
    params: dict | None = None
    lora: dict | None = None
    segmenter: Segmenter | LearnedSegmenter | None = None
    text_scorers: TextScorers | None = None
    perceiver: Perceiver | None = None
    rollout_mesh: jax.sharding.Mesh | None = None

    @property
    def sampling_mesh(self) -> jax.sharding.Mesh:
        """The mesh of the weights, and of the programs that sample."""
        return self.rollout_mesh or self.mesh

    def with_weights(self, params: dict, lora: dict | None) -> Runtime:
        """The same with other weights and adapters."""
        return dataclasses.replace(self, params=params, lora=lora)

    def for_rollout(self) -> Runtime:
        """The same with a copy of the weights that is laid out for sampling, if config.mesh.rollout says so.

        The caller drops it after the rollout, because the copy takes memory. All processes must call it. Raises
        ConfigError if the mesh does not allow the setting.
        """
        sampling_mesh, params, lora = rollout_layout.copy(
            self.config.mesh.rollout, self.mesh, self.policy.spec, self.params, self.lora, self.policy.dtype
        )
        if mesh.share_of_rows(sampling_mesh) == mesh.share_of_rows(self.mesh):  # so in all processes, or in none
            return dataclasses.replace(self, mesh=sampling_mesh, params=params, lora=lora)
        return dataclasses.replace(self, rollout_mesh=sampling_mesh, params=params, lora=lora)


@contextlib.contextmanager
def host_tools(c: Config) -> Iterator[tuple[Segmenter | LearnedSegmenter, TextScorers, Perceiver | None]]:
    """The segmenter, the text scorers and the perceiver that the settings ask for.

    Their worker processes end with the block. The perceiver is None unless policy.constructor is "specialists".

    Raises ConfigError or WeightsError if a setting names files that cannot be used.
    """
    with (
        open_perceiver(c) as perceiver,  # first, because it is the one that settings may lack
        open_segmenter(c.reward.segmenter, c.reward.workers, c.reward.deadline) as segmenter,
        TextScorers(c.reward, sentence_encoder.embedder) as text_scorers,
    ):
        yield segmenter, text_scorers, perceiver


@contextlib.contextmanager
def open_perceiver(c: Config, constructors: Collection[str] = ("specialists",)) -> Iterator[Perceiver | None]:
    """The perceiver of the settings, closed with the block; None unless policy.constructor is one of `constructors`.

    Raises ConfigError naming the settings of specialists that are missing.
    """
    if c.policy.constructor not in constructors:
        yield None
        return
    catalogue.require_detector(c.specialists)
    # Imported here, because it brings all the models of vision with it.
    perceiver = importlib.import_module("dtr1_jax.specialists.perceiver").open_perceiver(c)
    try:
        yield perceiver
    finally:
        perceiver.close()
