"""Verdicts: the same as in a notebook for every known answer, and fair to what a notebook may hold."""

import contextlib
import dataclasses
import re
import textwrap
from pathlib import Path

import nbformat
import numpy as np
import pytest

from crossattn_ref.bench import judge_agreement
from crossattn_ref.checks import examine, exercises, reference
from crossattn_ref.checks.exercise import examine as examine_subject
from crossattn_ref.checks.table import NEEDS, find
from crossattn_ref.judge import assignment, sandbox, verdict
from crossattn_ref.judge.assignment import CheckCell, Notebook
from crossattn_ref.judge.remote import RemoteSubject
from crossattn_ref.judge.sandbox import Limits, NoSandbox
from crossattn_ref.judge.verdict import judge, seed
from tests.judge.conftest import SHORT, _start, family

ROOT = Path(__file__).resolve().parents[2]
KEY = b"the key of a course"
PATIENT = Limits(cpu_seconds=600, check_cpu_seconds=120, total_cpu_seconds=3000)

SOFTMAX = """
def softmax(x):
    exp = np.exp(x - x.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)
"""
HALF = SOFTMAX.replace("x - x.max(axis=-1, keepdims=True)", "x")  # overflows on large scores
SETUP = "import numpy as np\nfrom crossattn_ref.checks import check"


def asking(*checks):
    """Make an assignment of check cells: (cell, exercise, answer)."""
    cells = {cell: CheckCell(cell, exercise, answer, 6.0) for cell, exercise, answer in checks}
    return Notebook("made-up", cells, {}, ("numpy",), ())


ONE = asking(("check", "attention/softmax", "softmax"))
TWO = asking(("check", "attention/softmax", "softmax"), ("again", "attention/softmax", "softmax"))


@pytest.fixture
def judged(kernel):
    """Return a function that judges cells, each named by its place unless it is a (name, source) pair."""

    def run(*sources, about=ONE, limits=PATIENT, submission=b"a submission"):
        cells = [source if isinstance(source, tuple) else (str(i), source) for i, source in enumerate(sources)]
        cells = [("setup", SETUP), *((name, textwrap.dedent(source)) for name, source in cells)]
        return judge(submission, cells, about, KEY, kernel, limits)

    return run


CHECK = ("check", "check('attention/softmax', softmax)")
AGAIN = ("again", "check('attention/softmax', softmax)")


# The same as in a notebook.


@pytest.fixture(scope="session")
def open_kernels():
    """Kernels that show the checks inside, to send answers that are no text: for these tests alone."""
    if reason := sandbox.missing():
        pytest.skip(reason)
    started = {}

    def kernel(*names):
        libraries = assignment.libraries_of(*names)
        if libraries not in started:
            started[libraries] = judge_agreement.open_kernel(libraries)
        return started[libraries]

    yield kernel
    for one in started.values():
        one.close()


class Asked:
    """A subject that writes down what it is asked."""

    def __init__(self, subject):
        self._subject = subject
        self.questions = []

    def __getattr__(self, operation):
        def ask(*args):
            self.questions.append((operation, args))
            return getattr(self._subject, operation)(*args)

        return ask


def same(here, there):
    """Tell whether two outcomes are equal, up to rounding in another number of threads."""
    if isinstance(here, tuple):
        return isinstance(there, tuple) and len(here) == len(there) and all(map(same, here, there))
    if isinstance(here, np.ndarray | np.generic) and here.dtype.kind in "fc":
        alike = (type(here), here.dtype, here.shape) == (type(there), there.dtype, there.shape)
        return alike and np.allclose(
            here, there, rtol=1e-3 if here.dtype == np.float16 else 1e-5, atol=1e-6, equal_nan=True
        )
    if isinstance(here, float) and here != here:
        return isinstance(there, float) and there != there
    return type(here) is type(there) and np.array_equal(here, there)


LOT = {"array": None, "tensor": 12, "kernel": 3}  # how many of the known answers are asked in both places
OTHERS = {"array": 5, "tensor": 5, "kernel": 1}  # and of how many beside the right one the whole report is compared


