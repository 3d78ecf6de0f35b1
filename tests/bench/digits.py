"""The bench's model and questions: a digits CNN and drawn digits, the same for both sides.

``python -m tests.bench.digits DIR`` writes ``digits.keras`` and ``questions.json`` (each a PNG in
base64 and the label the model itself gives it). A process of its own, so that the bench that
measures never holds TensorFlow. Weights do not matter for speed; answers are compared all the same.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

QUESTIONS = 512
SEED = 20_240_611
SIDE = 28


@dataclass(frozen=True)
class Question:
    """One digit as a caller would send it, and the label that is right for this model."""

    image: str
    label: str


@dataclass(frozen=True)
class Digits:
    """What both sides of the comparison are given."""

    model: Path
    questions: tuple[Question, ...]

    def question(self, index: int) -> Question:
        """The ``index``-th question, starting over when they run out."""
        return self.questions[index % len(self.questions)]


def make(folder: Path) -> Digits:
    """The model and the questions in ``folder``, built by a process of its own when missing."""
    if not (folder / "questions.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "tests.bench.digits", str(folder)],
            check=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
            stdout=subprocess.DEVNULL,
        )
    rows = json.loads((folder / "questions.json").read_text())
    questions = tuple(Question(row["image"], row["label"]) for row in rows)
    return Digits(folder / "digits.keras", questions)


def draw(rng: random.Random, digit: int) -> bytes:
    """A drawn digit, shifted and turned a little, as a 28 x 28 grey PNG."""
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("L", (SIDE, SIDE), 0)
    place = (6 + rng.randint(0, 5), 2 + rng.randint(0, 4))
    font = ImageFont.load_default(size=20)
    ImageDraw.Draw(canvas).text(place, str(digit), fill=rng.randint(170, 255), font=font)
    out = io.BytesIO()
    canvas.rotate(rng.uniform(-12, 12)).save(out, format="PNG")
    return out.getvalue()


def _build(folder: Path) -> None:
    """Train for a moment, save, and let the model answer its own questions."""
    import keras
    import numpy as np
    from PIL import Image

    rng = random.Random(SEED)
    keras.utils.set_random_seed(SEED)
    digits = [rng.randrange(10) for _ in range(2_000)]
    pictures = [draw(rng, digit) for digit in digits]
    pixels = np.stack(
        [np.asarray(Image.open(io.BytesIO(png)), dtype="float32") / 255 for png in pictures]
    )[..., None]
    model = keras.Sequential(
        [
            keras.layers.Input((SIDE, SIDE, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(pixels, np.array(digits), epochs=3, batch_size=64, verbose=0)
    model.save(folder / "digits.keras")
    scores = np.asarray(model(pixels[:QUESTIONS], training=False))
    rows = [
        {"image": base64.b64encode(png).decode(), "label": str(int(score.argmax()))}
        for png, score in zip(pictures[:QUESTIONS], scores, strict=True)
    ]
    # Written last and moved into place: its presence says that the folder is complete.
    (folder / "questions.tmp").write_text(json.dumps(rows))
    (folder / "questions.tmp").rename(folder / "questions.json")


if __name__ == "__main__":
    _build(Path(sys.argv[1]))
