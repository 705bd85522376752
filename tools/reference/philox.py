"""The random numbers of a step that a replay needs."""

import torch

# What the permutation's counter ends with; other draws of the same step have other numbers.
SHUFFLE = 5


def philox_4x32_10(counter, key):
    """One block of Philox4x32 with ten rounds (Salmon et al., SC 2011)."""
    c, k = list(counter), list(key)
    for i in range(10):
        if i:
            k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
        p, q = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [
            (q >> 32) ^ c[1] ^ k[0], q & 0xFFFFFFFF,
            (p >> 32) ^ c[3] ^ k[1], p & 0xFFFFFFFF,
        ]
    return c


def teacher_order(seed, step, n, index=0):
    """The permutation [N] of the batch of the teacher's pass `index`: Fisher and Yates's, drawn from
    Philox with the seed as its key and (block, step, purpose, index) as its counter."""
    key = (seed & 0xFFFFFFFF, seed >> 32)

    def draws():
        block = 0
        while True:
            counter = (block, step & 0xFFFFFFFF, step >> 32, SHUFFLE << 16 | index)
            yield from philox_4x32_10(counter, key)
            block += 1

    draw = draws()

    def below(m):
        while True:
            product = ((next(draw) << 32) | next(draw)) * m
            if product & (2**64 - 1) >= (2**64 - m) % m:
                return product >> 64

    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = below(i + 1)
        order[i], order[j] = order[j], order[i]
    return torch.tensor(order)