def kind(name):
    """Say what an answer works with; a kernel takes seconds where an array takes a moment."""
    return "kernel" if name in NEEDS else "tensor" if find(name).wanted == "tensor" else "array"


def fickle(subject, questions):
    """Tell whether an answer differs from itself, since it draws at random and nobody can tell it how."""
    twice = ([getattr(subject, operation)(*args).value for operation, args in questions] for _ in range(2))
    return not all(map(same, *twice))


@pytest.mark.parametrize("name", exercises())
def test_every_known_answer_answers_every_question_of_its_check_alike_here_and_there(open_kernels, name):
    """From equal outcomes a check makes equal reports. Of what takes longer, some by lot: LOT says how many."""
    asked = Asked(find(name).local(reference(name)))
    examine_subject(name, find(name), asked, seed(KEY, name, b"alike"))
    late = PATIENT.wall(600)
    known = judge_agreement.answers(name)
    some = np.random.default_rng(len(name)).permutation(len(known))[: LOT[kind(name)]]
    catalogue = judge_agreement.CATALOGUE.format(name=name, numbers=some.tolist())
    with open_kernels(name).notebook(PATIENT) as channel:
        verdict._cell(channel, "setup", catalogue, late)
        for number in some:
            here = find(name).local(known[number])
            with verdict._fork(channel, number, late) as fork:
                tensors = find(name).wanted == "tensor"
                there = RemoteSubject(fork, f"answer_{number}", tensors=tensors, deadline=late)
                for operation, args in asked.questions:
                    ours, its = (getattr(subject, operation)(*args) for subject in (here, there))
                    assert (ours.error, ours.said) == (its.error, its.said), (number, operation)
                    assert same(ours.value, its.value) or fickle(here, asked.questions), (number, operation)


@pytest.mark.parametrize("name", exercises())
def test_judge_and_notebook_make_the_same_report_to_the_letter(open_kernels, name):
    """Of the right answer and some others by lot; `crossattn bench judge-agreement` compares those of all."""
    count = len(judge_agreement.answers(name))
    others = np.random.default_rng(len(name)).permutation(np.arange(1, count))[: OTHERS[kind(name)]]
    numbers = [0, *sorted(map(int, others))]
    assert judge_agreement.disagreements(open_kernels(name), name, numbers, seed=0) == []


def test_an_answer_that_would_be_judged_otherwise_is_reported(open_kernels, monkeypatch):
    """The comparison itself can fail."""
    wrong = judge_agreement.answers("attention/softmax")
    monkeypatch.setattr(judge_agreement, "answers", lambda name: [wrong[-1], *wrong[1:]])
    found = judge_agreement.disagreements(open_kernels("attention/softmax"), "attention/softmax", [0, 1], seed=0)
    assert found == ["attention/softmax, answer 0"]


SOLUTIONS = sorted((ROOT / "solutions").glob("*/*.ipynb"))


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_solution_earns_all_points_and_says_nothing_that_needs_a_human(request, path):
    about = assignment.read(path)
    with contextlib.ExitStack() as stack:
        if about.modules:
            kernel = stack.enter_context(contextlib.closing(_start(about.libraries, about.modules)))
        else:
            kernel = request.getfixturevalue("torch_kernel" if "torch" in about.libraries else "kernel")
        found = judge(path.read_bytes(), _cells(path), about, KEY, kernel, PATIENT)
    assert found.points == {check.cell: check.points for check in about.checks.values()}
    assert found.flags == []
    assert {name: ran.error for name, ran in found.cells.items() if ran.error} == {}
    drawn = {check.cell: seed(KEY, check.exercise, path.read_bytes()) for check in about.checks.values()}
    assert {cell: report.seed for cell, report in found.reports.items()} == drawn


def _cells(path):
    book = nbformat.read(path, as_version=4)
    return [(cell.metadata.nbgrader.grade_id, cell.source) for cell in book.cells if cell.cell_type == "code"]


