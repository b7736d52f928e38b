"""What an image is billed, by model, size and detail, as OpenAI's images and vision guide has it.

Pure. The guide is not checked against bills here: no count with an image is called exact.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Protocol

from limiter.providers.bodies import IMAGE_TOKENS
from limiter.tokens.sizes import Size

# Where the size is not known: four tiles of gpt-4o are the 765 that OpenAI's admission takes for
# every image, whatever its size (9 of 9 recorded chat completions).
ASSUMED: Size = (1024, 1024)

_TILE_PX, _TILED_LONG_PX, _TILED_SHORT_PX = 512, 2048, 768
_PATCH_PX = 32
_LOW_PX = 512  # "a low-resolution 512px x 512px version of the image"


class _Family(Protocol):
    def tokens(self, size: Size, detail: str) -> int: ...


@dataclass(frozen=True, slots=True)
class _Tiles:
    """Bill a base, and each tile of 512 px after shrinking to 2048 px, the short side to 768.

    Small images are not enlarged: users saw 128 × 64 billed as one tile.
    """

    base: int
    tile: int

    def tokens(self, size: Size, detail: str) -> int:
        if detail == "low":
            return self.base
        scale = min(1.0, _TILED_LONG_PX / max(size))
        scale = min(scale, _TILED_SHORT_PX / min(size))
        return self.base + self.tile * _cover(size, scale, _TILE_PX)


@dataclass(frozen=True, slots=True)
class _Patches:
    """Bill patches of 32 px, after shrinking to a budget of patches and a longest side.

    Attributes:
        factor: tokens of a patch.
        high: the most patches, and the longest side in pixels, with `high`.
        original: the same with `original`, that of `high` where a model has no such detail; None
            is unbounded.
        auto: what an image is that names no detail, or `auto`.
    """

    factor: float
    high: tuple[int, int] = (1536, 2048)
    original: tuple[int, int] | None = (1536, 2048)
    auto: str = "high"

    def tokens(self, size: Size, detail: str) -> int:
        detail = detail if detail in {"low", "high", "original"} else self.auto
        bounds = {"low": ((_LOW_PX // _PATCH_PX) ** 2, _LOW_PX), "high": self.high}
        return math.ceil(_patches(size, bounds.get(detail, self.original)) * self.factor)


def _patches(size: Size, bounds: tuple[int, int] | None) -> int:
    if bounds is None:
        return _cover(size, 1.0, _PATCH_PX)
    budget, longest_px = bounds
    scale = min(1.0, longest_px / max(size))
    if _cover(size, 1.0, _PATCH_PX) > budget:
        scale = min(scale, _shrink(size, budget))
    return _cover(size, scale, _PATCH_PX)


def _shrink(size: Size, budget: int) -> float:
    """Return the guide's adjusted shrink factor, by which one side becomes whole patches."""
    factor = math.sqrt(_PATCH_PX**2 * budget / (size[0] * size[1]))
    sides = [side * factor / _PATCH_PX for side in size]
    return factor * min(max(1, math.floor(side)) / side for side in sides)


def _cover(size: Size, scale: float, square_px: int) -> int:
    """Count the squares that cover an image, its scaled sides rounded to whole pixels."""
    across, down = (math.ceil(max(1, round(side * scale)) / square_px) for side in size)
    return across * down


# By the guide's tables of models and of multipliers, the first match wins. gpt-4-turbo is billed as
# gpt-4o, and gpt-5.2, 5.6 and 6 by 1.2, as users measured; the guide names no factor for them.
_DATE = r"(-latest|-\d{4}(-\d\d-\d\d)?)?$"
_SMALL = r"(5\.4|5|4\.1)"
_FAMILIES: tuple[tuple[re.Pattern[str], _Family], ...] = tuple(
    (re.compile(rf"(ft:)?({pattern})"), family)
    for pattern, family in (
        (rf"gpt-{_SMALL}-mini", _Patches(1.62)),
        (rf"gpt-{_SMALL}-nano", _Patches(2.46)),
        (r"o4-mini", _Patches(1.72)),
        (r"gpt-5\.2(?!-codex|-chat)", _Patches(1.2)),
        (r"gpt-5(\.1|\.2|\.3)?-codex|gpt-5\.2-chat", _Patches(1.0)),
        (r"gpt-5\.4", _Patches(1.0, (2500, 2048), (10_000, 6000))),
        (r"gpt-5\.5", _Patches(1.0, (2500, 2048), (10_000, 6000), "original")),
        (r"gpt-(5\.[6-9]|[6-9])", _Patches(1.2, (2500, 2048), None, "original")),
        (rf"gpt-5(-chat)?{_DATE}", _Tiles(70, 140)),
        (r"gpt-4o-mini", _Tiles(2833, 5667)),
        (r"gpt-4(o|\.1|\.5|-turbo|-vision|-\d{4}-vision)|chatgpt-4o", _Tiles(85, 170)),
        (r"o1|o3", _Tiles(75, 150)),
        (r"computer-use-preview", _Tiles(65, 129)),
    )
)


def image_tokens(model: str, size: Size | None, detail: str = "auto") -> tuple[int, list[str]]:
    """Return the tokens of an image, and what was assumed for them.

    Args:
        model: its name decides the family; 765 where the guide says nothing of it.
        size: width and height in pixels; None is taken for 1024 × 1024.
        detail: `low`, `high`, `original` or `auto`, which tiles take for `high`.
    """
    family = next((each for pattern, each in _FAMILIES if pattern.match(model)), None)
    if family is None:
        return IMAGE_TOKENS, [f"an image is taken for {IMAGE_TOKENS} tokens with this model"]
    assumed = ["images are counted by OpenAI's images and vision guide"]
    if size is None and not (detail == "low" and isinstance(family, _Tiles)):
        assumed.append("an image of unknown size is taken for 1024 × 1024")
    return family.tokens(size or ASSUMED, detail), assumed
