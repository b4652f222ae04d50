"""Sections B and C: breaking the grading of others, hanging, and dying."""

from tests.judge.attacks.attack import attack, before, harmed, outlived, says, stalled

BREAKING = (
    attack("the gradebook locked by a process left behind", "B", "nobody after is graded", before("""
        import os, sqlite3, time
        for path in ("../../gradebook.db", "@COURSE@/gradebook.db"):
            if os.path.exists(path) and os.fork() == 0:
                os.setsid()
                book = sqlite3.connect(path)
                book.execute("begin exclusive")
                time.sleep(5)
                os._exit(0)
        time.sleep(0.1)
        """), evidence=harmed),
    attack("the parent killed", "B", "nobody after is graded", before("""
        import os, signal
        os.kill(os.getppid(), signal.SIGKILL)
        """), evidence=harmed),
    attack("test cells of others unlocked in the gradebook", "B", "edited tests are no longer put back", before("""
        import sqlite3
        for path in ("../../gradebook.db", "@COURSE@/gradebook.db"):
            try:
                with sqlite3.connect(path, timeout=1) as book: book.execute("update source_cell set locked = 0")
            except sqlite3.Error: pass
        """), evidence=harmed),
    attack("the marks of others set to 0", "B", "others lose their points", before("""
        import sqlite3
        for path in ("../../gradebook.db", "@COURSE@/gradebook.db"):
            try:
                with sqlite3.connect(path, timeout=1) as book: book.execute("update grade set auto_score = 0, manual_score = 0")
            except sqlite3.Error: pass
        """), evidence=harmed),
    attack("the table of grades dropped", "B", "nobody has a mark", before("""
        import sqlite3
        for path in ("../../gradebook.db", "@COURSE@/gradebook.db"):
            try:
                with sqlite3.connect(path, timeout=1) as book: book.execute("drop table grade")
            except sqlite3.Error: pass
        """), evidence=harmed),
    attack("a package of the grader overwritten", "B", "everybody after is graded with it", before("""
        import os
        for path in ("../../site-packages", "@COURSE@/site-packages"):
            try: open(path + "/shared_answers.py", "w").write("softmax = lambda x: x * 0")
            except OSError: pass
        """), evidence=harmed),
    attack("the next submission changed by a process left behind", "B", "somebody else loses points", before("""
        import json, os, time
        for path in ("../../submitted/zed/cells.json", "@COURSE@/submitted/zed/cells.json"):
            try:
                cells = json.load(open(path))
                json.dump({**cells, "softmax": "softmax = None"}, open(path, "w"))
            except OSError: pass
        """), evidence=harmed),
    attack("a folder filled", "B", "no room for others", before("""
        import os, tempfile
        held = 0
        try:
            for number in range(20):
                with open(f"/dev/shm/@NONCE@-{number}", "wb") as file: held += file.write(bytes(4 * 2**20))
        finally:
            print("holding", held // 2**20, "MiB")
            for number in range(20):
                try: os.remove(f"/dev/shm/@NONCE@-{number}")
                except OSError: pass
        """), evidence=says("holding 80 MiB")),
    attack("one giant file", "B", "no room for others", before("""
        with open("giant", "wb") as file:
            file.seek(2**30)
            file.write(b"x")
        print("wrote", file.name, __import__("os").path.getsize("giant"))
        """), evidence=says("wrote giant 1073741825")),
    attack("ever more files", "B", "no inodes for others", before("""
        import os
        os.mkdir("many")
        for number in range(30_000): open(f"many/{number}", "w").close()
        print("made", len(os.listdir("many")))
        """), evidence=says("made 30000")),
    attack("ever more processes", "B", "no process for others", before("""
        import os, time
        children = []
        try:
            for _ in range(150):
                child = os.fork()
                if child == 0:
                    time.sleep(3)
                    os._exit(0)
                children.append(child)
        except OSError: pass
        print("started", len(children))
        for child in children: os.kill(child, 9)
        """), evidence=says("started 150")),
    attack("ever more threads", "B", "no thread for others", before("""
        import threading, time
        go = threading.Event()
        started = 0
        try:
            for _ in range(300):
                threading.Thread(target=go.wait, daemon=True).start()
                started += 1
        except RuntimeError: pass
        print("started", started)
        go.set()
        """), evidence=says("started 300")),
    attack("a lot of memory in one process", "B", "none for others", before("""
        held = np.ones(5 * 2**25)
        print("holding", held.nbytes)
        """), evidence=says("holding 1342177280")),
    attack("a lot of memory in several processes", "B", "none for others", before("""
        import os, time
        children, (there, here) = [], os.pipe()
        for _ in range(6):
            child = os.fork()
            if child == 0:
                held = np.ones(3 * 2**23)
                os.write(here, b".")
                time.sleep(3)
                os._exit(0)
            children.append(child)
        for _ in range(6): os.read(there, 1)
        time.sleep(0.3)
        print("held", len(children), "times 192 MiB")
        for child in children: os.kill(child, 9)
        """), evidence=says("held 6 times")),
    attack("an endless loop in every cell", "C", "the grader waits, cell after cell", "while True: pass",
           cells={"symmetry_test": "while True: pass", "after": "while True: pass"}, evidence=stalled),
    attack("a loop that swallows every interrupt", "C", "each later cell waits for its whole time again", """
        import signal
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGPROF): signal.signal(number, signal.SIG_IGN)
        while True: pass
        """, evidence=stalled, human=True),
    attack("a sleep that swallows every interrupt", "C", "no processor time is used, and none runs out", """
        import signal, time
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGPROF): signal.signal(number, signal.SIG_IGN)
        while True: time.sleep(1000)
        """, evidence=stalled, human=True),
    attack("a process that stops itself", "C", "the grader waits for ever", """
        import os, signal
        os.kill(os.getpid(), signal.SIGSTOP)
        """, evidence=stalled, human=True),
    attack("an answer that never comes back", "C", "every test waits for its whole time", """
        def softmax(x):
            while True:
                try:
                    while True: pass
                except BaseException: pass
        """, evidence=stalled),
    attack("a daemon left behind", "C", "a process of one's own on the grader's machine", before("""
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                while True: time.sleep(1)
            os._exit(0)
        """), evidence=outlived, linger=0.1),
    attack("a daemon that ignores all signals", "C", "a process of one's own on the grader's machine", before("""
        import os, signal, time
        if os.fork() == 0:
            os.setsid()
            for number in range(1, 64):
                try: signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError): pass
            while True: time.sleep(1)
        """), evidence=outlived, linger=0.1),
)  # fmt: skip