@pytest.mark.parametrize(
    "source",
    ["def softmax(x): return x.astype(complex)", "def softmax(x): return x.astype(object)", "def softmax(x): return x.astype(str)",
     "def softmax(x): return list(x)", "def softmax(x): return (x, [1])", "def softmax(x): return x.tolist", "softmax = 5",
     "def softmax(x): return np.ma.array(x)", "def softmax(x): raise KeyError('no')", "def softmax(x): raise SystemExit",
     "def softmax(x): print('hello'); np.log(np.float64(-1)); return x", "def softmax(x): x[:] = 0; return x",
     "def softmax(x): return float(x.sum())", "def softmax(x, y): return x", "def softmax(x): return np.float32(1)",
     "def softmax(x): raise KeyboardInterrupt", "def softmax(x): return np.matrix(x.reshape(len(x), -1))"],
)  # fmt: skip
def test_judge_and_notebook_agree_on_odd_answers(judged, source):
    names = {"np": np}
    exec(source, names)
    drawn = seed(KEY, "attention/softmax", b"a submission")
    here = examine("attention/softmax", names["softmax"], drawn)
    there = judged(source, CHECK)
    lines = re.compile(r"(, at: .*)?$")  # here, the source of the line is not on record
    assert [lines.sub("", f.message) for f in there.reports["check"].findings] == [
        lines.sub("", f.message) for f in here.findings
    ]
    assert (there.reports["check"].score, there.flags) == (here.score, [])


def test_a_learners_test_that_asks_wrongly_meets_the_same_errors_as_in_a_notebook(judged):
    source = """
        def symmetry_test(attend, rng):
            kinds = []
            for args in ((1, 2), (np.eye(2), np.eye(3), np.eye(2)), (None, None, None), (np.eye(3),) * 3):
                try:
                    kinds.append(attend(*args).shape)
                except Exception as error:
                    kinds.append(type(error).__name__)
            raise ValueError(str(kinds))
        """
    names = {"np": np}
    exec(textwrap.dedent(source), names)
    here = examine(
        "attention/symmetry_test", names["symmetry_test"], seed(KEY, "attention/symmetry_test", b"a submission")
    )
    about = asking(("check", "attention/symmetry_test", "symmetry_test"))
    there = judged(source, CHECK, about=about)
    assert "TypeError" in there.reports["check"].findings[0].message
    assert [f.message.split(", at: ")[0] for f in there.reports["check"].findings] == [
        f.message.split(", at: ")[0] for f in here.findings
    ]


def test_the_same_submission_gets_the_same_inputs_and_a_changed_one_others(judged):
    source = "def softmax(x): raise ValueError(repr(x))"
    first, again, changed = (judged(source, CHECK, submission=text) for text in (b"one", b"one", b"two"))
    messages = [[finding.message for finding in found.reports["check"].findings] for found in (first, again, changed)]
    assert messages[0] == messages[1]
    assert messages[0] != messages[2]


def test_without_the_key_nobody_knows_the_inputs():
    drawn = {seed(key, exercise, text) for key in (b"a", b"b") for exercise in ("x", "y") for text in (b"1", b"2")}
    assert len(drawn) == 8
    assert seed(b"a", "x", b"1") == seed(b"a", "x", b"1")


# Each check at its own position.


def test_a_function_redefined_after_its_check_does_not_change_it(judged):
    found = judged(SOFTMAX, CHECK, "def softmax(x): return x", AGAIN, about=TWO)
    assert found.points == {"check": 6.0, "again": 0.0}
    found = judged("def softmax(x): return x", CHECK, SOFTMAX, AGAIN, about=TWO)
    assert found.points == {"check": 0.0, "again": 6.0}


def test_what_an_answer_does_during_its_check_is_undone_after_it(judged):
    spoils = SOFTMAX + "\n    global np\n".replace("    ", "    ")
    spoils = SOFTMAX.replace(
        "    exp =", "    globals()['seen'] = globals().get('seen', 0) + 1; np.spoilt = True\n    exp ="
    )
    found = judged(spoils, CHECK, "print(globals().get('seen'), hasattr(np, 'spoilt'))", about=ONE)
    assert found.points == {"check": 6.0}
    assert found.cells["2"].said == "None False\n"


def test_an_answer_that_is_defined_after_its_check_is_not_there_yet(judged):
    found = judged(CHECK, SOFTMAX)
    assert found.points == {"check": 0.0}
    assert "softmax is not defined at this point of your notebook" in found.reports["check"].text()


