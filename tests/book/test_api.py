"""The API page: every public function, class and method, its docstring word for word."""

import importlib
import inspect

import pytest
from bs4 import BeautifulSoup

MODULES = [
    importlib.import_module(f"crossattn_ref.{name}")
    for name in (
        "attention.reference",
        "attention.dense",
        "attention.inputs",
        "attention.multihead",
        "models.blocks",
        "cost",
    )
]


def public(owner, kind):
    return [
        (name, thing)
        for name, thing in vars(owner).items()
        if kind(thing) and not name.startswith("_") and inspect.getdoc(thing)
    ]


def things():
    """Every public function and class of the modules, and the methods of the classes, by their full names."""
    for module in MODULES:
        for name, thing in public(module, lambda t: inspect.isfunction(t) or inspect.isclass(t)):
            if thing.__module__ != module.__name__:
                continue
            yield f"{module.__name__}.{name}", thing
            if inspect.isclass(thing):
                yield from (
                    (f"{module.__name__}.{name}.{method}", function)
                    for method, function in public(thing, inspect.isfunction)
                    if function.__module__ == module.__name__
                )


THINGS = dict(things())


@pytest.fixture(scope="module")
def api(built):
    return BeautifulSoup((built / "book" / "api.html").read_text(encoding="utf-8"), "html.parser")


def words(text):
    """The words of a text, typed quotes and signs made straight."""
    for typed, straight in (
        ("\N{RIGHT SINGLE QUOTATION MARK}", "'"),
        ("\N{LEFT DOUBLE QUOTATION MARK}", '"'),
        ("\N{RIGHT DOUBLE QUOTATION MARK}", '"'),
        ("\N{HORIZONTAL ELLIPSIS}", "..."),
    ):
        text = text.replace(typed, straight)
    return " ".join(text.split())


def test_the_page_is_about_functions_classes_and_methods():
    kinds = {name.removeprefix("crossattn_ref.") for name in THINGS}
    assert {"attention.dense.attention", "attention.inputs.Lengths.mask", "models.blocks.DecoderLayer"} <= kinds


@pytest.mark.parametrize("name", THINGS)
def test_a_thing_stands_there_with_its_parameters_and_its_docstring(api, name):
    thing = THINGS[name]
    signature = api.find(id=name)
    own = [parameter for parameter in inspect.signature(thing).parameters if parameter != "self"]
    assert all(parameter in signature.get_text() for parameter in own)
    assert words(inspect.getdoc(thing)) in words(signature.find_next("dd").get_text(" "))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_a_module_opens_with_its_own_docstring(api, module):
    assert words(inspect.getdoc(module)) in words(api.find("article").get_text(" "))
