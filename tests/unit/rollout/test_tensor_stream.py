"""Against the safetensors library, in both directions."""

import json

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from rollout.tensor_stream import PIECE, TensorReceiver, tensor_stream


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "flags": torch.tensor([True, False, True]),
        "half": torch.randn(3, 5, generator=generator).bfloat16(),
        "ids": torch.arange(7),
        "none": torch.empty(0, 4),
        "scalar": torch.tensor(2.5),
        "turned": torch.randn(4, 6, generator=generator).T,
        "wide": torch.randn(2, generator=generator, dtype=torch.float64),
        "bytes": torch.arange(3, dtype=torch.uint8),
    }


def received(data: bytes, piece: int) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    receiver = TensorReceiver(len(data))
    for at in range(0, len(data), piece):
        receiver.feed(data[at : at + piece])
    return receiver.finish()


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(found[name], tensor), name


def test_the_library_reads_what_is_sent(tmp_path):
    length, pieces = tensor_stream(list(tensors().items()), {"call": '{"n": "é"}'})
    data = b"".join(pieces)
    assert len(data) == length
    assert_equal(safetensors.torch.load(data), tensors())
    (tmp_path / "sent.safetensors").write_bytes(data)
    with safe_open(tmp_path / "sent.safetensors", "pt") as file:
        assert file.metadata() == {"call": '{"n": "é"}'}


@pytest.mark.parametrize("piece", [1, 7, 64, 10_000])
def test_what_the_library_writes_is_received_in_pieces_of_any_size(piece):
    expected = {name: tensor.contiguous() for name, tensor in tensors().items()}
    found, metadata = received(safetensors.torch.save(expected, {"a": "b"}), piece)
    assert_equal(found, expected)
    assert metadata == {"a": "b"}


def test_a_large_tensor_goes_in_pieces_of_bounded_size():
    large = torch.arange(PIECE // 4 * 2 + 5, dtype=torch.int32)
    _, pieces = tensor_stream([("large", large)])
    sent = list(pieces)
    assert [len(piece) for piece in sent[1:]] == [PIECE, PIECE, 20]
    assert_equal(received(b"".join(sent), 1 << 20)[0], {"large": large})


def test_nothing_is_received_before_the_last_byte():
    _, pieces = tensor_stream(list(tensors().items()))
    data = b"".join(pieces)
    receiver = TensorReceiver(len(data))
    receiver.feed(data[:-1])
    with pytest.raises(ValueError, match=rf"{len(data) - 1} bytes of {len(data)} arrived"):
        receiver.finish()
    with pytest.raises(ValueError, match="more than"):
        receiver.feed(b"xy")


def entry(shape: list[int], offsets: list[int], dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"a": entry([2], [0, 8]), "b": entry([2], [4, 12])}, 12, "b: bytes 4 to 12; expected 8 to 16"),
        ({"a": entry([2], [4, 12])}, 12, "a: bytes 4 to 12; expected 0 to 8"),
        ({"a": entry([3], [0, 8])}, 8, "a: bytes 0 to 8; expected 0 to 12"),
        ({"a": entry([2], [0, 8])}, 12, "12 bytes of data for tensors of 8"),
        ({"a": entry([-2, -1], [0, 8])}, 8, "shape"),
        ({"a": entry([2], [0, 8], "PICKLE")}, 8, "header"),
        ({"a": entry([1 << 62], [0, 8])}, 8, "expected 0 to"),
        (["a"], 0, "header"),
    ],
)
def test_a_header_that_does_not_describe_the_data_is_refused(header, data, message):
    text = json.dumps(header).encode()
    with pytest.raises(ValueError, match=message):
        received(len(text).to_bytes(8, "little") + text + bytes(data), 64)


def test_a_header_longer_than_the_stream_is_refused_before_it_is_awaited():
    receiver = TensorReceiver(1000)
    with pytest.raises(ValueError, match="a header of 5000 bytes in 1000"):
        receiver.feed((5000).to_bytes(8, "little") + b"{")


def test_a_dtype_the_format_lacks_and_a_name_given_twice_are_named():
    with pytest.raises(ValueError, match=r"z: torch.complex64 cannot be sent"):
        tensor_stream([("z", torch.zeros(1, dtype=torch.complex64))])
    with pytest.raises(ValueError, match="z: given twice"):
        tensor_stream([("z", torch.zeros(1)), ("z", torch.zeros(1))])
