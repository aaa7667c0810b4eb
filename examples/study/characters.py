"""The task `characters`: which of 62 characters (0-9, A-Z, a-z) is in the middle of the picture.

Every typeface of fonts.txt gives one image of each class, so no two images of a class share a typeface. Twenty typefaces,
chosen by a hash of their names, make the test set: nothing of them is in training. Typefaces come from Debian packages,
photographs behind half of the characters from another one.
"""

import hashlib
import string
import sys
from pathlib import Path
from random import Random
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from examples.study import images
from examples.study.images import CANVAS

TEST_FACES = 20
CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
# Height of a capital H on the canvas: room for descenders and for the widest letters.
CAPITAL = CANVAS // 2
# Least difference in lightness, 0 to 255, between a character and the mean of what is behind it.
CONTRAST = 70


class Face(NamedTuple):
    """A typeface: where it comes from and what its file must be."""

    package: str
    file: str
    digest: str


def faces() -> list[Face]:
    """The rows of fonts.txt."""
    rows = []
    for line in Path(__file__).with_name("fonts.txt").read_text().splitlines():
        if not line.startswith("#"):
            place, digest = line.rsplit(" ", 1)
            package, file = place.split("/")
            rows.append(Face("fonts-" + package, file, digest))
    return rows


def packages() -> list[str]:
    return [*(face.package for face in faces()), images.LANDSCAPES]


def class_name(character: str) -> str:
    """Folders must differ by more than case: not every file system tells `a` from `A`."""
    if character.isdigit():
        return character
    return f"{'upper' if character.isupper() else 'lower'}-{character}"


def make(unpacked: Path, folder: Path) -> None:
    """Writes all images below `folder`, from packages that `debian.fetch` left in `unpacked`."""
    photos = images.landscapes(unpacked)
    by_hash = sorted(faces(), key=lambda face: hashlib.sha256(face.package.encode()).digest())
    test = set(by_hash[:TEST_FACES])
    for face in faces():
        font = load(face, unpacked)
        for character in CHARACTERS:
            random = Random(f"characters/{face.package}/{character}")
            split = "test" if face in test else "train"
            image = picture(random, font, character, photos)
            images.save(image, folder / split / class_name(character) / face.package.removeprefix("fonts-"))


def load(face: Face, unpacked: Path) -> ImageFont.FreeTypeFont:
    """The typeface, so large that a capital H is CAPITAL pixels high."""
    path = min((unpacked / face.package).rglob(face.file), default=None)
    if path is None or not hashlib.sha256(path.read_bytes()).hexdigest().startswith(face.digest):
        sys.exit(
            f"make_data: {face.package} does not hold the known {face.file}; the study's images are made from the"
            " packages of Debian 12"
        )
    layout = ImageFont.Layout.BASIC
    measured = ImageFont.truetype(str(path), 200, layout_engine=layout).getbbox("H", anchor="ls")
    return ImageFont.truetype(str(path), round(200 * CAPITAL / -measured[1]), layout_engine=layout)


def picture(random: Random, font: ImageFont.FreeTypeFont, character: str, photos: list[Image.Image]) -> Image.Image:
    """One finished image."""
    scene = images.photograph(random, photos) if random.random() < 0.5 else images.surface(random)
    mask = writing(random, font, character)
    if random.random() < 0.25:
        shadow = mask.transform(mask.size, Image.Transform.AFFINE, (1, 0, -4, 0, 1, -4))
        scene.paste((0, 0, 0), mask=shadow.point([level // 2 for level in range(256)]))
    scene.paste(ink(random, scene), mask=mask)
    return images.taken(random, scene)


def writing(random: Random, font: ImageFont.FreeTypeFont, character: str) -> Image.Image:
    """The character, often with parts of its neighbours in a line, seen at an angle: a mask as large as the canvas."""
    paper = Image.new("L", (2 * CANVAS, 2 * CANVAS))
    draw = ImageDraw.Draw(paper)
    left, _, right, _ = font.getbbox(character, anchor="ls")
    # Capitals are in the middle, and all else stands on the same line: that tells `s` from `S`.
    start, line = CANVAS - (left + right) / 2, CANVAS + CAPITAL / 2
    draw.text((start, line), character, fill=255, font=font, anchor="ls")
    gap = random.uniform(0.05, 0.3) * CAPITAL
    if random.random() < 0.5:
        draw.text((start + left - gap, line), random.choice(CHARACTERS), fill=255, font=font, anchor="rs")
    if random.random() < 0.5:
        draw.text((start + right + gap, line), random.choice(CHARACTERS), fill=255, font=font, anchor="ls")
    centre = (CANVAS + random.uniform(-0.06, 0.06) * CANVAS, CANVAS + random.uniform(-0.06, 0.06) * CANVAS)
    half = CANVAS / 2 * random.uniform(0.85, 1.15)
    return images.seen_through(paper, images.tilted_square(random, centre, half, turn=12, tilt=0.2))


def ink(random: Random, scene: Image.Image) -> tuple[int, int, int]:
    """A colour that can be told from the scene's mean by its lightness."""
    behind = lightness(scene.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)))
    while True:
        colour = tuple(random.randbytes(3))
        if abs(lightness(colour) - behind) >= CONTRAST:
            return colour


def lightness(colour: tuple[int, int, int]) -> float:
    """0 to 255, with the eye's weights."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue
