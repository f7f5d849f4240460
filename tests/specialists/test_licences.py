"""Licences that forbid some uses are found by the name of the weights and in a README."""

import logging

import pytest

from dtr1_jax import specialists
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists import licences


@pytest.mark.parametrize(
    ("name", "limited"),
    [
        ("depth-anything/Depth-Anything-V2-Small-hf", False),
        ("depth-anything/Depth-Anything-V2-Base-hf", True),
        ("depth-anything/Depth-Anything-V2-Metric-Indoor-Large-hf", True),
        ("depth-anything/Depth-Anything-V2-Metric-Outdoor-Small-hf", False),
        ("depth-anything/DA3MONO-LARGE", False),
        ("facebook/sam2.1-hiera-large", False),
    ],
)
def test_by_name(name, limited, tmp_path):
    assert licences.limits(name, tmp_path) == (licences.NON_COMMERCIAL if limited else None)


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlibrary_name: x\nlicense: cc-by-nc-4.0\n---\n# Title", "cc-by-nc-4.0"),
        ('---\nlicense: "other"\ntags:\n- depth\n---\n', "other"),
        ("---\nlicense: apache-2.0\n---\n", None),
        ("---\nlicense: mit\n---\nlicense: cc-by-nc-4.0", None),
        ("# Title\nlicense: cc-by-nc-4.0", None),
        ("---\nlicense: cc-by-nc-4.0", None),
        ("", None),
    ],
)
def test_by_readme(text, licence, tmp_path):
    (tmp_path / "README.md").write_text(text)
    assert licences.limits("folder", tmp_path) == licence


def test_load_says_it(tmp_path, caplog):
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    with caplog.at_level(logging.WARNING), pytest.raises(WeightsError):
        specialists.load(tmp_path)
    assert "the licence of these weights is cc-by-nc-4.0" in caplog.text
