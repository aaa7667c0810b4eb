#!/usr/bin/env python3
"""Makes the study's image folders: .data/<set>/{train,test}/<class>/<name>.ppm, 48x48 pixels, in colour

    characters    62 characters in 84 typefaces, split by typeface: 3,968 train, 1,240 test
    animals       122 photographed animals in new views and places: 3,050 train, 976 test

See characters.py and animals.py for what they show and where it comes from, with licences: Debian packages, which are
fetched by name and unpacked, not installed. Needs requirements.txt, apt-get and dpkg-deb; `make study-data` sees to it.
The same bytes come out on every machine of one kind, and it is said when they are not those the study was run on.

    python3 -m examples.study.make_data [--to .data]
"""

import argparse
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from examples.fetch_data import building, is_ready
from examples.study import animals, characters, debian

# What is made; raise it when the same sources would give different images.
LAYOUT = 1


class DataSet(NamedTuple):
    name: str
    packages: list[str]
    make: Callable[[Path, Path], None]
    # Of all images, as `digest` has it.
    known: str

    @property
    def stamp(self) -> str:
        return f"{self.name} layout {LAYOUT}\n"


DATA_SETS = [
    DataSet(
        "characters",
        characters.packages(),
        characters.make,
        "0bf869958857afe61b87e6231b0a4ec82aa6e5da86bb8173c40bc3b6d248a58e",
    ),
    DataSet(
        "animals",
        animals.PACKAGES,
        animals.make,
        "61451c6082090d53ea9afcdb36ccc68d5bbed042b93f5b058e1d85f0e51ee624",
    ),
]


def digest(folder: Path) -> str:
    """SHA-256 over names and contents of all images."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.ppm")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path(__file__).resolve().parents[2] / ".data", metavar="FOLDER")
    to = parser.parse_args().to
    for data_set in DATA_SETS:
        if is_ready(to / data_set.name, data_set.stamp):
            continue
        with building(to / data_set.name, data_set.stamp) as (made, downloads):
            data_set.make(debian.fetch(data_set.packages, downloads), made)
            count = {split: len(list(made.glob(f"{split}/*/*.ppm"))) for split in ("train", "test")}
            found = digest(made)
        print(f"make_data: {data_set.name}: {count['train']} train, {count['test']} test", file=sys.stderr)
        if found != data_set.known:
            print(
                f"make_data: {data_set.name}: these images ({found}) differ from those the study's results were measured"
                " on: results will be similar, not the same",
                file=sys.stderr,
            )


if __name__ == "__main__":
    main()