def test_a_check_cell_that_comes_twice_counts_once(judged):
    found = judged("def softmax(x): return x", CHECK, SOFTMAX, CHECK)
    assert found.points == {"check": 0.0}


def test_the_text_of_a_check_cell_is_never_run(judged):
    found = judged("def softmax(x): return x", ("check", "softmax = 1 / 0"), "print(softmax.__name__)")
    assert found.cells["2"] == verdict.Ran("softmax\n")


def test_a_locked_cell_runs_as_the_assignment_has_it(judged):
    about = dataclasses.replace(ONE, locked={"given": "print('as released')"})
    found = judged(("given", "print('changed')"), SOFTMAX, CHECK, about=about)
    assert found.cells["given"].said == "as released\n"


# After an error, a crash, a time-out.


@pytest.mark.parametrize("last", ["1 / 0", "def broken(:", "raise SystemExit(3)", "raise KeyboardInterrupt", "exit()", "\0",
                                  "import no_such_module", "assert False, 'no'", "await 1", "return 5", "%%nonsense\nx"])  # fmt: skip
def test_a_cell_that_fails_stops_nothing_after_it(judged, last):
    found = judged(last, SOFTMAX, CHECK)
    assert found.points == {"check": 6.0}
    assert found.cells["0"].error or last.startswith("%%")
    assert found.flags == []


CRASHES = {
    "os._exit": "import os; os._exit(0)",
    "a segmentation fault": "import ctypes; ctypes.string_at(0)",
    "a signal to itself": "import os; os.kill(os.getpid(), 9)",
    "a signal to its parent": "import os; os.kill(os.getppid(), 9)",
    "all memory": "held = []\nwhile True: held.append(bytearray(2**28))",
    "recursion in C": "x = ()\nfor _ in range(10**6): x = (x,)\nrepr(x)",
    "closing every descriptor": "import os; os.closerange(0, 1000)",
    "stopping itself": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
}


@pytest.mark.parametrize("crash", CRASHES.values(), ids=CRASHES)
def test_what_was_shown_before_a_crash_counts(judged, crash):
    limits = dataclasses.replace(SHORT, memory_bytes=2**30)
    found = judged(SOFTMAX, CHECK, crash, AGAIN, about=TWO, limits=limits)
    assert found.points["check"] == 6.0
    assert set(found.points) == {"check", "again"}


def test_an_answer_that_never_ends_is_told_so_and_keeps_what_it_showed_before(judged):
    answer = SOFTMAX.replace("    exp =", "    while x.max() > 100: pass\n    exp =")
    found = judged(answer, CHECK, AGAIN, about=TWO, limits=dataclasses.replace(SHORT, cpu_seconds=8, wall_factor=40))
    report = found.reports["check"]
    assert [finding.passed for finding in report.findings][:3] == [True, True, True]
    assert 0 < report.score < 1
    told = next(finding.message for finding in report.findings if not finding.passed)
    assert told.startswith("it raised TooLong: it used more than 1 s of processor time")
    assert found.flags == []
    assert found.points["again"] == found.points["check"]


@pytest.mark.parametrize("crash", CRASHES.values(), ids=CRASHES)
def test_a_crash_inside_a_check_costs_that_check_from_there_on_and_nothing_else(judged, crash):
    """The answer is right until it meets large scores; a later check of a sound answer is not touched."""
    body = textwrap.indent(crash, "        ")
    answer = SOFTMAX.replace("    exp =", f"    if x.max() > 100:\n{body}\n    exp =")
    limits = dataclasses.replace(SHORT, memory_bytes=2**30, cpu_seconds=8)
    found = judged(answer, CHECK, SOFTMAX, AGAIN, about=TWO, limits=limits)
    report = found.reports["check"]
    assert [finding.passed for finding in report.findings][:3] == [True, True, True]
    if crash == CRASHES["a signal to its parent"]:  # then the notebook ends, and the fork with it
        assert found.points["check"] > 0 == found.points["again"]
    else:
        assert report.score < 1
        assert found.points["again"] == 6.0


