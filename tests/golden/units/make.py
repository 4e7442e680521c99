"""Keys of units: XXH3-128 of a type tag and the canonical bytes of the value, by the xxhash package."""

import struct
import sys
from pathlib import Path

import xxhash

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import write_json, write_metadata  # noqa: E402

SEED = int.from_bytes(b"gosset\x00\x01", "big")
assert SEED == 0x676F737365740001


def integer(value):
    """Tag 1 and the value as 128 bits, little-endian, whatever the width of its column."""
    return b"\x01" + value.to_bytes(16, "little", signed=True)


def string(value):
    """Tag 2 and UTF-8."""
    return b"\x02" + value.encode()


def binary(value):
    """Tag 3 and the bytes."""
    return b"\x03" + value


def bucket(index):
    """Tag 0 and 32 bits, little-endian: the key of a bucket that is resampled as one unit."""
    return b"\x00" + index.to_bytes(4, "little")


def case(kind, value, canonical):
    """The published numbers of one key."""
    key = xxhash.xxh3_128_intdigest(canonical, seed=SEED)
    return {
        "type": kind,
        "value": value,
        "canonical": canonical.hex(),
        "hash": f"{key:032x}",
        "bucket_4096": key % 4096,
        "bucket_256": key % 256,
    }


def mix(a, b):
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014) of one number and a rotated multiple of the other."""
    word = (1 << 64) - 1
    b = b * 0x9E3779B97F4A7C15 & word
    z = a ^ (b << 31 | b >> 33) & word
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & word
    z = (z ^ z >> 27) * 0x94D049BB133111EB & word
    return z ^ z >> 31


def row(values):
    """`row_hash`: the lower halves of the keys of the values, mixed one after the other; 1 for NULL; doubles by their bytes."""
    total = 0
    for value in values:
        canonical = {
            int: integer,
            str: string,
            bytes: binary,
            float: lambda x: binary(struct.pack("<d", x)),
        }.get(type(value))
        key = 1 if canonical is None else xxhash.xxh3_128_intdigest(canonical(value), seed=SEED)
        total = mix(total, key % 2**64)
    return total - 2**64 if total >> 63 else total


INTEGERS = [-1, 0, 1, 2, 42, 255, 256, 10**9, 2**31 - 1, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1]
TEXTS = ["", "a", "42", "user-1", "user-2", "x" * 62, "x" * 63, "x" * 64, "x" * 239, "x" * 240, "x" * 241]
TEXTS += ["0123456789" * 30, "0123456789" * 200, "naïve", "n\u0061i\u0308ve", "用户-1", "🙂"]
BINARIES = [b"", b"\x00", b"a", b"42", b"user-1", bytes(range(256)), b"\xff\xfe\x00\x01"]

write_json(
    FOLDER / "expected.json",
    # Integers are text, as they do not fit into JSON's numbers.
    [case("integer", str(v), integer(v)) for v in INTEGERS]
    + [case("string", v, string(v)) for v in TEXTS]
    + [case("binary", v.hex(), binary(v)) for v in BINARIES]
    + [case("bucket", str(v), bucket(v)) for v in [0, 1, 255, 4095, 65535]],
)
ROWS = [(1,), (None,), ("1",), (1.0,), (0.0,), (1, "a"), ("a", 1), (1, "a", None), (b"\x00\xff",), (-1, 2**63)]
ROWS += [("2026-01-02",), ("2026-01-02T03:04:05",), ("1.50",), (2, "b"), (3, None)]
write_json(FOLDER / "rows.json", [{"row": repr(values), "row_hash": row(values)} for values in ROWS])
write_metadata(FOLDER, ["xxhash"], "equal", "xxhash (the C library of the algorithm's author)", f"0x{SEED:016x}")
