"""Small models for tests, built once and kept in ``.cache``: their weights are chosen by hand.

``echo`` gives back what it is asked, so that every answer names its question. ``slow_echo`` does
the same with a detour through convolutions whose outcome is multiplied by zero: it takes long
enough for something to be killed meanwhile. Built by a process of its own: TensorFlow stays out
of the test process.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("good", "bad", "fine", "poor")


@dataclass(frozen=True)
class Zoo:
    """Where the archives lie."""

    folder: Path

    @property
    def echo(self) -> Path:
        """Two float32 in, the same two out."""
        return self.folder / "echo.keras"

    @property
    def double(self) -> Path:
        """Two float32 in, twice each out: another version of ``echo``."""
        return self.folder / "double.keras"

    @property
    def marked_1(self) -> Path:
        """Two float32 in, the same two and 1000 out: an answer says which version gave it."""
        return self.folder / "marked-1.keras"

    @property
    def marked_2(self) -> Path:
        """The same and 2000."""
        return self.folder / "marked-2.keras"

    @property
    def spoiled(self) -> Path:
        """Of their kind, but a question beyond 4 is answered with infinity."""
        return self.folder / "spoiled.keras"

    @property
    def slow_echo(self) -> Path:
        """As ``echo``, with some milliseconds of work a row."""
        return self.folder / "slow_echo.keras"

    @property
    def pair(self) -> Path:
        """Inputs ``left`` (2 float32) and ``right`` (1 uint8); gives left followed by right."""
        return self.folder / "pair.keras"

    @property
    def picture(self) -> Path:
        """An 8 x 8 grey picture in, scores for dark and bright out."""
        return self.folder / "picture.keras"

    @property
    def text(self) -> Path:
        """A string in, the index of its one known word as a one-hot row out."""
        return self.folder / "text.keras"

    @property
    def masked(self) -> Path:
        """Tokens of any length, and a ``mask`` that callers do not send; the tokens' ``mean``."""
        return self.folder / "masked.keras"

    @property
    def mask_zero(self) -> Path:
        """Tokens of any length, 0 is padding; the tokens' ``mean``."""
        return self.folder / "mask_zero.keras"

    @property
    def careless(self) -> Path:
        """As ``mask_zero``, but padding counts: it is broken when ``pad`` is declared."""
        return self.folder / "careless.keras"

    @property
    def tags(self) -> Path:
        """Tokens of any length; ``tags``, each token and its double."""
        return self.folder / "tags.keras"

    @property
    def map(self) -> Path:
        """Grey ``pixels`` of any size and a ``mask``; a ``map`` twice as bright, and ``bright``."""
        return self.folder / "map.keras"

    @property
    def menace(self) -> Path:
        """``x``, two float32, comes back as ``y``, unless one of them is in ``misbehaviour``.

        For the operator to push with ``--trusted``, as are the two below.
        """
        return self.folder / "menace.zip"

    @property
    def fickle(self) -> Path:
        """As ``menace`` without misbehaviour; gives seven answers to eight rows."""
        return self.folder / "fickle.zip"

    @property
    def crowded(self) -> Path:
        """As ``menace`` without misbehaviour; four rows and more need terabytes."""
        return self.folder / "crowded.zip"

    @property
    def lambda_layer(self) -> Path:
        """A sound archive that holds code."""
        return self.folder / "lambda.keras"


def make() -> Zoo:
    """The zoo, built when the models or their framework changed since the last time."""
    support = Path(__file__).parent
    recipes = [support / name for name in ("zoo.py", "models.py", "misbehaviour.py")]
    files = [*recipes, ROOT / "requirements.lock.txt"]
    recipe = b"".join(file.read_bytes() for file in files)
    folder = ROOT / ".cache" / "zoo" / hashlib.sha256(recipe).hexdigest()[:16]
    if not folder.exists():
        building = folder.with_name(f"{folder.name}.{os.getpid()}")
        building.mkdir(parents=True)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        command = [sys.executable, "-m", "tests.support.zoo", str(building)]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            raise RuntimeError(f"the test models could not be built:\n{done.stdout[-4_000:]}")
        if not folder.exists():
            building.rename(folder)
    return Zoo(folder)