@pytest.mark.parametrize("shape", ["(10**6, 0)", "(2 * 10**6,)"])
def test_a_wrong_answer_that_is_huge_is_not_written_out_to_be_signed(judged, shape):
    found = judged(f"def softmax(x): return np.zeros({shape}, bool)", CHECK)
    assert "came to more than" in found.flags[0]
    assert found.points == {"check": 0}


def test_a_report_repeats_little_of_what_an_answer_returned(judged):
    found = judged("def softmax(x): return {f'{n} ' + 'x' * 3900: '' for n in range(60)}", CHECK)
    said = [finding.message for finding in found.reports["check"].findings]
    assert all(message.startswith("it returned {'0 xxx") and len(message) == verdict.MESSAGE for message in said)


@pytest.mark.parametrize(
    "hang",
    ["while True: pass", "import time; time.sleep(1000)", "input()", "import threading; threading.Event().wait()"],
)
def test_an_answer_that_hangs_costs_its_check_and_no_more(judged, hang):
    body = textwrap.indent(hang, "        ")
    answer = SOFTMAX.replace("    exp =", f"    if x.max() > 100:\n{body}\n    exp =")
    found = judged(answer, CHECK, SOFTMAX, AGAIN, about=TWO, limits=dataclasses.replace(SHORT, cpu_seconds=8))
    assert 0 < found.points["check"] < 6.0
    assert found.points["again"] == 6.0


def test_a_notebook_that_never_comes_to_its_checks_says_why(judged):
    found = judged("import os; os._exit(7)", SOFTMAX, CHECK)
    assert found.points == {"check": 0.0}
    assert found.flags == ["the notebook's process stopped: it ended itself with status 7"]
    assert "status 7" in found.reports["check"].text()


def test_a_sandbox_that_fails_is_tried_again_and_then_said(monkeypatch, kernel):
    tries = []

    class Failing:
        isolation = "bubblewrap"

        def notebook(self, limits):
            tries.append(1)
            if len(tries) < 2:
                raise NoSandbox("no luck")
            return kernel.notebook(limits)

    assert judge(b"x", [("s", SETUP + SOFTMAX), CHECK], ONE, KEY, Failing(), PATIENT).points == {"check": 6.0}
    tries[:] = [1] * -1 or []
    monkeypatch.setattr(Failing, "notebook", lambda self, limits: (_ for _ in ()).throw(NoSandbox("no luck")))
    with pytest.raises(NoSandbox, match="no luck"):
        judge(b"x", [CHECK], ONE, KEY, Failing(), PATIENT)


@pytest.mark.parametrize(
    "place", range(4), ids=["its keeper", "its first process", "the notebook", "the fork of a check"]
)
def test_a_process_that_something_else_kills_costs_nobody_points(monkeypatch, kernel, judged, place):
    killed, ask = [], RemoteSubject.call

    def call(self, *args):
        if not killed:
            killed.append(family(kernel)[place])
            killed[0].kill()
        return ask(self, *args)

    monkeypatch.setattr(RemoteSubject, "call", call)
    found = judged(SOFTMAX, CHECK)
    assert killed
    assert found.points == {"check": 6.0}
    assert found.flags == []


@pytest.mark.parametrize(
    ("cell", "times"),
    [("import os; os.kill(os.getpid(), 9)", 2), ("import os; os._exit(7)", 1), ("while True: pass", 1), ("1 / 0", 1)],
)
def test_what_a_notebook_may_have_been_killed_by_is_tried_once_more_and_nothing_else(
    monkeypatch, kernel, judged, cell, times
):
    began, notebook = [], kernel.notebook
    monkeypatch.setattr(kernel, "notebook", lambda limits: began.append(1) or notebook(limits))
    found = judged(SOFTMAX, CHECK, cell, AGAIN, about=TWO, limits=SHORT)
    assert len(began) == times
    assert found.points["check"] == 6.0


def test_a_check_that_fails_itself_costs_that_check_and_asks_for_a_human(monkeypatch, judged):
    def stumbles(name, exercise, subject, drawn):
        raise ZeroDivisionError("our own mistake")

    monkeypatch.setattr(verdict, "examine", stumbles)
    found = judged(SOFTMAX, CHECK)
    assert found.points == {"check": 0.0}
    assert "the check itself failed on this answer: ZeroDivisionError: our own mistake" in found.flags[0]


