"""CPU seconds of each corruption that can be made here on one picture: python tests/speed/corruptions.py [SIDE]"""

import sys
import time

import torch
from confident_ode.corruptions import catalogue

ROUNDS = 3


def seconds(function, picture):
    """The least CPU time of a few rounds, after one to warm up."""
    function(picture)
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        function(picture)
        times.append(time.process_time() - start)
    return min(times)


def main(side=256):
    torch.set_num_threads(1)
    picture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for family, functions in catalogue.FAMILIES.items():
        each = {name: seconds(functions[name], picture) for name in functions if name in catalogue.available()}
        for name, taken in each.items():
            print(f"{name:32}{1000 * taken:8.1f} ms")
        print(f"{f'all of {family}':32}{1000 * sum(each.values()):8.1f} ms\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
