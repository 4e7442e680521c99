"""Exact sums of adversarial doubles, by rational arithmetic, each rounded once to the nearest even double."""

import math
import random
import struct
import sys
from fractions import Fraction
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import write_json, write_metadata  # noqa: E402

SEED = 20260101
TINY = 5e-324
MAX = sys.float_info.max
EPS = sys.float_info.epsilon


def bits(x):
    """The bit pattern of a double, most significant digit first."""
    return struct.pack(">d", x).hex()


def rounded(x):
    """A Fraction as the nearest double, ties to even; beyond the largest it is infinite; exact zero is +0."""
    try:
        return float(x)
    except OverflowError:
        return math.inf if x > 0 else -math.inf


def case(name, x, y=None):
    """A case; without y, the x themselves backwards, so that products mix the magnitudes."""
    y = list(reversed(x)) if y is None else y
    a, b = [Fraction(v) for v in x], [Fraction(v) for v in y]
    n, sx, sy = len(x), sum(a, Fraction(0)), sum(b, Fraction(0))
    sxx = sum((v * v for v in a), Fraction(0))
    sxy = sum((v * w for v, w in zip(a, b, strict=True)), Fraction(0))
    try:
        assert math.fsum(x) == rounded(sx), name
    except OverflowError:
        pass  # fsum gives up where a partial sum overflows; the true sum need not.
    return {
        "name": name,
        "x": [bits(v) for v in x],
        "y": [bits(v) for v in y],
        "sum_x": bits(rounded(sx)),
        "sum_xx": bits(rounded(sxx)),
        "sum_xy": bits(rounded(sxy)),
        "n_sxx_minus_sx_sx": bits(rounded(n * sxx - sx * sx)),
        "n_sxy_minus_sx_sy": bits(rounded(n * sxy - sx * sy)),
    }


def generated(rng):
    """Random cases of every magnitude; only random() is drawn, whose stream Python never changes."""

    def wide(low, high):
        return (rng.random() * 2 - 1) * 2.0 ** (low + int(rng.random() * (high - low + 1)))

    offset = [1e9 + rng.random() for _ in range(200)]
    cents = [int(rng.random() * 100000) / 100 for _ in range(200)]
    flags = [float(rng.random() < 0.3) for _ in range(200)]
    integers = [float(int(rng.random() * 2**53)) for _ in range(100)]
    everything = [wide(-1074, 1020) for _ in range(100)]
    moderate = [wide(-60, 60) for _ in range(200)]
    cancelling = [v for pair in ((v, -v) for v in moderate) for v in pair] + [1e-30]
    subnormal = [TINY * int(rng.random() * 2**40) * (1 if rng.random() < 0.5 else -1) for _ in range(100)]
    yield case("offset 1e9", offset, [v + rng.random() for v in offset])
    yield case("cents", cents)
    yield case("flags", flags, cents)
    yield case("integers of 53 bits", integers)
    yield case("every magnitude", everything)
    yield case("moderate magnitudes", moderate)
    yield case("pairs that cancel and 1e-30", cancelling)
    yield case("subnormals", subnormal)
    yield case("subnormals beside large values", subnormal, [wide(1000, 1020) for _ in subnormal])


cases = [
    case("nothing", []),
    case("one value", [0.1]),
    case("zeros of both signs", [0.0, -0.0, -0.0]),
    case("only negative zeros", [-0.0, -0.0]),
    case("tenths", [0.1] * 10),
    case("a constant", [0.1] * 7),
    case("1e300 beside 1e-300", [1e300, 1e-300, -1e300]),
    case("1e300 beside 1e-300 with products that cancel", [1e300, 1e-300, 1e300], [1e-300, 1e300, -1e-300]),
    case("1e308 that overflows on the way only", [1e308, 1e308, -1e308, -1e308, 1.0]),
    case("sum beyond the largest double", [MAX, MAX]),
    case("sum of exactly the largest double", [MAX, 2.0**969, -(2.0**969)]),
    case("half an ulp above the largest double rounds to infinity", [MAX, 2.0**970]),
    case("just below half an ulp above the largest double", [MAX, 2.0**970, -TINY]),
    case("products beyond the largest double", [1e200, -1e200, 3.0], [1e200, 1e200, 5.0]),
    case("products below the smallest subnormal", [1e-200, 1e-200], [1e-200, 1e-200]),
    case("products below the smallest subnormal that add up", [2.0**-538] * 9, [2.0**-538] * 9),
    case("half the smallest subnormal, a tie to zero", [2.0**-538, 1.0], [2.0**-537, 0.0]),
    case("the smallest subnormals", [TINY, TINY, -TINY, 3 * TINY]),
    case("smallest normal from subnormals", [2.0**-1022 - TINY, TINY]),
    case("a tie to even below", [1.0, EPS / 2]),
    case("a tie to even above", [1.0 + EPS, EPS / 2]),
    case("a tie broken upwards by the smallest subnormal", [1.0, EPS / 2, TINY]),
    case("a tie broken downwards by the smallest subnormal", [1.0 + EPS, EPS / 2, -TINY]),
    case("a negative tie", [-1.0, -EPS / 2, -TINY]),
    case("a tie after cancellation", [1e16, 1.0, -1e16, 2.0**-60, EPS / 2]),
    case("large beside small", [1e16, 1.0, 1.0, -1e16]),
    case("powers of two", [2.0**e for e in range(-1074, 1023, 7)]),
    case("alternating powers of two", [(-1) ** e * 2.0**e for e in range(-1074, 1023, 5)]),
    case("integers beside halves", [9007199254740992.0, 1.0, 0.5, 0.5]),
    *generated(random.Random(SEED)),
]

write_json(FOLDER / "expected.json", cases)
write_metadata(
    FOLDER,
    [],
    "equal bits; zero and negative zero are equal (an exact sum of zero is +0 here, a negative one that underflows is -0)",
    "fractions.Fraction, checked against math.fsum",
    SEED,
)
