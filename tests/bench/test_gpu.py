"""The GPU as a place to measure at, with a stand-in for CUDA: what is recorded, timed, counted and said of it."""

import contextlib
import itertools
import subprocess
import weakref
from types import SimpleNamespace

import pytest
import torch

from crossattn_ref.bench import backends, beam_step, gpu, gpu_rows
from crossattn_ref.bench.gpu_rows import Row
from crossattn_ref.cost import Shape

CPU = torch.device("cpu")


class Pretended(str):
    """A device that tensors take for the CPU, and the code for a GPU."""

    type = "cuda"


class Cuda:
    """What is asked of torch.cuda, done on a CPU: each event is a second after the one before, graphs note calls."""

    def __init__(self, monkeypatch):
        self.clock, self.stream, self.records_ok, self.graphs = itertools.count(), "usual", True, []
        properties = {"name": "made up", "total_memory": 7, "multi_processor_count": 11, "L2_cache_size": 13_000}
        stand_ins = {
            "get_device_properties": lambda *_: SimpleNamespace(**properties, clock_rate=17_000),
            "get_device_name": lambda *_: "made up",
            "is_available": lambda: True,
            "synchronize": lambda *_: None,
            "current_stream": lambda: self.stream,
            "set_stream": lambda stream: setattr(self, "stream", stream),
            "reset_peak_memory_stats": lambda: None,
            "memory_allocated": lambda: 100,
            "max_memory_allocated": lambda: 119,
            "Event": lambda enable_timing: SimpleNamespace(),
            "CUDAGraph": lambda: SimpleNamespace(replay=self._replay),
            "graph": self._graph,
        }
        for name, stand_in in stand_ins.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)
        monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: _Event(self.clock))
        monkeypatch.setattr(gpu, "_smi", lambda name: None)
        self.replayed = 0

    def _replay(self):
        self.replayed += 1

    @contextlib.contextmanager
    def _graph(self, graph):
        self.graphs.append(graph)
        before, self.stream = self.stream, "recording"
        yield
        if not self.records_ok:
            raise RuntimeError("operation failed due to a previous error during capture")
        self.stream = before


class _Event:
    def __init__(self, clock):
        self.clock = clock

    def record(self):
        self.at = next(self.clock)

    def elapsed_time(self, other):
        return 1e3 * (other.at - self.at)


@pytest.fixture
def cuda(monkeypatch):
    return Cuda(monkeypatch)


