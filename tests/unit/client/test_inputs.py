"""What a caller gives is what the service gets."""

from __future__ import annotations

import base64
import io
import subprocess
import sys

import numpy as np
import pytest

from producers.client.errors import BadArgument
from producers.client.inputs import encode_input, image_bytes


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool", ">f4", "<i2"])
def test_an_array_arrives_bit_by_bit(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    sent = encode_input({"tensor": array})["tensor"]
    assert sent["shape"] == [2, 3] and sent["dtype"] == np.dtype(dtype).name
    little = np.dtype(sent["dtype"]).newbyteorder("<")
    back = np.frombuffer(base64.b64decode(sent["b64"]), little).reshape(sent["shape"])
    assert (back == array).all()


def test_a_transposed_array_arrives_in_its_own_order():
    array = np.arange(6, dtype="float32").reshape(2, 3).T
    sent = encode_input({"tensor": array})["tensor"]
    back = np.frombuffer(base64.b64decode(sent["b64"]), "<f4").reshape(sent["shape"])
    assert (back == array).all()


def test_lists_and_numpy_numbers_become_json():
    assert encode_input({"tensor": [[1, 2.5], (3, True)]}) == {"tensor": [[1, 2.5], [3, True]]}
    record = {"age": np.int64(3), "name": "x", "score": np.float32(0.5), "gone": None}
    assert encode_input({"record": record})["record"] == {
        "age": 3,
        "name": "x",
        "score": 0.5,
        "gone": None,
    }


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float32("nan"), object(), b"x"])
def test_what_json_cannot_say_is_refused(bad):
    with pytest.raises(BadArgument):
        encode_input({"record": {"a": bad}})


def test_exactly_one_input_is_wanted():
    with pytest.raises(BadArgument, match="none was given"):
        encode_input({})
    with pytest.raises(BadArgument, match="image, text"):
        encode_input({"text": "a", "image": b"b"})


def test_items_hold_inputs_of_any_form():
    sent = encode_input({"items": [{"text": "a"}, {"tensor": [1]}]})
    assert sent == {"items": [{"text": "a"}, {"tensor": [1]}]}
    with pytest.raises(BadArgument, match="list of inputs"):
        encode_input({"items": {"text": "a"}})


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3), (5, 4, 4)])
def test_an_array_of_pixels_becomes_a_lossless_picture(shape):
    from PIL import Image

    pixels = np.random.default_rng(7).integers(0, 256, shape, dtype="uint8")
    opened = np.asarray(Image.open(io.BytesIO(image_bytes(pixels))))
    assert (opened.reshape(shape) == pixels).all()


def test_a_pillow_picture_and_a_path_are_taken(tmp_path):
    from PIL import Image

    picture = Image.new("L", (3, 2), 9)
    picture.save(tmp_path / "a.png")
    assert image_bytes(picture)[:4] == b"\x89PNG"
    assert image_bytes(str(tmp_path / "a.png")) == (tmp_path / "a.png").read_bytes()
    with pytest.raises(BadArgument, match="cannot read"):
        image_bytes(tmp_path / "absent.png")


def test_an_array_that_is_no_picture_is_refused():
    with pytest.raises(BadArgument, match="float32"):
        image_bytes(np.zeros((2, 2), "float32"))


def test_the_sdk_needs_neither_numpy_nor_anything_else_of_ours():
    code = (
        "import sys, producers.client, producers.client.client;"
        "loaded = {name.partition('.')[0] for name in sys.modules};"
        "print(sorted(loaded & {'numpy', 'storage', 'workers', 'typer', 'forebay', 'keras'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
