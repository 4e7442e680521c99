"""Weights of the bootstrap: SHAKE-128 by hashlib, XXH3-128 by xxhash, AES rounds written from FIPS 197."""

import hashlib
import math
import sys
from pathlib import Path

import xxhash

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import write_json, write_metadata  # noqa: E402

UNIT_SEED = 0x676F737365740001
SEED_MARK = 0x73656564
LAW = [24109, 24110, 12055, 4017, 1005, 201, 34, 4, 1]
REPLICATES = 64


# ------------------------------------------------------------------------------------------------ FIPS 197


def xtime(a):
    """4.2.1: multiplication by x in GF(2⁸) modulo x⁸ + x⁴ + x³ + x + 1."""
    return (a << 1) ^ 0x11B if a & 0x80 else a << 1


def multiply(a, b):
    """4.2: multiplication in GF(2⁸)."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a, b = xtime(a), b >> 1
    return product


def substitute(a):
    """5.1.1: the multiplicative inverse, then the affine transformation."""
    inverse = next((b for b in range(256) if multiply(a, b) == 1), 0)
    rotated = [((inverse << s) | (inverse >> (8 - s))) & 0xFF for s in range(5)]
    return rotated[0] ^ rotated[1] ^ rotated[2] ^ rotated[3] ^ rotated[4] ^ 0x63


SBOX = bytes(substitute(a) for a in range(256))


def add_round_key(block, key):
    """5.1.4."""
    return bytes(a ^ b for a, b in zip(block, key, strict=True))


def shift_rows(block):
    """5.1.2; byte r + 4c of a block is row r and column c of the state."""
    return bytes(block[(i + 4 * (i % 4)) % 16] for i in range(16))


def mix_columns(block):
    """5.1.3."""
    mixed = bytearray()
    for c in range(0, 16, 4):
        column = block[c : c + 4]
        for row in range(4):
            rotated = column[row:] + column[:row]
            mixed.append(multiply(rotated[0], 2) ^ multiply(rotated[1], 3) ^ rotated[2] ^ rotated[3])
    return bytes(mixed)


def full_round(block, key):
    """SubBytes, ShiftRows, MixColumns, AddRoundKey."""
    return add_round_key(mix_columns(shift_rows(bytes(SBOX[b] for b in block))), key)


def expand_key(key):
    """5.2, for 128 bits."""
    words = [key[i : i + 4] for i in range(0, 16, 4)]
    constant = 1
    for i in range(4, 44):
        word = words[-1]
        if i % 4 == 0:
            word = bytes(SBOX[b] for b in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = xtime(constant)
        words.append(bytes(a ^ b for a, b in zip(words[i - 4], word, strict=True)))
    return [b"".join(words[i : i + 4]) for i in range(0, 44, 4)]


def encrypt(block, key):
    """5.1: AES-128, to check the rounds by the vectors of the standard."""
    keys = expand_key(key)
    state = add_round_key(block, keys[0])
    for round_key in keys[1:10]:
        state = full_round(state, round_key)
    return add_round_key(shift_rows(bytes(SBOX[b] for b in state)), keys[10])


def check_against_fips_197():
    """Appendix B, its state after the first round, and appendix C.1."""
    key, text = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"), bytes.fromhex("3243f6a8885a308d313198a2e0370734")
    keys = expand_key(key)
    after_one = full_round(add_round_key(text, keys[0]), keys[1])
    assert after_one.hex() == "a49c7ff2689f352b6b5bea43026a5049"
    assert encrypt(text, key).hex() == "3925841d02dc09fbdc118597196a0b32"
    key, text = bytes(range(16)), bytes.fromhex("00112233445566778899aabbccddeeff")
    assert encrypt(text, key).hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"


# ------------------------------------------------------------------------------------------------ the weights


def round_keys():
    """Six constants of 16 bytes."""
    stream = hashlib.shake_128(b"gosset bootstrap weights v1").digest(96)
    return [stream[i : i + 16] for i in range(0, 96, 16)]


KEYS = round_keys()


def block(low, high):
    """Two 64-bit words, little-endian, the low one first."""
    return low.to_bytes(8, "little") + high.to_bytes(8, "little")


def five_rounds(state):
    """Five full rounds with the constants 1 to 5."""
    for key in KEYS[1:]:
        state = full_round(state, key)
    return state


def seed_key(seed, mark=SEED_MARK):
    """What a seed adds to every block; the mark tells laws and factors apart."""
    return five_rounds(add_round_key(block(seed, mark), KEYS[0]))


def draws(unit, counter, seed, mark=SEED_MARK):
    """Sixteen random bytes of a unit."""
    state = add_round_key(add_round_key(block(unit >> 64, counter), KEYS[0]), seed_key(seed, mark))
    return five_rounds(state)


def alias_table():
    """Sixteen columns of 4096 draws, each shared by two weights."""
    left, table = list(LAW), []
    for _ in range(16):
        low = min((i for i in range(9) if left[i] > 0), key=lambda i: left[i])
        high = max(range(9), key=lambda i: left[i])
        if left[low] >= 4096:
            low = high
        taken = min(left[low], 4096)
        left[low] -= taken
        left[high] -= 4096 - taken
        table.append({"base": high, "alias": low, "threshold": 4096 - taken})
    assert left == [0] * 9
    return table


TABLE = alias_table()


def sixteen_bits(unit, replicate, seed, mark):
    """A draw of 16 bits as its high and its low byte."""
    counter, byte = 2 * (replicate // 16), replicate % 16
    return draws(unit, counter, seed, mark)[byte], draws(unit, counter + 1, seed, mark)[byte]


def weight(unit, replicate, seed, factor=0):
    """The Poisson weight of one unit in one replicate."""
    u, v = sixteen_bits(unit, replicate, seed, SEED_MARK | factor << 40)
    column, t = TABLE[u >> 4], (u & 15) << 8 | v
    return column["base"] if t < column["threshold"] else column["alias"]


def check_law():
    """Every 16-bit draw once gives the law, whose mean and variance are 1."""
    counted = [0] * 9
    for column in TABLE:
        counted[column["base"]] += column["threshold"]
        counted[column["alias"]] += 4096 - column["threshold"]
    assert counted == LAW and sum(LAW) == 65536
    assert sum(w * n for w, n in enumerate(LAW)) == 65536
    assert sum(w * w * n for w, n in enumerate(LAW)) == 2 * 65536


def exponential_law():
    """Counts of the sixteenths of exponential weights: rounded quantiles, of which some are moved by one step."""
    counts = [0] * 200
    for u in range(65536):
        counts[round(-math.log((u + 0.5) / 65536) * 16)] += 1
    for k in range(16):
        counts[k] -= 14
        counts[k + 1] += 14
    for k in (64, 66, 67, 69, 70, 72):
        counts[k] -= 8
        counts[k - 1] += 8
    counts = counts[: max(k for k, n in enumerate(counts) if n) + 1]
    assert sum(counts) == 65536 and min(counts) >= 0
    assert sum(k * n for k, n in enumerate(counts)) == 16 * 65536
    assert sum(k * k * n for k, n in enumerate(counts)) == 2 * 256 * 65536
    return counts


SIXTEENTHS = [k for k, n in enumerate(exponential_law()) for _ in range(n)]


def double_or_nothing(unit, replicate, seed, factor):
    """Twice the lowest bit of the high byte of a draw."""
    high, _ = sixteen_bits(unit, replicate, seed, SEED_MARK | 1 << 32 | factor << 40)
    return 2 * (high & 1)


def bayesian(unit, replicate, seed, factor):
    """Sixteenths of an exponential weight."""
    high, low = sixteen_bits(unit, replicate, seed, SEED_MARK | 2 << 32 | factor << 40)
    return SIXTEENTHS[high << 8 | low]


def assignment(unit, replicate, seed, factor):
    """A unit is assigned with a probability of a tenth, 6554 of 65536."""
    high, low = sixteen_bits(unit, replicate, seed, SEED_MARK | 3 << 32 | factor << 40)
    return int((high << 8 | low) < 6554)


def fold(unit, folds, seed):
    """The first word of the block at the counter "fold" above 32 bits, as a fraction of the folds."""
    word = int.from_bytes(draws(unit, 0x666F6C64 << 32, seed)[:8], "little")
    return word * folds >> 64


check_against_fips_197()
check_law()

if __name__ == "__main__":
    UNITS = {
        "integer 0": b"\x01" + bytes(16),
        "integer 1": b"\x01" + (1).to_bytes(16, "little"),
        "integer -1": b"\x01" + (-1).to_bytes(16, "little", signed=True),
        "integer 42": b"\x01" + (42).to_bytes(16, "little"),
        "string user-1": b"\x02user-1",
        "string (empty)": b"\x02",
        "binary user-1": b"\x03user-1",
        "bucket 0": b"\x00" + bytes(4),
        "bucket 1": b"\x00" + (1).to_bytes(4, "little"),
        "bucket 4095": b"\x00" + (4095).to_bytes(4, "little"),
    }
    cases = []
    for seed in [0, 7, 20260101, 2**64 - 1]:
        for name, canonical in UNITS.items():
            unit = xxhash.xxh3_128_intdigest(canonical, seed=UNIT_SEED)
            weights = [weight(unit, b, seed) for b in range(REPLICATES)]
            # A replicate far out, so that its counter takes more than one byte.
            far = {str(b): weight(unit, b, seed) for b in [999, 2047, 2048, 65535, 1000000]}
            # The seed is text, as it does not fit into JSON's numbers.
            cases.append({"unit": name, "hash": f"{unit:032x}", "seed": str(seed), "weights": weights, "far": far})
    folds = []
    for seed in [0, 1, 2**64 - 1]:
        for name in ["integer 42", "integer -1", "string user-1"]:
            unit = xxhash.xxh3_128_intdigest(UNITS[name], seed=UNIT_SEED)
            found = {str(k): fold(unit, k, seed) for k in [1, 2, 5, 10, 1000000]}
            folds.append({"unit": name, "hash": f"{unit:032x}", "seed": str(seed), "folds": found})

    write_json(
        FOLDER / "expected.json",
        {
            "round_keys": [key.hex() for key in KEYS],
            "seed_keys": {str(seed): seed_key(seed).hex() for seed in [0, 7, 20260101, 2**64 - 1]},
            "law": LAW,
            "alias_table": TABLE,
            "cases": cases,
            "folds": folds,
        },
    )
    LAWS = {"poisson": weight, "double_or_nothing": double_or_nothing, "bayesian": bayesian, "assignment": assignment}
    laws = []
    for law, draw in LAWS.items():
        for factor in [0, 1]:
            for seed in [0, 2**64 - 1]:
                for name in ["integer 0", "string user-1"]:
                    unit = xxhash.xxh3_128_intdigest(UNITS[name], seed=UNIT_SEED)
                    weights = [draw(unit, b, seed, factor) for b in range(300)]
                    case = {"law": law, "factor": factor, "unit": name, "hash": f"{unit:032x}", "seed": str(seed)}
                    laws.append(case | {"weights": weights})

    write_json(FOLDER / "laws.json", {"exponential": exponential_law(), "cases": laws})
    write_metadata(FOLDER, ["xxhash"], "equal", "FIPS 197 and FIPS 202 (hashlib); the rounds pass the vectors of FIPS 197")
