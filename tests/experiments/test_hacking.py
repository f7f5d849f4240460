"""experiments/hacking.py: with the default weights no false twin and no lazy answer earns what the oracle earns."""

import dataclasses

import pytest
import scripts

from configs import default, unified
from dtr1_jax import config
from dtr1_jax.policies import runtime
from dtr1_jax.types import TASKS

UNTRUE_TWINS = (
    "junk_labels", "answered_objects_only", "empty_twin", "whole_picture", "grid", "doubled", "wide_boxes",
)  # fmt: skip
FALSE_ANSWERS = ("nothing", "everything")
FALSE_SUMMARIES = ("wrong_colours", "flipped", "constant", "other_picture")


@pytest.fixture(scope="module")
def hacking():
    return scripts.load_script("experiments/hacking.py")


@pytest.fixture(scope="module", params=[default, unified], ids=["default", "unified"])
def tools(request):
    c = config.from_configdict(request.param.get_config())
    c = dataclasses.replace(c, reward=dataclasses.replace(c.reward, segmenter="box"))
    with runtime.host_tools(c) as (masks, scorers, _):
        yield c.reward, scorers, masks


@pytest.mark.parametrize("video", [False, True], ids=["picture", "video"])
@pytest.mark.parametrize("task", TASKS)
def test_the_oracle_earns_most_and_untrue_twins_lose(hacking, tools, task, video):
    earned = hacking.rewards_of(task, video, *tools, n=12)
    oracle = earned.pop("oracle")
    assert earned.pop("empty_thought") == oracle
    for kind in UNTRUE_TWINS:
        assert earned.pop(kind) <= oracle - 0.3, kind
    for kind in FALSE_ANSWERS + (FALSE_SUMMARIES if task == "summary" else ()):
        assert earned.pop(kind) < oracle - 0.1, kind
    assert not earned


def test_false_summaries_lose_half(hacking, tools):
    for video in (False, True):
        earned = hacking.rewards_of("summary", video, *tools, n=24)
        for kind in ("wrong_colours", "constant", "other_picture"):
            assert earned[kind] <= earned["oracle"] / 2, kind
