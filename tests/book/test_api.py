"""The API page: every public function of the reference, its docstring word for word."""

import inspect

import pytest
from bs4 import BeautifulSoup

from crossattn_ref.attention import reference

FUNCTIONS = [
    name
    for name, thing in inspect.getmembers(reference, inspect.isfunction)
    if not name.startswith("_") and thing.__module__ == reference.__name__
]


@pytest.fixture(scope="module")
def api(built):
    return BeautifulSoup((built / "book" / "api.html").read_text(encoding="utf-8"), "html.parser")


def words(text):
    """The words of a text, typed quotes made straight."""
    return " ".join(text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_stands_there_with_its_parameters_and_its_docstring(api, name):
    function = getattr(reference, name)
    signature = api.find(id=f"{reference.__name__}.{name}")
    assert all(parameter in signature.get_text() for parameter in inspect.signature(function).parameters)
    assert words(inspect.getdoc(function)) in words(signature.find_next("dd").get_text(" "))


def test_the_module_opens_with_its_own_docstring(api):
    assert words(inspect.getdoc(reference)) in words(api.find("article").get_text(" "))
