"""The CRC-32C of the processor's instructions, in lanes, is that of the table, and both are RFC 3720's."""

import random

import pytest

from pykesto._system import crc32c, crc32c_software


@pytest.mark.parametrize("checksum", [crc32c, crc32c_software])
def test_the_examples_of_rfc_3720(checksum) -> None:  # type: ignore[no-untyped-def]
    assert checksum(bytes(32)) == 0x8A9136AA
    assert checksum(b"\xff" * 32) == 0x62A8AB43
    assert checksum(bytes(range(32))) == 0x46DD794E
    assert checksum(bytes(reversed(range(32)))) == 0x113FDB5C
    assert checksum(b"") == 0


def test_every_size_around_the_lanes_and_every_seed_give_the_same_in_one_go_and_in_parts() -> None:
    chance = random.Random(1)
    data = chance.randbytes(4000)
    for size in [*range(1000), *(chance.randrange(1000, 4000) for _ in range(200))]:
        begin, seed = chance.randrange(4000 - size + 1), chance.getrandbits(32)
        block = data[begin : begin + size]
        expected = crc32c_software(block, seed)
        assert crc32c(block, seed) == expected, size
        cut = chance.randrange(size + 1)
        assert crc32c(block[cut:], crc32c(block[:cut], seed)) == expected, size
