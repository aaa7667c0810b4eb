"""What the rendered data sets have in common: backgrounds, perspective, the flaws of a camera.

Every function takes its randomness from a `random.Random`, of which only methods are used that give the same numbers
everywhere; Pillow is pinned. So the same seed gives the same bytes.
"""

import math
from pathlib import Path
from random import Random

from PIL import Image, ImageEnhance, ImageFilter

# Side of the finished images, pixels.
SIDE = 48
# They are composed this much larger, then reduced: no jagged edges.
CANVAS = 3 * SIDE

Corners = list[tuple[float, float]]


# The Debian package with the photographs that are put behind things (GPL-2+, with the rest of Tux Paint).
LANDSCAPES = "tuxpaint-data"


def landscapes(unpacked: Path) -> list[Image.Image]:
    """The photographs of LANDSCAPES, which `debian.fetch` left in `unpacked`, in the order of their names."""
    folder = unpacked / LANDSCAPES / "usr/share/tuxpaint/templates"
    return [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.jpg"))]


def photograph(random: Random, photos: list[Image.Image]) -> Image.Image:
    """A square piece of a photograph, lighter or darker than it was, as large as the canvas."""
    photo = random.choice(photos)
    side = random.randint(CANVAS, min(photo.size))
    left, top = random.randint(0, photo.width - side), random.randint(0, photo.height - side)
    piece = photo.resize((CANVAS, CANVAS), Image.Resampling.BOX, (left, top, left + side, top + side))
    return ImageEnhance.Brightness(piece).enhance(random.uniform(0.5, 1.3))


def surface(random: Random) -> Image.Image:
    """A coloured surface in uneven light: a gradient between four similar colours, with a grain."""
    base = random.randbytes(3)
    near = [max(0, min(255, channel + random.randint(-50, 50))) for _ in range(4) for channel in base]
    gradient = Image.frombytes("RGB", (2, 2), bytes(near)).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)
    grains = random.randint(4, 36)
    grain = Image.frombytes("RGB", (grains, grains), random.randbytes(3 * grains**2))
    return Image.blend(gradient, grain.resize(gradient.size, Image.Resampling.BICUBIC), random.uniform(0.0, 0.25))


def tilted_square(random: Random, centre: tuple[float, float], half: float, turn: float, tilt: float) -> Corners:
    """Corners (top left, top right, bottom right, bottom left) of a square of side 2 `half`, turned by up to `turn`
    degrees either way, each corner then moved by up to `tilt` of `half`."""
    angle = math.radians(random.uniform(-turn, turn))
    # Rounded, since the last digit may differ between machines.
    cos, sin = round(math.cos(angle), 6), round(math.sin(angle), 6)
    corners = []
    for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        x, y = x + random.uniform(-tilt, tilt), y + random.uniform(-tilt, tilt)
        corners.append((centre[0] + half * (cos * x - sin * y), centre[1] + half * (sin * x + cos * y)))
    return corners


def seen_through(image: Image.Image, corners: Corners) -> Image.Image:
    """What of `image` lies within `corners`, drawn as the whole canvas: a perspective view. Outside is black or empty."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
    # The projective map of the unit square to a quadrilateral, in closed form.
    dx1, dx2, sx = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, sy = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    area = dx1 * dy2 - dx2 * dy1
    g, h = (sx * dy2 - dx2 * sy) / area, (dx1 * sy - sx * dy1) / area
    row_x = ((x1 - x0 + g * x1) / CANVAS, (x3 - x0 + h * x3) / CANVAS, x0)
    row_y = ((y1 - y0 + g * y1) / CANVAS, (y3 - y0 + h * y3) / CANVAS, y0)
    map_back = (*row_x, *row_y, g / CANVAS, h / CANVAS)
    return image.transform((CANVAS, CANVAS), Image.Transform.PERSPECTIVE, map_back, Image.Resampling.BICUBIC)


def taken(random: Random, scene: Image.Image) -> Image.Image:
    """The canvas as a cheap camera would take it: out of focus by up to 0.8 pixels, contrast off, noisy."""
    scene = scene.filter(ImageFilter.GaussianBlur(random.uniform(0, 0.8 * CANVAS / SIDE)))
    image = scene.resize((SIDE, SIDE), Image.Resampling.BOX)
    image = ImageEnhance.Contrast(image).enhance(random.uniform(0.7, 1.2))
    noise = Image.frombytes("RGB", image.size, random.randbytes(3 * SIDE**2))
    return Image.blend(image, noise, random.uniform(0.0, 0.12))


def save(image: Image.Image, path: Path) -> None:
    """As binary PPM: nothing is compressed, so no library's version shows in the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path.with_suffix(".ppm"), format="PPM")
