"""Checkpoints of PyTorch are read without executing anything, and hostile ones are refused by name."""

import collections
import io
import os
import pickle
import struct
import subprocess
import zipfile
import zlib

import numpy as np
import pytest

from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists.sam import restricted_pickle, stored_zip
from dtr1_jax.specialists.sam.restricted_pickle import PickleError, TorchFile

VALUES = np.arange(12, dtype=np.float32)


def write(path, program, storages=None, **more):
    """A zip file as PyTorch writes it, with this pickle."""
    with zipfile.ZipFile(path, "w", more.pop("compression", zipfile.ZIP_STORED)) as file:
        file.writestr("model/data.pkl", program)
        for key, data in ({"0": VALUES.tobytes()} if storages is None else storages).items():
            file.writestr(f"model/data/{key}", data)
        for name, data in more.items():
            file.writestr(f"model/{name}", data)
    return path


def tensor(offset=0, shape=(3, 4), strides=(4, 1), key="0", kind="FloatStorage"):
    """The instructions that make one tensor, as protocol 2 has them."""
    text = lambda s: b"X" + struct.pack("<I", len(s)) + s.encode()  # noqa: E731
    number = lambda n: b"\x8a\x06" + n.to_bytes(6, "little", signed=True)  # noqa: E731
    numbers = lambda ns: b"(" + b"".join(map(number, ns)) + b"t"  # noqa: E731
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(12) + b"tQ"
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + numbers(shape) + numbers(strides)
            + b"\x89ccollections\nOrderedDict\n)RtR")  # fmt: skip


def program(*tensors):
    """The pickle of {"0": tensor, "1": tensor, ...}."""
    items = b"".join(b"X\x01\x00\x00\x00" + str(i).encode() + t for i, t in enumerate(tensors))
    return b"\x80\x02}(" + items + b"u."


def test_reads_views_of_a_storage(tmp_path):
    parts = tensor(), tensor(1, (2, 2), (1, 6)), tensor(11, (1,), (1,)), tensor(0, (0, 4), (4, 1)), tensor(5, (), ())
    file = TorchFile(write(tmp_path / "a.pt", program(*parts), byteorder="little"))
    grid = VALUES.reshape(3, 4)
    for name, expected in zip("01234", (grid, [[1, 7], [2, 8]], [11], np.zeros((0, 4)), 5.0), strict=True):
        np.testing.assert_array_equal(file.read(name), expected)


def test_equals_torch(tmp_path):
    torch = pytest.importorskip("torch", reason="writes a checkpoint with torch")
    state = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict()
    state |= {"half": torch.randn(5).to(torch.bfloat16), "view": torch.arange(20).reshape(4, 5).T}
    torch.save(state, tmp_path / "a.pt")
    file = TorchFile(tmp_path / "a.pt")
    assert set(file.tensors) == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(file.read(name).astype(np.float64), value.to(torch.float64).numpy())


