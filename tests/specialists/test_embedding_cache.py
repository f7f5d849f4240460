"""The cache keeps the values last used, within its bytes."""

import numpy as np

from dtr1_jax.specialists.embedding_cache import EmbeddingCache, content_key


def test_keys_are_of_content():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert content_key(image) == content_key(image.copy()) == content_key(np.asfortranarray(image))
    assert len({content_key(x) for x in (image, image + 1, image.reshape(4, 1, 3), image.astype(np.int16))}) == 4


def test_bytes_are_bounded():
    cache = EmbeddingCache(most=80)
    first, second, third = (np.full(4, i, np.float64) for i in range(3))  # 32 bytes each
    cache.put("a", first)
    cache.put("b", {"x": second})
    assert cache.get("a") is first
    cache.put("c", third)  # "b" was used least recently
    assert cache.get("b") is None and cache.get("a") is first and cache.get("c") is third
    cache.put("a", np.zeros(1))  # replaced: 8 bytes
    cache.put("d", second)
    assert cache.get("c") is third and cache.get("d") is second
    cache.put("large", np.zeros(11))
    assert cache.get("large") is None and cache.get("d") is second
    assert (cache.hits, cache.misses) == (6, 2)
