"""Values as bytes: scalars and keys in order, containers, references, and the images of rows.

docs/codec.md is the specification.
"""

from pykesto.codec._codec import (
    Reference,
    Unknown,
    decode,
    decode_key,
    decode_row,
    encode,
    encode_key,
    encode_row,
    family,
    family_range,
    find_column,
    is_scalar_encoding,
    pack_columns,
    parse_columns,
    prefix_range,
    range_of,
    register_container,
)
from pykesto.codec.registry import register

__all__ = [
    "Reference",
    "Unknown",
    "decode",
    "decode_key",
    "decode_row",
    "encode",
    "encode_key",
    "encode_row",
    "family",
    "family_range",
    "find_column",
    "is_scalar_encoding",
    "pack_columns",
    "parse_columns",
    "prefix_range",
    "range_of",
    "register",
    "register_container",
]