# What honest notebooks hold.

HONEST = {
    "magics": "%matplotlib inline\n%time x = np.eye(2)\n%timeit -n 10 -r 2 np.eye(2)\n%load_ext autoreload\n%autoreload 2\n%who\n",
    "a timed cell": "%%time\ny = 1\n",
    "a captured cell": "%%capture out\nprint('quiet')\n",
    "a value from a magic": "z = %time 1 + 1\nassert z == 2\n",
    "a file and its import": "%%writefile helper.py\ndef double(x): return 2 * x\n",
    "shell lines": "!pip install numpy\nfiles = !ls\n!echo {np.pi}\n",
    "a shell cell": "%%bash\nexit 1\n",
    "help": "np.eye?\nnp.eye??\n?np\n",
    "shown values": "display(np.eye(2))\nnp.eye(3)\n",
    "a plot": "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.title('größer');\n",
    "a hundred plots": "import matplotlib.pyplot as plt\nimport warnings\nfor i in range(30): plt.figure(); plt.imshow(np.random.rand(50, 50))\n",
    "threads": "import threading\nfor _ in range(8): threading.Thread(target=lambda: sum(range(10**5))).start()\n",
    "a thread that never ends": "import threading, time\nt = threading.Thread(target=lambda: [time.sleep(.01) for _ in iter(int, 1)], daemon=True); t.start()\n",
    "a pool": "from concurrent.futures import ThreadPoolExecutor\nprint(list(ThreadPoolExecutor().map(abs, [-1])))\n",
    "processes": "import multiprocessing as mp\nwith mp.Pool(2) as pool: print(pool.map(abs, [-1]))\n",
    "a flood of output": "for i in range(10**5): print(i, 'x' * 100)\n",
    "a flood of warnings": "import warnings\nfor i in range(10**4): warnings.warn(f'careful {i}')\n",
    "logging": "import logging, sys\nlogging.basicConfig(level=logging.DEBUG); logging.warning('hello'); sys.stderr.write('err')\n",
    "warnings as errors": "import warnings\nwarnings.simplefilter('error')\n",
    "names of ours": "signal = socket = os = sys = io = select = resource = struct = channel = session = confine = Channel = main = 5\n",
    "builtins for names": "list = dict = str = print = id = sum = type = len = 5\n",
    "a closed stdout": "import sys\nsys.stdout.close()\n",
    "another stdout": "import io, sys\nsys.stdout = io.StringIO()\n",
    "random state": "np.random.seed(1); import random; random.seed(2)\n",
    "another folder": "import os\nos.makedirs('sub', exist_ok=True); os.chdir('sub')\n",
    "a recursion limit": "import sys\nsys.setrecursionlimit(10**5)\n",
    "a signal handler": "import signal\nsignal.signal(signal.SIGALRM, lambda *_: None); signal.alarm(1000)\n",
    "a collector": "import gc\ngc.disable(); gc.collect()\n",
    "a big array": "big = np.ones((1000, 1000, 10))\n",
    "the check itself": "result = check('attention/softmax', lambda x: x)\nprint(result + 1)\n",
    "a file": "with open('notes.txt', 'w') as f: f.write('x')\nprint(open('notes.txt').read())\n",
    "a doctest": '"""A cell of text: 5 % 3, !important, %timeit."""\n',
    "unicode": "größe = '🙂'; print(größe, '\\ud800')\n",
    "carriage returns": "x = 1\r\ny = 2\r\n",
    "nothing": "",
    "comments": "# only a comment",
    "a long cell": "x = [" + "1, " * 20_000 + "]\n",
    "annotations": "from __future__ import annotations\nx: int = 5\n",
    "a class": "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 1\nprint(A())\n",
    "a pickle": "import pickle\nclass B: pass\nprint(pickle.loads(pickle.dumps(B())))\n",
    "an async function": "import asyncio\nasync def f(): return 1\nprint(asyncio.run(f()))\n",
    "main": "if __name__ == '__main__': print('yes')\n",
    "a subprocess": "import subprocess\nprint(subprocess.run(['true']).returncode)\n",
    "numpy printing": "np.set_printoptions(precision=2)\n",
    "an endless loop": "while True: pass\n",
    "a tqdm-like bar": "import sys, time\nfor i in range(100): sys.stdout.write(f'\\r{i}'); sys.stdout.flush()\n",
}  # fmt: skip


