"""Pictures in a column come out as online, each in its place, whoever decoded it."""

from __future__ import annotations

import base64
import io
import threading
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from storage.records.bulk import BulkFormat
from storage.records.push_options import parse_push_options
from storage.records.signatures import InputSpec, Shape, Signature, build_signature
from tests.unit.bulk.decode.oracle import assert_same, decode, online, outcomes
from workers.inference.decode_crew import DecodeCrew


def model(shape: Shape = (8, 6, 3), dtype: str = "float32", **said: Any) -> Signature:
    return build_signature(
        [InputSpec("x", dtype, shape)], parse_push_options({"input": "image"} | said)
    )


def picture(seed: int, size: tuple[int, int] = (6, 8), kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


CELLS: list[bytes | None] = [
    picture(1),
    picture(2, (20, 30), "JPEG"),
    b"no picture",
    None,
    picture(3)[:60],
    b"",
    picture(4, (9, 9), "WEBP"),
]


def as_online(signature: Signature, cells: list[bytes | None]) -> list[Any]:
    return [
        "missing_input"
        if cell is None
        else online(signature, {"image": base64.b64encode(cell).decode()})
        if cell
        else "bad_image"
        for cell in cells
    ]


@pytest.mark.parametrize(
    "signature",
    [
        model(),
        model(dtype="uint8"),
        model((None, None, 3), image={"height": 4, "width": 4}),
        model((8, 6, 1), image={"invert": True}),
        model((None, None, 3), serving={"pad": {"x": {"sizes": [9, 16, 64]}}}),
        model((None, None, 3), serving={"pad": {"x": {"sizes": [9]}}}),
    ],
)
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_bytes_are_pictures(signature: Signature, threads: int) -> None:
    crew = DecodeCrew(threads) if threads else None
    column = {"image": pa.array([b"before", *CELLS]).slice(1)}
    decoded = decode(signature, column, format=BulkFormat.PARQUET, crew=crew)
    got = outcomes(signature, decoded, len(CELLS))
    for one, expected, cell in zip(got, as_online(signature, CELLS), CELLS, strict=True):
        assert_same(one, expected, cell)
    if crew is not None:
        crew.close()


def test_text_is_a_picture_in_base64_and_a_struct_holds_one() -> None:
    signature = model()
    texts = [None if cell is None else base64.b64encode(cell).decode() for cell in CELLS]
    decoded = decode(signature, {"image": pa.array([*texts, "n*t base64"])})
    codes = {row: code for row, code, _ in decoded.errors}
    assert codes == {
        2: "bad_image",
        3: "missing_input",
        4: "bad_image",
        5: "wrong_form",
        7: "bad_base64",
    }
    structs = pa.array([{"bytes": CELLS[0], "path": "a.png"}, {"bytes": None, "path": "b"}, None])
    decoded = decode(signature, {"image": structs}, format=BulkFormat.PARQUET)
    assert decoded.good.tolist() == [0]
    assert {code for _, code, _ in decoded.errors} == {"missing_input"}


def test_numbers_are_the_tensor_itself() -> None:
    signature = model((None, None, 3), image={"height": 2, "width": 2})
    pixels = np.random.default_rng(5).random((4, 2, 2, 3), dtype=np.float32)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)
    decoded = decode(signature, {"array": tensors}, format=BulkFormat.NPY)
    assert decoded.block is not None and np.array_equal(decoded.block["x"], pixels)


def test_what_lies_at_an_address_may_be_a_picture_or_an_array() -> None:
    signature = model()
    stream = io.BytesIO()
    np.save(stream, np.ones((8, 6, 3), dtype=np.float32))
    other = io.BytesIO()
    np.save(other, np.ones((8, 6), dtype=np.float32))
    cells = pa.array([picture(1), stream.getvalue(), other.getvalue(), b"neither"])
    decoded = decode(signature, {"uri": pa.array(["a"] * 4), "data": cells}, format=BulkFormat.URIS)
    assert decoded.good.tolist() == [0, 1]
    assert [code for _, code, _ in decoded.errors] == ["wrong_shape", "bad_image"]
    assert decoded.block is not None and (decoded.block["x"][1] == 1).all()


def test_a_crew_keeps_the_order_and_lets_others_in_between() -> None:
    crew = DecodeCrew(2)
    waiting, most = [0], [0]
    lock = threading.Lock()

    def work(one: int) -> int:
        with lock:
            waiting[0] += 1
            most[0] = max(most[0], waiting[0])
        time.sleep(0.002 if one % 2 else 0)
        with lock:
            waiting[0] -= 1
        return one * one

    assert list(crew.in_order(work, range(50))) == [one * one for one in range(50)]
    assert most[0] == 2
    # Only a few are ever handed over at once: what is not asked for has not begun.
    begun: list[int] = []
    results = crew.in_order(begun.append, range(50))
    next(results)
    assert len(begun) <= 4
    crew.close()
