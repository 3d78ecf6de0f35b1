"""``python -m tests.show.story FOLDER`` writes what the README's story of three versions needs: the
tweets to learn from, the specs, and those that no version sees."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from forebay.story_data import FIRST, HELD_OUT, MODEL, MORE, WRONG, spec_of, write_story
from forebay.tweets import TWEETS, read_tweets
from tests.show.trainings import CACHE


def main(folder: Path) -> int:
    """Write them."""
    write_story(folder, read_tweets(TWEETS.read(None, CACHE)))
    for name in (FIRST, MORE, WRONG):
        spec = {"model": MODEL, **spec_of(name)}
        path = (folder / name).with_suffix(".yaml")
        path.write_text(yaml.safe_dump(spec, sort_keys=False))
    specs = (Path(name).with_suffix(".yaml").name for name in (FIRST, MORE, WRONG))
    print(f"{folder}: {HELD_OUT}, {', '.join(specs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "story")))
