"""A course folder as nbgrader lays it out: its configuration, its gradebook, its releases."""

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy
from nbformat import NotebookNode
from nbgrader.api import Base, Gradebook, MissingEntry
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from crossattn_ref.judge import assignment
from crossattn_ref.judge.staging import BadCourse, releases

WORK = Path("_build") / "grading"  # below the course folder: what can be made again


@dataclass(frozen=True)
class Course:
    """An assignment of a course, ready to be graded: everything was found, and fits together."""

    folder: Path
    subject: str
    config: Config
    released: dict[str, NotebookNode]

    def assignment(self, name: str) -> assignment.Notebook:
        """Read what a notebook asks. Raises NoAssignment where it cannot be read."""
        return assignment.read(self.folder / "solutions" / self.subject / f"{name}.ipynb")

    @property
    def staged(self) -> Path:
        """Where repaired copies of the submissions lie."""
        return self.folder / WORK / "staged"

    @property
    def results(self) -> Path:
        """Where the lists and reports about this assignment go."""
        return self.folder / WORK / self.subject

    @property
    def url(self) -> str:
        """The address of the gradebook."""
        return CourseDirectory(config=self.config).db_url


def opened(folder: Path, subject: str) -> Course:
    """Open an assignment of a course folder.

    Raises BadCourse, with the remedy, where the configuration, the release or the source is missing, or where the
    gradebook does not know the assignment or cannot be used. Nothing is written.
    """
    folder = folder.resolve()
    path = folder / "nbgrader_config.py"
    if not path.exists():
        raise BadCourse(f"{path} does not exist: run this in the course folder, or pass --course FOLDER")
    try:
        config = PyFileConfigLoader(path.name, path=str(folder)).load_config()
    except Exception as error:  # it is a program, and may raise anything
        raise BadCourse(f"{path} cannot be read ({type(error).__name__}: {error}): mend it, or copy it anew") from error
    config.CourseDirectory.root = str(folder)
    config.Repair.course = config.Judge.course = str(folder)
    course = Course(folder, subject, config, releases(folder, subject))
    for name in course.released:
        course.assignment(name)
    _registered(course)
    return course


def _registered(course):
    """Insist that the gradebook is one of this nbgrader's, and knows the assignment as it was released."""
    subject = course.subject
    release = f"run: nbgrader generate_assignment {subject} --force"
    place = sqlalchemy.make_url(course.url)
    if place.get_backend_name() == "sqlite" and not Path(place.database).exists():
        raise BadCourse(f"there is no gradebook at {place.database}; {release}")
    try:
        _same_version(course.url)
        with Gradebook(course.url, course.config.CourseDirectory.get("course_id", "")) as gradebook:
            known = {notebook.name for notebook in gradebook.find_assignment(subject).notebooks}
            gradebook.db.execute(sqlalchemy.text("PRAGMA journal_mode=WAL"))  # readers do not wait for the writer
    except MissingEntry as error:
        raise BadCourse(f"the gradebook does not know the assignment {subject!r}; {release}") from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        kind = str(getattr(error, "orig", error))[:150]
        remedy = "close what has it open, and try again" if "locked" in kind else _UPGRADE
        raise BadCourse(f"the gradebook cannot be used ({kind}); {remedy}") from error
    if absent := sorted(set(course.released) - known):
        raise BadCourse(f"the gradebook does not know the notebook {absent[0]!r} of {subject!r}; {release}")


_UPGRADE = "back it up, then run: nbgrader db upgrade"


def _same_version(url):
    """Compare the tables that are there with those that this nbgrader expects."""
    engine = sqlalchemy.create_engine(url)
    try:
        found = sqlalchemy.inspect(engine)
        for table in Base.metadata.tables.values():
            there = (
                {column["name"] for column in found.get_columns(table.name)} if found.has_table(table.name) else set()
            )
            if missing := sorted({column.name for column in table.columns} - there):
                raise BadCourse(f"the gradebook is of another version (no {table.name}.{missing[0]}); {_UPGRADE}")
    finally:
        engine.dispose()
