"""The warnings of a run on disk: appended, read past broken lines, and cut back when a run goes on."""

from dtr1_jax.run import warnings_file


def test_warnings_come_back_in_order_and_can_be_cut_off(tmp_path):
    assert warnings_file.read_warnings(tmp_path) == []
    warnings_file.truncate_warnings(tmp_path, 3)  # there is nothing to cut
    for step in (1, 5):
        warnings_file.append_warning(tmp_path, step, f"w{step}", "look at\nthe \ud800 data")
    assert [w["name"] for w in warnings_file.read_warnings(tmp_path)] == ["w1", "w5"]
    assert warnings_file.read_warnings(tmp_path)[0]["message"] == "look at\nthe \ud800 data"
    warnings_file.truncate_warnings(tmp_path, 4)
    assert [w["name"] for w in warnings_file.read_warnings(tmp_path)] == ["w1"]


def test_broken_lines_are_left_out(tmp_path):
    bad = ['{"step": 1', "[]", '{"step": "1", "name": "a", "message": "b"}', '{"step": 1, "name": 2, "message": "b"}',
           "[" * 100_000, '{"step": true, "name": "a", "message": "b"}', '{"step": 2, "name": "a']  # fmt: skip
    (tmp_path / warnings_file.NAME).write_bytes("\n".join(bad).encode() + b"\xff")
    warnings_file.append_warning(tmp_path, 7, "good", "words")  # begins a line of its own
    assert warnings_file.read_warnings(tmp_path) == [{"step": 7, "name": "good", "message": "words"}]