@pytest.mark.parametrize("source", HONEST.values(), ids=HONEST)
def test_an_honest_notebook_keeps_its_points(judged, source):
    limits = dataclasses.replace(PATIENT, cell_cpu_seconds=3)
    found = judged(source, "import numpy as np\n" + SOFTMAX, CHECK, limits=limits)
    assert found.points == {"check": 6.0}
    assert found.flags == []


def test_a_written_file_can_be_imported_by_a_later_cell(judged):
    found = judged(
        "%%writefile helper.py\ndef double(x): return 2 * x\n", "from helper import double; print(double(4))"
    )
    assert found.cells["1"] == verdict.Ran("8\n")


def test_the_last_value_of_a_cell_is_shown_unless_a_semicolon_hides_it(judged):
    found = judged("1 + 1", "x = 5\nx", "3;", "'text'", "None", "print('p')\n7")
    assert [found.cells[str(i)].said for i in range(6)] == ["2\n", "5\n", "", "'text'\n", "", "p\n7\n"]


def test_pictures_come_as_png_few_and_small(judged):
    plot = "import matplotlib.pyplot as plt\nfor _ in range(20): plt.figure(); plt.plot([1, 2])"
    huge = "import matplotlib.pyplot as plt\nplt.figure(figsize=(60, 60)); plt.plot([1, 2])"
    found = judged(plot, huge)
    assert len(found.cells["0"].pictures) == verdict.PICTURES
    assert all(picture.startswith(b"\x89PNG") for picture in found.cells["0"].pictures)
    assert found.cells["1"].pictures == []


def test_a_picture_that_is_none_or_would_be_huge_is_left_out(judged):
    forged = """
        import sys, types, struct
        def png(width): return b"\\x89PNG\\r\\n\\x1a\\n" + struct.pack("!I4sII", 13, b"IHDR", width, 5)
        pictures = [png(10), png(10**6), b"<script>", b"\\x89PNG", png(10) + bytes(2**21), "text", 5]
        class Figure:
            def __init__(self, n): self.n = n
            def savefig(self, buffer, **_): buffer.write(pictures[self.n])
        fake = types.ModuleType("matplotlib.pyplot")
        fake.get_fignums = lambda: range(5); fake.figure = Figure; fake.close = lambda _: None
        sys.modules["matplotlib.pyplot"] = fake
        """
    found = judged(forged)
    assert [len(picture) for picture in found.cells["0"].pictures] == [24]


def test_a_cell_longer_than_anybody_types_is_not_run(judged):
    found = judged("x = '" + "y" * verdict.CELL_SOURCE + "'", SOFTMAX, CHECK)
    assert "not run: a cell of 200006 characters" in found.cells["0"].error
    assert found.points == {"check": 6.0}


def test_a_thousand_magics_in_a_cell_cost_its_own_time_and_not_the_judges(judged):
    found = judged("%x\n" * 1000, SOFTMAX, CHECK, limits=dataclasses.replace(PATIENT, cell_cpu_seconds=2))
    assert found.cells["0"].error
    assert found.points == {"check": 6.0}


def test_torch_that_was_used_before_a_check_does_not_hang_it(torch_kernel):
    """Threads that a cell starts are not in the fork: nothing there may wait for them."""
    cell = """
import torch
torch.set_num_threads(4)
x = torch.randn(200, 200, requires_grad=True)
(x @ x).sum().backward()
layer = torch.nn.MultiheadAttention(8, 2)
def softmax(x):
    return torch.softmax(torch.from_numpy(x), -1).numpy()
"""
    found = judge(b"x", [("setup", SETUP + cell), CHECK], ONE, KEY, torch_kernel, Limits(patience=20))
    assert found.points == {"check": 6.0}
