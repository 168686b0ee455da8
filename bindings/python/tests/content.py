"""The blobs of ffi/tests/programs/content.h: key, length and bytes follow from a number."""

import array
import ctypes

VALUE_LEN_MAX = 8 << 20
MASK = (1 << 64) - 1

# C's own, for a last digit would make another length; Python has it from 3.11 on.
_exp2 = ctypes.CDLL("libm.so.6").exp2
_exp2.argtypes, _exp2.restype = (ctypes.c_double,), ctypes.c_double


def mix(number):
    number = (number + 0x9E3779B97F4A7C15) & MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & MASK
    return number ^ (number >> 31)


def value_len(number):
    share = (mix(number) >> 11) / 9007199254740992.0
    if number < 2:
        return 0 if number == 0 else VALUE_LEN_MAX
    if mix(number + 1) % 20 == 0:
        return int(_exp2(16.0 + 7.0 * share))
    return int(_exp2(16.0 * share)) - 1


def value(number, writer):
    length = value_len(number)
    word = mix((number * 1000003 + ord(writer[0]) * 7 + len(writer)) & MASK)
    words = array.array(
        "Q",
        [
            word := (word * 6364136223846793005 + 1442695040888963407) & MASK
            for _ in range(-(-length // 8))
        ],
    )
    return memoryview(words).cast("B")[:length]


def key(number, writer):
    return f"{writer}/{number}"
