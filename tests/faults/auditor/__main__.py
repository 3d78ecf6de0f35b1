"""``python -m tests.faults.auditor FOLDER``: findings in JSON; exit code 1 when there are any."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.faults.auditor.checks import audit
from tests.faults.auditor.evidence import Evidence

found = audit(Evidence(Path(sys.argv[1])))
print(json.dumps(found, indent=1))
sys.exit(bool(found["findings"]))
