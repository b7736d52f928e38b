"""Images: what OpenAI's guide bills, and sizes from the heads of real files."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from limiter import tokens
from limiter.tokens.images import image_tokens
from limiter.tokens.sizes import size_in, size_of


def picture(form: str, size: tuple[int, int], **how) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, form, **how)
    return file.getvalue()


def url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    ("model", "size", "detail", "billed"),
    [
        ("gpt-4o", (1024, 1024), "high", 765),  # the guide's examples of tiles
        ("gpt-4o", (2048, 4096), "high", 1105),
        ("gpt-4o", (4096, 8192), "low", 85),
        ("gpt-4o", (128, 64), "high", 85 + 170),  # not enlarged, as users measured
        ("gpt-4o-mini-2024-07-18", (1024, 1024), "auto", 2833 + 4 * 5667),
        ("gpt-4.1-2025-04-14", (512, 512), "high", 85 + 170),
        ("o3", (1024, 1024), "high", 75 + 4 * 150),
        ("gpt-5", (1024, 1024), "high", 70 + 4 * 140),
        ("computer-use-preview", (1024, 768), "high", 65 + 4 * 129),
        ("gpt-5.4", (1024, 1024), "high", 1024),  # the guide's examples of patches
        ("gpt-5-codex-mini", (1800, 2400), "high", 1452),
        ("gpt-5-codex-mini", (2202, 1034), "high", 1456),  # a side of whole patches stays whole
        ("gpt-4.1-mini", (1024, 1024), "high", 1659),  # 1.62 for a patch, rounded up
        ("gpt-4.1-nano", (1024, 1024), "high", 2520),
        ("o4-mini", (1800, 2400), "high", 2498),
        ("gpt-5-nano", (4096, 4096), "low", 630),  # 512 px: 256 patches of 2.46
        ("gpt-5.4", (8000, 1000), "high", 64 * 8),  # the longest side, not the budget
        ("gpt-5.4", (3000, 3000), "auto", 2500),
        ("gpt-5.5", (3000, 3000), "auto", 94 * 94),
        ("gpt-5.6-sol", (9600, 9600), "auto", 108_000),  # without bounds, 1.2 for a patch
        ("gpt-5-mini", (1, 100_000), "high", 104),
        ("nobody-knows", (3000, 3000), "high", 765),
    ],
)  # fmt: skip
def test_images_are_billed_by_the_guide(model, size, detail, billed):
    """Tiles, patches, budgets and factors are those of the guide, and never called exact."""
    found, assumed = image_tokens(model, size, detail)
    assert found == billed
    assert assumed


def test_a_larger_image_is_never_above_the_budget():
    """Whatever its shape, an image takes at most the budget of its model, and at least one patch."""
    for width in (1, 31, 33, 500, 1999, 2049, 7000, 60_000):
        for height in (1, 47, 777, 4096, 50_000):
            found, _ = image_tokens("gpt-5.4", (width, height), "high")
            assert 1 <= found <= 2500, (width, height)


@pytest.mark.parametrize("size", [(1, 1), (640, 400), (4000, 3000)])
@pytest.mark.parametrize(
    ("form", "how"),
    [
        ("PNG", {}), ("GIF", {}), ("JPEG", {}), ("JPEG", {"progressive": True}),
        ("JPEG", {"icc_profile": b"x" * 150_000, "comment": b"\xff\xc0" * 9}),
        ("WEBP", {}), ("WEBP", {"lossless": True}), ("WEBP", {"icc_profile": b"x" * 300}),
    ],
    ids=str,
)  # fmt: skip
def test_sizes_are_read_from_the_head(form, how, size):
    """Each format tells width and height; half a file tells the same or nothing, and never raises."""
    data = picture(form, size, **how)
    assert size_of(url(data)) == size
    assert size_of(base64.urlsafe_b64encode(data).decode()) == size
    assert size_of(url(data).replace("base64,", "base64,\n ")) == size
    for end in range(0, len(data), max(1, len(data) // 300)):
        assert size_in(data[:end]) in {None, size}


def test_tables_of_a_jpeg_are_no_frames():
    """Huffman tables, arithmetic coding and fill bytes may stand before the frame that has the size."""
    before = b"".join(b"\xff" + bytes([kind]) + b"\0\x06abcd" for kind in (0xC4, 0xC8, 0xCC, 0xE0))
    head = b"\xff\xd8" + before + b"\xff\xff\xff\xc2\0\x11\x08" + b"\0\x02\0\x03"
    assert size_in(head) == (3, 2)


@pytest.mark.parametrize(
    "odd",
    ["", "https://example.com/a.png", "data:,x", "data:image/png;base64,", "data:image/png,abc",
     "data:image/png;base64,é", url(b"\xff\xd8\xff"), url(b"\xff\xd8" + b"\xff" * 90),
     url(b"\x89PNG\r\n\x1a\n" + bytes(20)), "\ud800"],
)  # fmt: skip
def test_what_is_no_image_has_no_size(odd):
    """Links, broken heads and sizes of zero are None."""
    assert size_of(odd) is None


@pytest.mark.usefixtures("by_bytes")
def test_images_of_a_request_are_billed_by_size_and_detail():
    """Inline sizes are read in each spelling; a link is taken for 1024 × 1024, and said so."""
    data = url(picture("PNG", (512, 512)))
    bare = base64.b64encode(picture("PNG", (512, 512))).decode()
    small = [
        {"type": "image_url", "image_url": {"url": data}},
        {"type": "input_image", "image_url": data},
        {"type": "image", "source": {"type": "base64", "data": bare}},
        {"inline_data": {"mime_type": "image/png", "data": bare}},
    ]
    for part in small:
        found = tokens.count_request([{"role": "user", "content": [part]}], None, "gpt-4o")
        assert (found.images, found.text, found.exact) == (255, 0, False), part
        assert not any("unknown size" in why for why in found.assumptions)
    for detail, billed in (("low", 85), ("high", 765)):
        part = {"type": "image_url", "image_url": {"url": "https://x/a.png", "detail": detail}}
        found = tokens.count_request([{"role": "user", "content": [part]}], None, "gpt-4o")
        assert found.images == billed
        assert any("unknown size" in why for why in found.assumptions) == (detail == "high")
