"""How jobs, groups and models are named in requests."""

from __future__ import annotations

from producers.shapes import Text

ID = Text(36, 36, r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", "an id")
NAME = r"[a-z0-9][a-z0-9._-]{0,62}"
MODEL_REF = Text(
    least=1,
    most=127,
    pattern=rf"^{NAME}(:[1-9][0-9]{{0,8}}|@{NAME})?$",
    is_called="a model as name, name:version or name@alias",
)
NEW_MODEL = Text(
    least=1,
    most=63,
    pattern=rf"^{NAME}$",
    is_called="a model's bare name of a-z, 0-9, ., _ and - (a training makes its next version)",
)
