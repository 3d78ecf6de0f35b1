"""Objects: named, immutable byte strings; the place of everything too large for a row.

One small protocol (``protocol``), two homes for it (``directory`` and ``s3``), chosen by a URL
(``opening``), and packs, which hold many small entries in one object (``packs``). Both homes
pass one contract suite, so code above never asks which one it has.
"""

from __future__ import annotations

from storage.objects.keys import artifact_key, check_key, object_key
from storage.objects.opening import open_objects
from storage.objects.protocol import ObjectInfo, Objects

__all__ = ["ObjectInfo", "Objects", "artifact_key", "check_key", "object_key", "open_objects"]