def test_a_turn_is_recorded_as_one_graph_and_replayed_between_two_events(cuda):
    made = []
    turn = gpu.turn([lambda: made.append(0), lambda: made.append(1)], Pretended("cpu"))
    assert turn.how == "graph"
    assert made == [0, 1] * (1 + turn.n // 2)  # once beforehand
    (times,) = gpu.timed([turn], Pretended("cpu"), samples=5)
    assert times == [1e6 / turn.n] * 5
    assert cuda.replayed == 5 + gpu.WARM_UP


def test_a_graph_has_its_inputs_as_long_as_it_is_there(cuda):
    inputs = [torch.ones(3), torch.ones(5)]
    seen = [weakref.ref(one) for one in inputs]
    turn = gpu.turn([inputs[0].sum, inputs[1].sum], Pretended("cpu"))
    del inputs
    assert all(one() is not None for one in seen)
    del turn
    assert all(one() is None for one in seen)


def test_what_cannot_be_recorded_is_launched_on_the_usual_stream(cuda):
    cuda.records_ok = False
    turn = gpu.turn([lambda: None], Pretended("cpu"))
    assert (turn.how, cuda.stream) == ("launches", "usual")
    assert gpu.turn([lambda: None], Pretended("cpu"), record=False).how == "launches"
    assert len(cuda.graphs) == 1


def test_turns_take_turns_and_the_first_rounds_do_not_count(cuda):
    order = []
    turns = [gpu.Turn(lambda name=name: order.append(name), 1, "loop") for name in "ab"]
    assert [len(times) for times in gpu.timed(turns, Pretended("cpu"), samples=2)] == [2, 2]
    assert order == list("abba" * 3)[: 2 * (gpu.WARM_UP + 2)]


def test_inputs_together_are_four_times_as_large_as_the_cache(cuda):
    assert gpu.n_sets(Pretended("cpu"), 13_000) == 4
    assert gpu.n_sets(Pretended("cpu"), 12_999) == 5
    assert gpu.n_sets(Pretended("cpu"), 10**9) == 1
    assert gpu.n_sets(Pretended("cpu"), 1) == gpu.MOST_SETS


@pytest.fixture
def nothing(monkeypatch):
    """Let torch find no GPU, and triton be installed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: object())


@pytest.mark.usefixtures("nothing")
def test_a_torch_without_cuda_is_told_from_a_driver_that_is_missing_or_too_old(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.99.0+cpu")
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(ValueError, match=r"torch 2\.99\.0\+cpu is a build without CUDA: install one with it") as error:
        gpu.needed()
    assert "driver" not in str(error.value)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for reason in ("Found no NVIDIA driver on your system", "The NVIDIA driver on your system is too old (version 4)"):
        monkeypatch.setattr(torch.cuda, "init", lambda reason=reason: (_ for _ in ()).throw(RuntimeError(reason)))
        with pytest.raises(ValueError, match=r"built for CUDA 13\.0, cannot use one here and says: ") as error:
            gpu.needed()
        assert reason in str(error.value)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    with pytest.raises(ValueError, match="no GPU is to be seen"):
        gpu.needed()


@pytest.mark.usefixtures("nothing")
def test_without_a_gpu_the_message_names_what_runs_here():
    with pytest.raises(ValueError, match=r"what runs without a GPU is crossattn bench attention-cpu$") as error:
        gpu.needed()
    assert "triton, which" not in str(error.value)


def test_without_triton_the_message_says_so_with_a_gpu_and_without(cuda, monkeypatch):
    assert gpu.needed() == torch.device("cuda")
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None)
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        with pytest.raises(ValueError, match=r"triton, which `fused` needs, is not installed: pip install") as error:
            gpu.needed()
        assert ("torch " + torch.__version__ in str(error.value)) is not there


def test_poison_is_left_in_places_of_the_sizes_asked_for(monkeypatch):
    left, full_like = [], torch.full_like
    monkeypatch.setattr(torch, "full_like", lambda *given: left.append(full_like(*given)) or left[-1])
    gpu.poison(torch.ones(2, 3), torch.ones(5, dtype=torch.bfloat16))
    assert [(tuple(one.shape), one.dtype) for one in left[::2]] == [((2, 3), torch.float32), ((5,), torch.bfloat16)]
    assert all(bool(one.isnan().all()) for one in left)


def test_memory_is_counted_beside_what_was_there(cuda):
    assert gpu.peak(lambda: None, Pretended("cpu")) == 19


def test_ceilings_are_measured_and_exponentials_follow_from_the_clock(cuda, monkeypatch):
    monkeypatch.setattr(gpu, "SIDE", 5)
    monkeypatch.setattr(gpu, "COPIED", 28)
    measured, machine = gpu.ceilings_of(Pretended("cpu"), samples=2)
    assert {name: len(values) for name, values in measured.items()} == {
        "matrix_rate": 2, "copy_bandwidth": 2, "read_bandwidth": 2, "exp_rate": 1,
    }  # fmt: skip
    assert machine.exp_rate == 16 * 11 * 17e6
    assert machine.rates == {"bfloat16": max(measured["matrix_rate"])}
    assert machine.bandwidth == max(measured["copy_bandwidth"] + measured["read_bandwidth"])


def test_what_is_copied_is_read_and_written_and_a_product_multiplies_and_adds(cuda, monkeypatch):
    monkeypatch.setattr(gpu, "SIDE", 5)
    monkeypatch.setattr(gpu, "COPIED", 28)
    recorded = []

    def turn(calls, device, record):
        recorded.append(record)
        return gpu.Turn(calls[0], 1, "graph")  # of a second each

    monkeypatch.setattr(gpu, "turn", turn)
    measured, _ = gpu.ceilings_of(Pretended("cpu"), samples=1)
    rates = {name: values for name, values in measured.items() if name != "exp_rate"}
    assert rates == {"matrix_rate": [2 * 5**3], "copy_bandwidth": [2 * 28], "read_bandwidth": [28]}
    assert dict(zip(rates, recorded, strict=True)) == {
        "matrix_rate": True,
        "copy_bandwidth": False,
        "read_bandwidth": True,
    }


def test_the_gpu_is_named_with_what_runs_it(cuda):
    named = gpu.hardware()
    assert (named["gpu"], named["multiprocessors"], named["l2_bytes"]) == ("made up", 11, 13_000)
    assert {"driver", "cuda", "cudnn", "torch_git"} <= set(named)


def test_the_driver_is_asked_where_it_is_there(monkeypatch):
    monkeypatch.setattr(gpu.shutil, "which", lambda name: f"/usr/bin/{name}")
    answer = subprocess.CompletedProcess([], 0, stdout="580.1\n")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: answer if "driver_version" in command[1] else None)
    assert gpu._smi("driver_version") == "580.1"
    monkeypatch.setattr(gpu.shutil, "which", lambda name: None)
    assert gpu._smi("driver_version") is None


@pytest.mark.parametrize("backward", [False, True])
def test_a_row_is_measured_from_end_to_end(cuda, monkeypatch, backward):
    monkeypatch.setattr(gpu, "SIDE", 5)
    monkeypatch.setattr(gpu, "COPIED", 28)
    monkeypatch.setattr(gpu, "kernels", lambda call, device: ["a kernel"])
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)  # looks for what only a real GPU has
    row = Row(shape=Shape(B=2, H=3, Nq=5, Nk=7, D=16, dtype="bfloat16"), backward=backward, ways=("default", "cudnn"))
    found = {(m.case, m.metric): m for row in gpu_rows.measure("p", [row], device=Pretended("cpu")) for m in row}
    line = found[f"{row.name}/default", "median_us"]
    assert len(line.samples) == gpu_rows.SAMPLES >= 20
    assert line.more["timer"] == ("launches" if backward else "graph")
    assert (line.more["l2"], line.more["kernels"]) == ("cold", ["a kernel"])
    assert line.more["sets"] * row.counts["bytes"] >= 4 * 13_000
    assert 0 < found[f"{row.name}/default", "error"].value < gpu_rows.WORST["bfloat16"]
    assert found[f"{row.name}/cudnn", "refused"].more["reason"].startswith("RuntimeError: No viable backend")


def test_a_gpu_that_has_stopped_ends_the_row_with_a_remedy_and_not_as_a_refusal_of_every_way(cuda, monkeypatch):
    def stopped(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nSearch for ...")

    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    monkeypatch.setattr(gpu, "ceilings_of", lambda device: ({}, None))
    monkeypatch.setattr(torch.cuda, "synchronize", stopped)
    monkeypatch.setitem(backends.WAYS, "math", lambda x: pytest.fail("a way was tried on a GPU that has stopped"))
    row = Row(shape=Shape(B=2, H=3, Nq=5, Nk=7, D=16, dtype="bfloat16"), ways=("default", "math"))
    with pytest.raises(
        ValueError, match=r"\(CUDA error: an illegal memory access was encountered\): the rows recorded"
    ):
        list(gpu_rows.measure("p", [row], device=Pretended("cpu")))


def test_a_gpu_that_has_stopped_ends_the_step_as_well(cuda, monkeypatch):
    def stopped(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    tried = []
    attends = {
        "one": lambda *_: tried.append("one") or stopped(),
        "other": lambda *_: tried.append("other"),
    }
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    monkeypatch.setattr(gpu, "ceilings_of", lambda device: ({}, None))
    monkeypatch.setattr(torch.cuda, "synchronize", stopped)
    size = beam_step.Size(
        n_layers=1, d_model=8, n_heads=2, d_ff=8, n_tokens=7, n_memory=5, n_written=3, n_sources=2, width=2
    )
    with pytest.raises(ValueError, match="every call must leave the GPU running"):
        list(beam_step.measure(size=size, written=(3,), device=Pretended("cpu"), attends=attends))
    assert tried == ["one"]


def test_on_a_cpu_a_turn_is_a_loop_long_enough_for_a_clock():
    count = []
    one = gpu.turn([lambda: count.append(0), lambda: count.append(1)], CPU)
    assert one.how == "loop"
    assert 10 < one.n <= gpu.MOST_CALLS
    count.clear()
    one.run()
    assert count == [0, 1] * (one.n // 2)


def test_a_profiler_that_fails_leaves_its_reason_in_the_place_of_kernels(monkeypatch):
    def broken(**_):
        raise RuntimeError("CUPTI is not allowed here")

    monkeypatch.setattr(torch.profiler, "profile", broken)
    assert gpu.kernels(lambda: None, CPU) == ["not seen: CUPTI is not allowed here"]


def test_kernels_are_named_once_and_the_longest_first(monkeypatch):
    def event(key, time, on):
        return SimpleNamespace(key=key, self_device_time_total=time, device_type=on)

    kind = torch.autograd.DeviceType
    events = [event("short", 1, kind.CUDA), event("aten::attention", 9, kind.CPU), event("long", 5, kind.CUDA)]
    profile = contextlib.nullcontext(SimpleNamespace(key_averages=lambda: events))
    monkeypatch.setattr(torch.profiler, "profile", lambda **_: profile)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    assert gpu.kernels(lambda: None, Pretended("cpu")) == ["long", "short"]