class Call:
    """Unpickling calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("function", [os.system, eval, subprocess.check_output, getattr, open])
def test_functions_are_refused_and_not_called(tmp_path, protocol, function):
    mark = tmp_path / "mark"
    call = Call(function, f"touch {mark}" if function in (os.system, subprocess.check_output) else "__import__('os')")
    path = write(tmp_path / "a.pt", pickle.dumps({"0": call}, protocol))
    with pytest.raises(PickleError, match=r"a\.pt: refused: its pickle (asks for|has)"):
        TorchFile(path)
    assert not mark.exists()


def test_the_refused_name_is_in_the_message(tmp_path):
    with pytest.raises(PickleError, match=r"posix\.system"):
        TorchFile(write(tmp_path / "a.pt", pickle.dumps({"0": Call(os.system, "true")}, 2)))


@pytest.mark.parametrize(
    "bad",
    [
        b"\x80\x02ctorch\n_rebuild_tensor_v2\n.",  # a known name in another module
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        b"\x80\x02ccollections\nOrderedDict\n(X\x01\x00\x00\x00ad}(X\x01\x00\x00\x00bK\x01ub.",
        b"\x80\x02ccollections\nOrderedDict\n]\x85R.",
        b"\x80\x02(iposix\nsystem\n.", b"\x80\x02(cposix\nsystem\no.", b"\x80\x02\x82\x01.", b"\x80\x02K\x01K\x02R.",
        b"\x80\x02X\x01\x00\x00\x00aQ.", b"\x80\x05\x97.", b"\x80\x02}K\x01K\x02s.",
    ],
)  # fmt: skip
def test_other_instructions_are_refused(tmp_path, bad):
    with pytest.raises(PickleError):
        TorchFile(write(tmp_path / "a.pt", bad))


@pytest.mark.parametrize("bad", [b"", b".", b"\x80\x02}", b"\x80\x02t.", b"\x80\x02h\x07.", b"\x80\x02(((.",
                                 b"\xff" * 9, b"\x80\x02X\xff\xff\xff\x7fa.", b"\x80\x02\x8b\xff\xff\xff\x7f.",
                                 b"\x80\x02}.", b"\x80\x02K\x01.", b"\x80\x02}X\x01\x00\x00\x00aK\x01s."])  # fmt: skip
def test_damaged_pickles(tmp_path, bad):
    with pytest.raises(PickleError, match=r"a\.pt"):
        TorchFile(write(tmp_path / "a.pt", bad))


def test_deep_nesting(tmp_path):
    deep = b"\x80\x02" + b")" + b"\x85" * 500_000 + b"."
    with pytest.raises(PickleError, match="expected a dict of tensors, got tuple"):
        TorchFile(write(tmp_path / "a.pt", deep))
    key = b"\x80\x02})" + b"\x85" * 500_000 + b"K\x01s."
    with pytest.raises(PickleError, match="a key that is tuple"):
        TorchFile(write(tmp_path / "a.pt", key))


@pytest.mark.parametrize(
    "bad",
    [
        tensor(shape=(3, 5)), tensor(offset=1), tensor(shape=(2**39, 2**39)), tensor(shape=(10**9,), strides=(0,)),
        tensor(strides=(-4, 1)), tensor(offset=-1), tensor(shape=(3,)), tensor(strides=(2**39, 1)), tensor(key="1"),
        tensor(kind="DoubleStorage"), tensor(key="../0"),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_the_storage(tmp_path, bad):
    with pytest.raises(PickleError, match=r"a\.pt"):
        TorchFile(write(tmp_path / "a.pt", program(bad)))


def test_many_views_of_one_storage_count(tmp_path):
    path = write(tmp_path / "a.pt", program(*[tensor(shape=(4000,), strides=(1,))] * 10), {"0": bytes(16_000)})
    assert path.stat().st_size < 20_000
    with pytest.raises(PickleError, match="its tensors have 160,000 bytes, expected at most 100,000"):
        TorchFile(path, most=100_000)


def test_too_large_files(tmp_path, monkeypatch):
    path = write(tmp_path / "a.pt", program(tensor()))
    with pytest.raises(WeightsError, match="expected at most 100"):
        TorchFile(path, most=100)
    monkeypatch.setattr(restricted_pickle, "_PROGRAM", 50)
    with pytest.raises(PickleError, match=r"data\.pkl has .* expected at most 50"):
        TorchFile(path)


def test_zip_bombs(tmp_path):
    with pytest.raises(WeightsError, match="compressed"):
        TorchFile(write(tmp_path / "a.pt", program(tensor()), {"0": bytes(10**7)}, compression=zipfile.ZIP_DEFLATED))
    data = bytearray(write(tmp_path / "b.pt", program(tensor()), {str(i): bytes(5000) for i in range(9)}).read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as file:
        start = file.start_dir
        first = file.getinfo("model/data/0").header_offset
    at = start
    while data[at : at + 4] == b"PK\x01\x02":  # every entry points to the same bytes, and says to be 40 KB
        struct.pack_into("<2I", data, at + 20, 40_000, 40_000)
        struct.pack_into("<I", data, at + 42, first)
        at += 46 + sum(struct.unpack_from("<3H", data, at + 28))
    (tmp_path / "b.pt").write_bytes(data)
    with pytest.raises(WeightsError, match="overlap"):
        TorchFile(tmp_path / "b.pt")


def test_damaged_zip_files(tmp_path):
    whole = write(tmp_path / "a.pt", program(tensor())).read_bytes()
    for size in range(0, len(whole), 7):
        (tmp_path / "b.pt").write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=r"b\.pt"):
            TorchFile(tmp_path / "b.pt")
    at = whole.index(VALUES.tobytes())
    (tmp_path / "b.pt").write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
    with pytest.raises(WeightsError, match="wrong checksum"):
        TorchFile(tmp_path / "b.pt").read("0")


def test_every_changed_byte_is_an_error_or_harmless(tmp_path):
    whole = write(tmp_path / "a.pt", program(tensor())).read_bytes()
    path = tmp_path / "b.pt"
    outcomes = collections.Counter()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :])
        try:
            file = TorchFile(path)
            [file.read(name) for name in file.tensors]
            outcomes["read"] += 1
        except WeightsError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > outcomes["read"]


def test_a_large_table_of_contents_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.pt", program(tensor()))
    monkeypatch.setattr(stored_zip, "_TABLE", 20)
    with pytest.raises(WeightsError, match="one part"):
        stored_zip.entries(path, 1 << 20)


def test_other_files(tmp_path):
    for content in (b"", b"{}", pickle.dumps({"a": 1}), zlib.compress(b"x")):
        (tmp_path / "a.pt").write_bytes(content)
        with pytest.raises(WeightsError, match="not a zip file"):
            TorchFile(tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="cannot be read"):
        TorchFile(tmp_path / "missing.pt")
    with pytest.raises(PickleError, match=r"expected one entry NAME/data\.pkl, found 0"):
        with zipfile.ZipFile(tmp_path / "c.pt", "w") as file:
            file.writestr("a/b", "x")
        TorchFile(tmp_path / "c.pt")
    with pytest.raises(PickleError, match="little-endian"):
        TorchFile(write(tmp_path / "d.pt", program(tensor()), byteorder="big"))
