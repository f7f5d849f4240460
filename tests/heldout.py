"""Predictions on held-out queries, for the tests of the evaluation."""

from dtr1_jax import mesh
from dtr1_jax.data import sources
from dtr1_jax.evaluation import predict
from dtr1_jax.policies import pretrained
from dtr1_jax.policies.runtime import Runtime
from dtr1_jax.specialists import segmenter as segmenters


def heldout(c, source=None, check=lambda: None, skipped=None):
    """predict.evaluate with the random policy, on one device."""
    pretrained_policy, one = pretrained.load_policy(c), mesh.make(c.mesh)
    params = mesh.put(pretrained.read_weights(c, pretrained_policy), mesh.replicated(one))
    source = sources.open_source(c.data, c.data.eval_split) if source is None else source
    with segmenters.Segmenter(c.reward.segmenter) as segmenter:
        runtime = Runtime(c, pretrained_policy, one, params, segmenter=segmenter)
        return predict.evaluate(runtime, source, check=check, skipped=skipped)
