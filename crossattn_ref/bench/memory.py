"""How much memory a call takes beside what it is given: counted by Python for NumPy, storage by storage for torch.

Both count what is asked for, to the byte, and so give the same figure at each run and on each machine. Neither sees
what a library sets aside inside one of its own operations.
"""

import tracemalloc
from collections.abc import Callable

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def numpy_peak(call: Callable[[], object]) -> int:
    """Count the bytes that NumPy (and Python) hold at most during a call, beyond those that were held before it.

    The call is made once beforehand: the first one fills caches. Its result counts, as does all that lives beside it.
    """
    call()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def torch_peak(call: Callable[[], object]) -> int:
    """Count the bytes of all tensors that a call makes and that live at the same time, its result included."""
    with LiveBytes() as live:
        call()
    return live.peak


class LiveBytes(TorchDispatchMode):
    """Watch the storages that torch's operations make: `peak` is the most bytes of them that were alive at once.

    Storages that existed before, such as those of arguments, do not count, nor do views of them.
    """

    def __init__(self):
        super().__init__()
        self.peak = 0
        self._made, self._given = {}, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self._forget()
        for storage in _storages((args, kwargs)):
            if storage._cdata not in self._made:
                self._given[storage._cdata] = StorageWeakRef(storage)
        out = function(*args, **(kwargs or {}))
        for storage in _storages(out):
            if storage._cdata not in self._given:
                self._made[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, sum(size for _, size in self._made.values()))
        return out

    def _forget(self):
        """Drop what has been freed: its place in memory may be given to another."""
        self._made = {key: held for key, held in self._made.items() if not held[0].expired()}
        self._given = {key: held for key, held in self._given.items() if not held.expired()}


def _storages(tree):
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