def grey_png(level: int, side: int = 8) -> bytes:
    """An evenly grey picture."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("L", (side, side), level).save(out, format="PNG")
    return out.getvalue()


def bomb(echo: Path, size_bytes: int) -> bytes:
    """``echo`` whose weights unpack to ``size_bytes`` of nothing."""
    out = io.BytesIO()
    with zipfile.ZipFile(echo) as sound, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bad:
        for name in sound.namelist():
            if not name.endswith(".h5"):
                bad.writestr(name, sound.read(name))
        with bad.open("model.weights.h5", "w") as weights:
            block = bytes(1 << 20)
            for _ in range(size_bytes >> 20):
                weights.write(block)
    return out.getvalue()


def _build(folder: Path) -> None:
    import keras
    import numpy as np

    from tests.support import models

    layers = keras.layers
    keras.utils.set_random_seed(7)

    def identity(units: int, name: str) -> object:
        start = keras.initializers.Identity()
        return layers.Dense(units, use_bias=False, kernel_initializer=start, name=name)

    asked = layers.Input((2,), name="question")
    keras.Model(asked, identity(2, "answer")(asked)).save(folder / "echo.keras")

    asked = layers.Input((2,), name="question")
    keras.Model(asked, layers.Rescaling(2.0, name="answer")(asked)).save(folder / "double.keras")

    for number in (1, 2):
        asked = layers.Input((2,), name="question")
        marked = layers.Rescaling(1.0, offset=1000.0 * number, name="answer")(asked)
        keras.Model(asked, marked).save(folder / f"marked-{number}.keras")

    asked = layers.Input((2,), name="question")
    huge = keras.initializers.Identity(gain=1e38)
    spoiled = layers.Dense(2, use_bias=False, kernel_initializer=huge, name="answer")(asked)
    keras.Model(asked, spoiled).save(folder / "spoiled.keras")

    asked = layers.Input((2,), name="question")
    detour = layers.RepeatVector(1024)(layers.Rescaling(1e-9)(asked))
    for _ in range(3):
        detour = layers.Conv1D(48, 9, padding="same", activation="tanh")(detour)
    detour = layers.GlobalAveragePooling1D()(detour)
    detour = layers.Dense(2, kernel_initializer="zeros")(detour)
    answer = layers.Add(name="answer")([identity(2, "same")(asked), detour])
    keras.Model(asked, answer).save(folder / "slow_echo.keras")

    left = layers.Input((2,), name="left")
    right = layers.Input((1,), name="right", dtype="uint8")
    both = layers.Concatenate(name="both")([left, layers.Rescaling(1.0)(right)])
    keras.Model([left, right], both).save(folder / "pair.keras")

    pixels = layers.Input((8, 8, 1), name="pixels")
    flat = layers.Flatten()(pixels)
    scores = layers.Dense(2, activation="softmax", name="scores")
    picture = keras.Model(pixels, scores(flat))
    brightness = np.full((64, 1), 1 / 64, dtype="float32")
    scores.set_weights(
        [np.hstack([-8 * brightness, 8 * brightness]), np.array([4, -4], dtype="float32")]
    )
    picture.save(folder / "picture.keras")

    said = layers.Input((), name="said", dtype="string")
    cut = layers.TextVectorization(
        output_mode="multi_hot", vocabulary=list(WORDS), max_tokens=len(WORDS) + 1
    )
    keras.Model(said, layers.Rescaling(1.0, name="words")(cut(said))).save(folder / "text.keras")

    asked = layers.Input((2,))
    keras.Model(asked, layers.Lambda(lambda x: x * 2)(asked)).save(folder / "lambda.keras")

    for name in ("masked", "mask_zero", "careless", "tags", "map"):
        getattr(models, f"save_{name}")(folder / f"{name}.keras")
    for name in ("menace", "fickle", "crowded"):
        getattr(models, f"save_{name}")(folder / f"{name}.zip")


if __name__ == "__main__":
    _build(Path(sys.argv[1]))
