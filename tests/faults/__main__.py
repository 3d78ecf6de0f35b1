"""``make faults RUNS=n``: every fault n times on private servers, the table, ``faults.json``.

Exit code 1 when anything was lost, doubled, crossed or stuck, recovered too slowly, or when a
fault met no work.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults import table
from tests.faults.catalogue import ALL, embedded
from tests.faults.embedded import SmallStage
from tests.faults.fault import Fault
from tests.faults.runner import play
from tests.faults.stage import Stage
from tests.support.stack import private_servers


def main() -> int:
    told = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    told.add_argument("--runs", type=int, default=1)
    told.add_argument("--only", nargs="*", help="faults whose name holds one of these")
    told.add_argument("--stops", type=int, default=5, help="rounds of the graceful stop in one run")
    told.add_argument("--out", type=Path, default=Path("faults.json"))
    told.add_argument("--keep", action="store_true", help="keep the folders of good runs, too")
    args = told.parse_args()
    chosen = [one for one in ALL if not args.only or any(word in one.name for word in args.only)]
    folder = Path(tempfile.mkdtemp(prefix="forebay-faults-"))
    folder.chmod(0o755)
    rows = []
    print(table.header(), flush=True)
    with private_servers() as servers:
        stage, small = Stage(folder, servers), SmallStage(folder / "embedded")
        try:
            for fault in sorted(chosen, key=_setting):
                place = small if fault in embedded.FAULTS else stage
                rows.append(_play_all(place, fault, folder, args))
                table.write(rows, args.out)
        finally:
            stage.drop()
            small.drop()
    good = all(one["good"] for one in rows)
    if good and not args.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"everything about the runs is in {folder}")
    return 0 if good else 1


def _setting(fault: Fault) -> tuple[bool, bool, str]:
    """Those that can share a stack follow each other; the catalogue's order is kept otherwise."""
    return fault.fresh, fault.heavy, str(sorted(fault.settings.items()))


def _play_all(
    stage: Stage | SmallStage, fault: Fault, folder: Path, args: argparse.Namespace
) -> dict:  # type: ignore[type-arg]
    runs = []
    for number in range(args.runs):
        place = folder / f"{fault.name.replace(' ', '-').replace(',', '')}-{number}"
        run = play(stage, fault, place, stops=args.stops)
        runs.append(run)
        print(f"  {run.wall_s:.1f} s, {run.evidence}", file=sys.stderr, flush=True)
        for line in run.trouble:
            print(f"  {line[:600]}", file=sys.stderr, flush=True)
        if run.good and not args.keep:
            shutil.rmtree(place, ignore_errors=True)
    one = table.row(fault.name, runs)
    print(table.line_of(one), flush=True)
    return one


if __name__ == "__main__":
    sys.exit(main())
