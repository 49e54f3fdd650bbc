"""First-fit packing of sequences into rows of a token budget, as they come or longest first."""

from collections.abc import Sequence


def first_fit(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Bins of indices into `lengths`: each item goes to the first bin with room for it, else to a new one.

    Indices ascend within a bin, and bins by their first index, so the result is a function of the input alone. An item longer
    than `budget` has a bin of its own; every other bin holds at most `budget`. At most 1.7 times as many bins as the best
    packing, plus one (Dósa and Sgall, STACS 2013). O(n log n): a tree over the bins holds the most room of each subtree.

    Raises ValueError for a negative length or a budget below 1.
    """
    if budget < 1 or min(lengths, default=0) < 0:
        raise ValueError(
            f"budget {budget}, shortest length {min(lengths, default=0)}; expected a budget of 1 or more, no length < 0"
        )
    leaves = 1 << max(0, len(lengths) - 1).bit_length()
    room = [budget] * (2 * leaves)  # every bin that may be needed is there, empty; node i has children 2i and 2i + 1
    packed: dict[int, list[int]] = {}
    alone: list[list[int]] = []
    for index, length in enumerate(lengths):
        if length > budget:
            alone.append([index])
            continue
        node = 1
        while node < leaves:
            node *= 2
            node += room[node] < length
        packed.setdefault(node, []).append(index)
        room[node] -= length
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return sorted([*packed.values(), *alone])


def first_fit_falling(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """`first_fit` on falling lengths (equal ones in their order): at most 11/9 times as many bins as the best packing, plus 6/9
    (Dósa, ESCAPE 2007). Bins come longest item first, and so do the items of a bin: sequences of like lengths end up
    together, which pads least in `rollout.attention`, and memory runs out early or never.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    return [[order[place] for place in bin] for bin in first_fit([lengths[index] for index in order], budget)]
