"""Class statistics, counted by hand."""

import csv
import os

from crossattn_ref.judge.statistics import Attempt, Log, code, read, tally, until_solved, write


def attempt(student, score=0.5, *mistakes, signature="", content="1", exercise="attention/softmax"):
    return Attempt(student, exercise, score, mistakes, signature, content)


RECORD = [
    attempt("ada", 0.5, "no max subtraction", content="1"),
    attempt("ada", 0.5, "no max subtraction", content="2"),
    attempt("ada", 1.0, content="3"),
    attempt("ben", 0.5, "no max subtraction", "its twin", content="4"),
    attempt("cleo", 0.0, signature="f00d", content="5"),
    attempt("dan", 0.0, signature="f00d", content="6"),
    attempt("dan", 0.0, signature="beef", content="7"),
    attempt("eve", 1.0, content="8"),
    attempt("eve", 0.0, "no scale", content="9", exercise="attention/attention"),
]


def test_every_name_that_a_folder_can_have_gets_a_code_of_its_own():
    names = ["ada", "Ada", "ådä", "=1+1", "a\nb", os.fsdecode(b"\xff"), os.fsdecode(b"\xfe")]
    assert len({code(b"key", name) for name in names}) == len(names)
    assert code(b"key", "ada") != code(b"another", "ada")


def test_a_mistake_counts_once_for_each_student_and_once_for_each_attempt():
    rows = [(r.exercise, r.mistake, r.students, r.attempts, r.share_of_students, r.example) for r in tally(RECORD)]
    assert rows == [
        ("attention/attention", "no scale", 1, 1, 1.0, "eve"),
        ("attention/softmax", "no max subtraction", 2, 3, 0.4, "ada"),
        ("attention/softmax", "unexplained f00d", 2, 2, 0.4, "cleo"),
        ("attention/softmax", "unexplained beef", 1, 1, 0.2, "dan"),
    ]


def test_students_count_by_the_attempts_that_they_needed():
    needed = until_solved(RECORD, "attention/softmax")
    assert needed == {"1": 1, "2": 0, "3": 1, "4": 0, "5 or more": 0, "not yet": 3}
    again = [*RECORD, attempt("eve", 0.0, content="10")]  # she had solved it before
    assert until_solved(again, "attention/softmax") == needed


def test_an_attempt_that_is_known_is_not_added_again_and_a_line_cut_short_is_left_out(tmp_path):
    path = tmp_path / "deep" / "attempts.jsonl"
    Log(path).note(RECORD[:4])
    Log(path).note(RECORD)
    assert read(path) == RECORD
    path.write_text(path.read_text()[:-20])
    assert read(path) == RECORD[:-1]
    Log(path).note(RECORD)
    assert read(path) == RECORD


def test_the_page_draws_what_the_table_says_and_asks_nobody(tmp_path):
    page = write(tmp_path, "<attention>", RECORD).read_text()
    assert "Mistakes in &lt;attention&gt;" in page
    assert "2 of 5 students have solved it, 1 at the first attempt" in page
    assert "Most often: no max subtraction (2 of 5 students)" in page
    assert page.count("<svg") == 4
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    with (tmp_path / "mistakes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["mistake"] for row in rows] == [row.mistake for row in tally(RECORD)]
    assert rows[1]["example"] == "ada"


def test_a_class_without_a_mistake_gets_a_page_too(tmp_path):
    assert "No mistake was seen" in write(tmp_path, "attention", [attempt("ada", 1.0)]).read_text()
    assert "Mistakes in attention" in write(tmp_path, "attention", []).read_text()
