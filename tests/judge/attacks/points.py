"""Section A: points that were not earned."""

import numpy as np

from tests.judge.attacks.attack import attack, before, says

_TABLE = [case.tolist() for case in (np.random.default_rng(0).standard_normal((4, 5)), np.ones((2, 2)))]
_ANSWERS = [(np.exp(case) / np.exp(case).sum(-1, keepdims=True)).tolist() for case in map(np.array, _TABLE)]

POINTS = (
    attack("comparisons replaced by no-ops", "A", "every assertion passes", before("""
        np.testing.assert_allclose = lambda *a, **k: None
        np.allclose = lambda *a, **k: True
        """)),
    attack("crossattn_ref replaced in sys.modules", "A", "the reference and the check are one's own", before("""
        import sys, types
        for name in ("crossattn_ref", "crossattn_ref.attention", "crossattn_ref.attention.reference", "crossattn_ref.checks"):
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = []
        sys.modules["crossattn_ref.attention.reference"].softmax = lambda x: x
        sys.modules["crossattn_ref.checks"].check = lambda *a, points, **k: points
        """)),
    attack("the reference imported and called", "A", "the right answer without writing it", """
        from crossattn_ref.attention.reference import softmax
        """),
    attack("the solution read from the course and run", "A", "the right answer without writing it", """
        for path in ("../../source/solution.py", "@COURSE@/source/solution.py"):
            try: exec(open(path).read())
            except OSError: pass
        """),
    attack("another student's submission read and run", "A", "somebody else's answer", """
        import json
        for path in ("../../submitted/alice/cells.json", "@COURSE@/submitted/alice/cells.json"):
            try: exec(json.load(open(path))["softmax"])
            except OSError: pass
        """),
    attack("a crossattn_ref.py beside the notebook", "A", "the reference and the check are one's own",
           files={"crossattn_ref/__init__.py": "", "crossattn_ref/attention/__init__.py": "",
                  "crossattn_ref/attention/reference.py": "softmax = lambda x: x",
                  "crossattn_ref/checks/__init__.py": "check = lambda *a, points, **k: points"}),
    attack("the grader's helper shadowed by a file beside the notebook", "A", "the reference is one's own",
           files={"shared_answers.py": "softmax = lambda x: x"}),
    attack("assertions stripped by a transformer of the syntax tree", "A", "no assertion is left", before("""
        import ast
        class Strip(ast.NodeTransformer):
            def visit_Assert(self, node): return ast.Pass()
            def visit_Expr(self, node): return ast.Pass() if "assert" in ast.unparse(node) else node
        get_ipython().ast_transformers.append(Strip())
        """)),
    attack("lines of the tests dropped by a transformer of the input", "A", "no assertion is left", before("""
        get_ipython().input_transformers_post.append(lambda lines: [line for line in lines if "assert" not in line])
        """)),
    attack("a partial score of NaN", "A", "not below zero, so full marks", before("""
        np.allclose = lambda *a, **k: float("nan")
        """)),
    attack("a partial score of -1", "A", "not from zero up, so full marks", before("""
        np.allclose = lambda *a, **k: -1
        """)),
    attack("a partial score that is no number", "A", "cannot be read, so full marks", before("""
        class Oops:
            __add__ = __radd__ = __rmul__ = __truediv__ = lambda self, other: self
            __repr__ = lambda self: "oops"
        float = lambda value: Oops()
        """)),
    attack("an array subclass that always agrees", "A", "any comparison is true", """
        class Yes(np.ndarray):
            def __array_function__(self, *args): return True
            def __array_ufunc__(self, ufunc, method, *args, **kwargs): return np.ones(self.shape)
        def softmax(x): return np.zeros_like(x).view(Yes)
        """),
    attack("an object that equals everything", "A", "any comparison is true", """
        class Yes:
            def __array_function__(self, *args): return True
            def __eq__(self, other): return True
            shape, dtype, ndim = (), float, 0
            def sum(self, *a): return 1.0
        def softmax(x): return Yes()
        """),
    attack("the input zeroed in place", "A", "the right result is computed on zeros as well", """
        def softmax(x):
            x[...] = 0
            return np.full(x.shape, 1 / x.shape[-1])
        """, earns=2 / 9, evidence=lambda outcome: outcome.points > 1),
    attack("SystemExit(0) in the answer", "A", "an exit status of 0 is a pass", """
        def softmax(x): raise SystemExit(0)
        """, against="exit status"),
    attack("os._exit(0) in the answer", "A", "an exit status of 0 is a pass", """
        import os
        def softmax(x): os._exit(0)
        """, against="exit status", human=True),
    attack("assertions jumped over by a trace function", "A", "the lines that compare are never run", """
        import sys
        def trace(frame, event, arg):
            if frame.f_code.co_name != "<module>": return None
            lines = sorted({line for *_, line in frame.f_code.co_lines() if line})
            if event == "line" and "expected" in frame.f_globals and "want" not in frame.f_globals:
                if len(lines) == 3 and frame.f_lineno == lines[1]: frame.f_lineno = lines[2]
            return trace
        sys.settrace(trace)
        def softmax(x): return np.full(x.shape, 1 / x.shape[-1])
        """, earns=2 / 9, evidence=lambda outcome: outcome.points > 1),
    attack("grading noticed by its environment", "A", "another behaviour before the marker's eyes", before("""
        import os
        print("being graded" if "NBGRADER_EXECUTION" in os.environ else "at home")
        """), evidence=says("being graded")),
    attack("outputs learnt by heart for the seed of the tests", "A", "right on the numbers that are always drawn", f"""
        cases, answers = {_TABLE}, {_ANSWERS}
        def softmax(x): return np.array(answers[cases.index(x.tolist())]) if x.tolist() in cases else x
        """),
    attack("answers remembered by the hash of the input", "A", "right on the numbers that are always drawn", f"""
        import hashlib
        def key(x): return hashlib.sha256(np.round(np.asarray(x), 6).tobytes()).hexdigest()
        known = {{key(case): answer for case, answer in zip({_TABLE}, {_ANSWERS})}}
        def softmax(x): return np.array(known.get(key(x), x))
        """),
    attack("a library that the exercise rules out", "A", "the right answer without writing it", """
        import torch
        def softmax(x): return torch.softmax(torch.from_numpy(x), -1).numpy()
        """, against="every library"),
    attack("a result that broadcasts", "A", "a missing axis goes unnoticed", """
        def softmax(x):
            exp = np.exp(x[0] - x[0].max())
            return exp / exp.sum()
        """),
    attack("a list in place of an array", "A", "a comparison turns it into an array", """
        def softmax(x):
            if np.isinf(x).any(): return x.tolist()
            exp = np.exp(x - x.max(-1, keepdims=True))
            return (exp / exp.sum(-1, keepdims=True)).tolist()
        """),
    attack("complex numbers", "A", "a comparison does not mind", """
        def softmax(x):
            exp = np.exp(x.astype(complex))
            return exp / exp.sum(-1, keepdims=True)
        """),
    attack("a masked array that hides what is wrong", "A", "masked numbers compare as equal", """
        def softmax(x): return np.ma.masked_all(x.shape)
        """, against="masked comparison"),
    attack("NaN everywhere", "A", "NaN equals NaN where the tests allow it", """
        def softmax(x): return np.full(x.shape, np.nan)
        """),
    attack("a global of the tests in place of the argument", "A", "right where the test uses the same name", """
        def softmax(scores):
            exp = np.exp(x - x.max(-1, keepdims=True))
            return exp / exp.sum(-1, keepdims=True)
        x = np.zeros((2, 2))
        """),
    attack("manual_score set to 100 in the gradebook", "A", "a mark by hand beats every other", before("""
        import sqlite3
        for path in ("../../gradebook.db", "@COURSE@/gradebook.db"):
            try:
                with sqlite3.connect(path, timeout=1) as book:
                    book.execute("insert or replace into grade values ('mallory', 0, 100)")
                    book.execute("create trigger keep after insert on grade when new.student = 'mallory' begin "
                                 "update grade set manual_score = 100 where student = 'mallory'; end")
            except sqlite3.Error: pass
        """)),
    attack("the right answer read from the frame of the caller", "own", "the reference is at hand where it is compared", """
        import sys
        def softmax(x):
            frame = sys._getframe()
            while frame := frame.f_back:
                if "expected" in frame.f_globals: return frame.f_globals["expected"](x)
            return x
        """),
    attack("the reference found among all objects", "own", "the right answer without writing it", """
        import gc
        def softmax(x):
            for found in gc.get_objects():
                if getattr(found, "__name__", "") == "softmax" and "crossattn_ref" in str(getattr(found, "__module__", "")):
                    return found(x)
            return x
        """),
    attack("the comparison of the checks patched", "own", "nothing disagrees any more", before("""
        try:
            import crossattn_ref.checks.exercise as exercise
            exercise.disagreement = lambda *a, **k: ""
            exercise._finding = lambda prop, ask, rng: exercise.Finding(prop.name, prop.share, True)
        except ImportError: pass
        """)),
    attack("the score of every report patched", "own", "all reports are full", before("""
        try:
            import crossattn_ref.checks.exercise as exercise
            exercise._score = lambda *a: 1.0
        except (ImportError, AttributeError): pass
        """)),
    attack("numbers shown as other numbers", "own", "the score that is read is one's own", before("""
        try: get_ipython().display_formatter.formatters["text/plain"].for_type(float, lambda value, printer, cycle: printer.text("2.0"))
        except AttributeError: pass
        """)),
    attack("run_cell of the shell replaced", "own", "no test is ever run", before("""
        import types
        shell, done = get_ipython(), []
        def run_cell(source, **options):
            source = "2.0" if "check(" in source or "hidden" + "-tests" in source else source
            return type(shell).run_cell(shell, source, **options)
        shell.run_cell = run_cell
        """)),
    attack("all() and isinstance() replaced", "own", "what a test asks of Python is answered by oneself", before("""
        import builtins
        builtins.all = lambda *a: True
        builtins.abs = lambda *a: 0.0
        float = lambda *a: 1.0
        """)),
    attack("a forged reply written to every descriptor", "own", "the score arrives before the answer was asked", before("""
        import fcntl, json, os, stat
        full = [{"output_type": "execute_result", "data": {"text/plain": "2.0"}, "metadata": {}, "execution_count": 1}]
        line = b"\\n".join([json.dumps(full).encode()] * 9) + b"\\n"
        for fd in range(3, 64):
            try:
                if fcntl.fcntl(fd, fcntl.F_GETFL) & 3 and not stat.S_ISREG(os.fstat(fd).st_mode): os.write(fd, line)
            except OSError: pass
        """), human=True),
)  # fmt: skip
