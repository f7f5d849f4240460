"""A picture on which a model fails costs that picture alone."""

from dtr1_jax.specialists.model_calls import Failed, each


def test_batches():
    sizes = []

    def call(items):
        sizes.append(len(items))
        return [item * 2 for item in items]

    assert each(call, [1, 2, 3, 4, 5], 2) == [2, 4, 6, 8, 10] and sizes == [2, 2, 1]
    assert each(call, [], 2) == []


def test_one_bad_item():
    def call(items):
        if 3 in items:
            raise ZeroDivisionError("three\nis bad")
        return items

    assert each(call, [1, 2, 3, 4], 4) == [1, 2, Failed("ZeroDivisionError: three is bad"), 4]


def test_another_number_of_results():
    found = each(lambda items: [], [1, 2], 2)
    assert found == [Failed("expected 1 results, got 0")] * 2
