"""Which sampled tokens belong to the twin, and what transcripts the completions become."""

import numpy as np

from dtr1_jax.data import completions
from dtr1_jax.data import tokenizer as tokenizers
from dtr1_jax.policies import policy_files
from dtr1_jax.types import Rollout


def test_tokens_of_the_twin():
    """Up to the end of the twin, all of an unfinished one, none of a completion without."""
    tokenizer = tokenizers.load_tokenizer(policy_files.ASSETS / "tiny")
    twin, rest = '<twin>{"size":[9,9],"objects":[]}</twin>', "<think>a</think><answer></twin></answer>"
    written = [[twin + rest, twin[:20]], [rest, ""], [" " + twin, "x" + twin]]
    ids = [[tokenizer.encode(text) for text in row] for row in written]
    longest = max(len(x) for row in ids for x in row)
    token = np.array([[x + [tokenizer.pad] * (longest - len(x)) for x in row] for row in ids], np.int32)
    length = np.array([[len(x) for x in row] for row in ids])
    mask = np.arange(longest) < length[..., None]
    found = completions.twin_tokens(Rollout(token, mask, 0.0 * token, length > 0), tokenizer)
    count = int(found[0, 0].sum())  # the last token of the twin may say more than its end
    assert tokenizer.decode(ids[0][0][:count]).startswith(twin) and twin not in tokenizer.decode(ids[0][0][: count - 1])
    assert found.dtype == bool and found[0, 0, :count].all() and not found[0, 0, count:].any()
    assert found.sum(-1).tolist()[1:] == [[0, 0], [length[2, 0], 0]] and found[0, 1].sum() == length[0, 1]
