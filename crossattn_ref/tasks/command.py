"""The command `crossattn train`: what it takes, what it shows, and how it ends."""

import argparse
import importlib
import sys
from dataclasses import asdict, replace
from pathlib import Path

EXAMPLES = """
examples:
  crossattn train translation                                 the glass box on the grammar, in a minute
  crossattn train translation --recipe standard --seed 1      the standard model, another seed
  crossattn train translation --data multi30k             English to German; fetches the corpus (for research only)
  crossattn train translation --data multi30k --recipe text-long --device cuda
                                                          the same on a GPU, with more patience
  crossattn train translation --data ../texts --src en --tgt fr
                                                              train.en, train.fr, val.en, val.fr in a folder of yours
  crossattn train captioning                                  pictures of shapes, and what is in them
  crossattn train vqa --recipe concatenation                  questions about them, without cross-attention
  crossattn train vqa --data easy-vqa --corpus ../easy-vqa    questions that others ask about pictures of one shape
  crossattn train vqa --data nlvr --corpus ../nlvr            what others say about three boxes: is it true?

Ctrl-C stops after the step under way; the same command goes on from there, as if nothing had happened.
A run's folder holds history.jsonl, last.ckpt and, at the end, translator.safetensors (with words.json),
captioner.safetensors or answerer.safetensors.

recipes:
  translation   glass-box (for the grammar), standard, text, text-twice, text-tiny, text-long (for other data)
  captioning    scenes, plain, rivals, unnamed (without, and each with one of the two remedies of scenes), supervised
                (scenes, and told where to look)
  vqa           cross, concatenation, co-attention (ways to bring question and picture together), mean (cross, with the
                mean of the words instead of their largest numbers), supervised (co-attention, told where to look, in
                fewer steps); none with --data
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `train` to the commands."""
    parser = commands.add_parser(
        "train",
        help="train a model, in a run that can be stopped and go on",
        description="Train a model by a recipe, and keep what is best on the development split.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", choices=["translation", "captioning", "vqa"], help="what is learnt")
    parser.add_argument("--data", default="grammar", metavar="NAME|FOLDER",
                        help="for translation: grammar, which is generated (default), multi30k, or a folder of yours; "
                        "for vqa: easy-vqa or nlvr (default: scenes that are drawn)")  # fmt: skip
    parser.add_argument("--corpus", type=Path, metavar="FOLDER",
                        help="where Multi30k, easy-VQA or NLVR lies already: nothing is fetched")  # fmt: skip
    parser.add_argument("--src", default="en", metavar="LANGUAGE", help="of text: the source (default: en)")
    parser.add_argument("--tgt", default="de", metavar="LANGUAGE", help="of text: the target (default: de)")
    parser.add_argument("--recipe", help="sizes and schedule (default: the first of the task's; text for text)")
    parser.add_argument("--steps", type=int, metavar="N", help="updates, where the recipe's are too many or too few")
    parser.add_argument("--minutes", type=float, metavar="N", help="end after so many, even if steps are left")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the dropout and the order of the data")
    parser.add_argument("--folder", type=Path, help="where the run lies (default: by its name in runs/)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train -> 0; 130 where it was interrupted, 2 with one line on stderr where it can't be done."""
    from crossattn_ref.train.loop import NotFinite

    try:
        return _train(arguments)
    except (ValueError, OSError, NotFinite, ModuleNotFoundError) as error:
        print(f"crossattn train: {error}", file=sys.stderr)
        return 2


def _train(arguments):
    _check_device(arguments.device)
    trained, folder, file = (_translation if arguments.task == "translation" else _pictures)(arguments)
    if trained.history.ended == "interrupted":
        print(f"stopped after step {trained.history.step}; the same command goes on from there", file=sys.stderr)
        return 130
    figures = ", ".join(f"{name} {value:.4g}" for name, value in trained.about["dev"].items())
    print(f"{trained.history.step} steps in {trained.history.seconds:.0f} s; development split: {figures}")
    print(f"the {Path(file).stem} lies in {folder / file}")
    return 0


def _check_device(name):
    import torch

    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
        raise ValueError(f"--device {name} is not there ({error}): train with --device cpu") from error


def _translation(arguments):
    from crossattn_ref.tasks import translation
    from crossattn_ref.train.progress import Bar

    name, recipe = _recipe(arguments, "glass-box" if arguments.data == "grammar" else "text")
    data = Path(arguments.data).name
    about = {"data": data, "recipe": name}
    if data != "grammar":
        about |= {"src": arguments.src, "tgt": arguments.tgt}
    folder = arguments.folder or _folder(about, arguments.seed)
    splits = translation.corpus(arguments.data, src=arguments.src, tgt=arguments.tgt, folder=arguments.corpus)
    trained = translation.learn(
        recipe, splits, seed=arguments.seed, folder=folder, device=arguments.device, about=about, show=Bar()
    )
    return trained, folder, "translator.safetensors"


def _pictures(arguments):
    """Train on scenes, or on pictures of others; nothing that only text has may be asked for."""
    from crossattn_ref.train.progress import Bar

    if (arguments.data, arguments.corpus) != ("grammar", None):
        if arguments.task == "vqa":
            return _pictures_of_others(arguments)
        rule = "--data and --corpus are for translation and vqa"
        raise ValueError(f"{rule}: {arguments.task} learns from scenes that it draws; leave them out")
    task = importlib.import_module(f"crossattn_ref.tasks.{arguments.task}")
    name, recipe = _recipe(arguments, next(iter(task.RECIPES)))
    folder = arguments.folder or Path("runs", f"{arguments.task}-{name}-seed{arguments.seed}")
    trained = task.learn(
        recipe, seed=arguments.seed, folder=folder, device=arguments.device, about={"recipe": name}, show=Bar()
    )
    if trained.history.ended != "interrupted":
        _tell_reading(arguments.task, trained, folder / task.SHIPPED.name)
    return trained, folder, task.SHIPPED.name


def _tell_reading(task, trained, path):
    """Choose on the development split how the weights are read, and write that into the file, for --look."""
    from crossattn_ref.models import stored
    from crossattn_ref.tasks import evaluate_answers, evaluate_captions

    reading = {"captioning": evaluate_captions, "vqa": evaluate_answers}[task].read_on_dev(trained)
    stored.write(trained.model, path, {**trained.about, "reading": asdict(reading)})


def _pictures_of_others(arguments):
    from crossattn_ref.tasks import picture_questions
    from crossattn_ref.train.progress import Bar

    data, recipes = arguments.data, picture_questions.RECIPES
    if data == "grammar":  # what argparse writes where nothing is said
        raise ValueError(
            f"--corpus {arguments.corpus} needs --data, one of {', '.join(recipes)}, which says what it is"
        )
    if data not in recipes:
        raise ValueError(f"--data must be one of {', '.join(recipes)} for vqa, or left out with --corpus, got {data!r}")
    if arguments.corpus is None or arguments.recipe is not None:
        raise ValueError(f"--data {data} needs --corpus FOLDER, where you have unpacked it, and takes no --recipe")
    folder = arguments.folder or Path("runs", f"{data}-seed{arguments.seed}")
    recipe = _in_time(arguments, recipes[data])
    trained = picture_questions.learn(
        recipe, picture_questions.corpus(data, arguments.corpus, side=recipe.side),
        seed=arguments.seed, folder=folder, device=arguments.device, show=Bar(),
    )  # fmt: skip
    return trained, folder, picture_questions.SHIPPED.name


def _folder(about, seed):
    """Name a run: runs/grammar-glass-box-seed0, runs/multi30k-en-de-seed0, runs/multi30k-en-de-text-tiny-seed0."""
    languages = [about["src"], about["tgt"]] if "src" in about else []
    names = [about["data"], *languages, *([] if about["recipe"] == "text" else [about["recipe"]])]
    return Path("runs", "-".join([*names, f"seed{seed}"]))


def _recipe(arguments, usual):
    recipes = importlib.import_module(f"crossattn_ref.tasks.{arguments.task}").RECIPES
    name = arguments.recipe or usual
    if name not in recipes:
        raise ValueError(f"--recipe must be one of {', '.join(recipes)} for {arguments.task}, got {name!r}")
    return name, _in_time(arguments, recipes[name])


def _in_time(arguments, recipe):
    """Put the steps and minutes that are asked for in the place of the recipe's."""
    asked = {"n_steps": arguments.steps, "minutes": arguments.minutes}
    given = {name: value for name, value in asked.items() if value is not None}
    return replace(recipe, plan=replace(recipe.plan, **given))
