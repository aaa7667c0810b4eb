"""The hard task, `animals`: which of 122 photographed animals is in the picture, many of them close relatives.

The photographs are stamps of Tux Paint: real animals, cut out, in Debian's tuxpaint-stamps-default (GPL-2). There is one
photograph a class, so this is the recognition of individuals (as of products in a shelf), not of species: training and
test show different views of it. A view is mirrored or not, turned, tilted, cropped, in other light, before a landscape,
half of them with some fruit, flower or vegetable in front.
"""

import hashlib
import sys
from pathlib import Path
from random import Random

from PIL import Image, ImageEnhance, ImageOps

from examples.study import images
from examples.study.images import CANVAS

STAMPS = "tuxpaint-stamps-default"
PACKAGES = [STAMPS, images.LANDSCAPES]
# Views of each animal.
VIEWS = {"train": 25, "test": 8}
# Drawn, or a silhouette.
NOT_PHOTOGRAPHS = {"bee", "fly", "hedgehog", "echidna", "whale"}
NOT_PHOTOGRAPHS_IN = {"cartoon", "toys"}
IN_FRONT = ("food/fruit", "food/vegetables", "plants/flowers")
# SHA-256 of the stamps' digests, in order: other releases of the package may hold other photographs.
KNOWN = "e54a0ab21b1f486bb253c4a52c3a55df201b4c4f94a35b7bdad1f3a1f52b5fa0"


def make(unpacked: Path, folder: Path) -> None:
    """Writes all images below `folder`, from packages that `debian.fetch` left in `unpacked`."""
    stamps = unpacked / STAMPS / "usr/share/tuxpaint/stamps"
    animals = {class_name(path): path for path in photographs(stamps / "animals")}
    objects = [path for part in IN_FRONT for path in photographs(stamps / part)]
    check([*animals.values(), *objects])
    landscapes = images.landscapes(unpacked)
    in_front = [cut_out(path) for path in objects]
    for name, path in animals.items():
        animal = cut_out(path)
        for split, views in VIEWS.items():
            for view in range(views):
                random = Random(f"animals/{name}/{split}/{view}")
                images.save(picture(random, animal, in_front, landscapes), folder / split / name / f"{view:02}")


def photographs(folder: Path) -> list[Path]:
    """The stamps below `folder` that are photographs, in the order of their names."""
    return [
        path
        for path in sorted(folder.rglob("*.png"))
        if path.stem not in NOT_PHOTOGRAPHS and not NOT_PHOTOGRAPHS_IN.intersection(path.parts)
    ]


def class_name(path: Path) -> str:
    """`bears-european-bear`"""
    return f"{path.parent.name}-{path.stem}".lower()


def check(paths: list[Path]) -> None:
    known = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()
    if known != KNOWN:
        sys.exit(
            f"make_data: {STAMPS} holds other stamps ({known}); the study's images are made from the packages of"
            " Debian 12"
        )


def cut_out(path: Path) -> Image.Image:
    """The stamp without its empty margin, in the middle of an empty square."""
    stamp = Image.open(path).convert("RGBA")
    stamp = stamp.crop(stamp.getchannel("A").getbbox())
    side = max(stamp.size)
    square = Image.new("RGBA", (side, side))
    square.paste(stamp, ((side - stamp.width) // 2, (side - stamp.height) // 2))
    return square


def picture(
    random: Random, animal: Image.Image, in_front: list[Image.Image], landscapes: list[Image.Image]
) -> Image.Image:
    """One finished image."""
    scene = images.photograph(random, landscapes)
    # The share of the canvas that the animal spans, and how far its middle is from the canvas's.
    place(random, scene, in_other_light(random, animal), span=random.uniform(0.6, 1.2), off=0.15)
    if random.random() < 0.5:
        place(random, scene, random.choice(in_front), span=random.uniform(0.25, 0.4), off=0.5)
    return images.taken(random, scene)


def in_other_light(random: Random, animal: Image.Image) -> Image.Image:
    if random.random() < 0.5:
        animal = ImageOps.mirror(animal)
    for change in (ImageEnhance.Brightness, ImageEnhance.Color):
        animal = change(animal).enhance(random.uniform(0.5, 1.5))
    return animal


def place(random: Random, scene: Image.Image, thing: Image.Image, span: float, off: float) -> None:
    """Pastes `thing`, turned and tilted, over `scene`."""
    # Not more pixels than will be seen: the perspective view does not average over them.
    seen = round(span * CANVAS)
    thing = thing.resize((seen, seen), Image.Resampling.BOX if thing.width > seen else Image.Resampling.BICUBIC)
    centre = tuple(seen / 2 + random.uniform(-off, off) * CANVAS for _ in range(2))
    view = images.seen_through(thing, images.tilted_square(random, centre, CANVAS / 2, turn=25, tilt=0.25))
    scene.paste(view, mask=view.getchannel("A"))
