"""Formats: they turn items into bytes. Nothing here waits, and nothing depends on HTTP."""

from __future__ import annotations

from tailrace.framing.base import Carries, Framing
from tailrace.framing.codecs import ENCODINGS, Codec, codec_for, is_compressible
from tailrace.framing.csv import CSV
from tailrace.framing.json import JSONArray, JSONLines, error_json, json_of
from tailrace.framing.multipart import MultipartMixedReplace, Part
from tailrace.framing.raw import Raw
from tailrace.framing.row import json_text, keyed_as_dict, serialize_unknown, without_nat
from tailrace.framing.sse import Event, ServerSentEvents, is_event

__all__ = [
    "CSV",
    "ENCODINGS",
    "Carries",
    "Codec",
    "Event",
    "Framing",
    "JSONArray",
    "JSONLines",
    "MultipartMixedReplace",
    "Part",
    "Raw",
    "ServerSentEvents",
    "codec_for",
    "error_json",
    "is_compressible",
    "is_event",
    "json_of",
    "json_text",
    "keyed_as_dict",
    "serialize_unknown",
    "without_nat",
]
