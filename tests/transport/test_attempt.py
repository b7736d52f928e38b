"""The account of an attempt, and the copy that it reads: pure, piece by piece."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest

from limiter import providers
from limiter.transport import attempt as attempts
from limiter.transport.attempt import Attempt
from limiter.transport.coding import _PIECE, Decoder, acceptable, decoded
from tests.transport.scripted import DONE, completion, event

BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"


def made(rule="usage", status=200, path=PATH, **headers):
    profile = providers.profile("openai")
    cost = profile.estimate(path, BODY, rule=rule)
    one = Attempt("q", cost, profile=profile, path=path, body=BODY, rule=rule, asked={})
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    one.answered(status, {"content-type": "application/json", **named})
    return one


def test_a_body_is_read_at_any_cut():
    """Usage is found however the bytes were split; half a body leaves the estimate."""
    body = json.dumps(completion(77)).encode()
    for at in range(len(body)):
        one = made()
        one.saw(body[:at])
        assert one.used() == one.cost
        one.saw(body[at:])
        assert one.used() == {"requests": 1, "tokens": 77}


def test_the_end_of_a_stream_is_told_once():
    """`over` comes with `[DONE]`; what follows is not read."""
    one = made(content_type="text/event-stream; charset=utf-8")
    assert not one.saw(event("1234"))
    assert one.saw(DONE)
    assert one.over
    before = one.used()
    assert not one.saw(event(usage={"prompt_tokens": 1, "completion_tokens": 1}))
    assert one.used() == before


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
def test_an_answer_in_a_foreign_coding_leaves_the_estimate(kind, coding):
    """A server that packs as nobody asked it to is charged as estimated."""
    one = made(content_type=kind, content_encoding=coding)
    assert not one.saw(b"\x1b\x00\x80")
    assert one.used() == one.cost


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_a_damaged_answer_leaves_the_estimate(kind):
    """Bytes that are not what they say disturb nobody."""
    one = made(content_type=kind, content_encoding="gzip")
    assert not one.saw(b"no gzip at all")
    assert not one.saw(b"nor here")
    assert one.used() == one.cost


def test_an_endless_body_is_not_kept(monkeypatch):
    """Beyond a size the estimate stands, and the memory is free."""
    monkeypatch.setattr(attempts, "ANSWER_MAX_BYTES", 100)
    one = made()
    for _ in range(10):
        one.saw(b" " * 30)
    one.saw(json.dumps(completion(77)).encode())
    assert one._answer is None
    assert one.used() == one.cost


@pytest.mark.parametrize(
    ("rule", "path", "is_kept"),
    [
        ("admission", PATH, False),
        ("admission", "/v1/embeddings", False),
        ("admission", "/v1/responses", True),
        ("usage", PATH, True),
        ("usage", "/v1/moderations", False),
    ],
)
def test_only_answers_whose_usage_matters_are_kept(rule, path, is_kept):
    """What was charged at admission for good is not copied."""
    assert (made(rule, path=path)._answer is not None) == is_kept


@pytest.mark.parametrize(
    ("status", "used"),
    [
        (200, {"requests": 1, "tokens": 260}),
        (302, None),
        (400, {"requests": 1, "tokens": 260}),
        (429, {"requests": 1, "tokens": 0}),
        (500, {"requests": 1, "tokens": 260}),
    ],
)
def test_a_status_says_what_was_used(status, used):
    """Refusals give tokens back, redirects all, errors nothing."""
    assert made(status=status).used() == used


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, lambda data: data])
def test_a_bomb_is_read_in_pieces(pack):
    """However far some bytes decode, no piece is larger than a mebibyte, and none is missing."""
    coding = {gzip.compress: "gzip", zlib.compress: "deflate"}.get(pack, "identity")
    sizes = [len(piece) for piece in Decoder(coding).feed(pack(bytes(5 * _PIECE)))]
    assert sum(sizes) == 5 * _PIECE
    assert coding == "identity" or max(sizes) == _PIECE


def test_nothing_is_left_inside_the_decoder():
    """What a piece had no room for comes at once, though all of the input is read."""
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(bytes(_PIECE + 5)) + packer.flush()
    assert [len(piece) for piece in Decoder("deflate").feed(packed)] == [_PIECE, 5]


def test_a_body_above_the_limit_is_not_decoded():
    """Nor one that is damaged."""
    assert decoded(gzip.compress(bytes(10)), "gzip", 10) == bytes(10)
    assert decoded(gzip.compress(bytes(11)), "gzip", 10) is None
    assert decoded(b"xyz", "gzip", 10) is None


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("gzip, deflate", "gzip, deflate"),
        ("identity", "identity"),
        ("gzip;q=1.0", "gzip;q=1.0"),
        ("gzip, deflate, br, zstd", "gzip, deflate"),
        ("*", "gzip, deflate"),
    ],
)
def test_codings_are_narrowed_only_where_needed(asked, sent):
    """What can be read is left as the caller wrote it."""
    assert acceptable(asked) == sent
