"""The command `crossattn train`: what it takes, what it shows, and how it ends."""

import argparse
import sys
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

Ctrl-C stops after the step under way; the same command goes on from there, as if nothing had happened.
A run's folder holds words.json, history.jsonl, last.ckpt and, at the end, translator.safetensors.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `train` to the commands."""
    parser = commands.add_parser(
        "train",
        help="train a model, in a run that can be stopped and go on",
        description="Train a translator by a recipe, and keep what is best on the development split.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", choices=["translation"], help="what is learnt")
    parser.add_argument("--data", default="grammar", metavar="grammar|multi30k|FOLDER",
                        help="the generated corpus (default), Multi30k, or a folder of your own")  # fmt: skip
    parser.add_argument("--corpus", type=Path, metavar="FOLDER", help="where Multi30k lies already: nothing is fetched")
    parser.add_argument("--src", default="en", metavar="LANGUAGE", help="of text: the source (default: en)")
    parser.add_argument("--tgt", default="de", metavar="LANGUAGE", help="of text: the target (default: de)")
    parser.add_argument("--recipe", choices=["glass-box", "standard", "text", "text-tiny", "text-long"],
                        help="sizes and schedule (default: glass-box for the grammar, else text)")  # fmt: skip
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
    from crossattn_ref.tasks import translation
    from crossattn_ref.train.progress import Bar

    name, recipe = _recipe(arguments)
    data = Path(arguments.data).name
    about = {"data": data, "recipe": name}
    if data != "grammar":
        about |= {"src": arguments.src, "tgt": arguments.tgt}
    folder = arguments.folder or _folder(about, arguments.seed)
    splits = translation.corpus(arguments.data, src=arguments.src, tgt=arguments.tgt, folder=arguments.corpus)
    trained = translation.learn(
        recipe, splits, seed=arguments.seed, folder=folder, device=arguments.device, about=about, show=Bar()
    )
    if trained.history.ended == "interrupted":
        print(f"stopped after step {trained.history.step}; the same command goes on from there", file=sys.stderr)
        return 130
    figures = ", ".join(f"{name} {value:.4g}" for name, value in trained.about["dev"].items())
    print(f"{trained.history.step} steps in {trained.history.seconds:.0f} s; development split: {figures}")
    print(f"the translator lies in {folder / 'translator.safetensors'}")
    return 0


def _folder(about, seed):
    """Name a run: runs/grammar-glass-box-seed0, runs/multi30k-en-de-seed0, runs/multi30k-en-de-text-tiny-seed0."""
    languages = [about["src"], about["tgt"]] if "src" in about else []
    names = [about["data"], *languages, *([] if about["recipe"] == "text" else [about["recipe"]])]
    return Path("runs", "-".join([*names, f"seed{seed}"]))


def _recipe(arguments):
    from dataclasses import replace

    from crossattn_ref.tasks.translation import RECIPES

    name = arguments.recipe or ("glass-box" if arguments.data == "grammar" else "text")
    recipe = RECIPES[name]
    asked = {"n_steps": arguments.steps, "minutes": arguments.minutes}
    given = {name: value for name, value in asked.items() if value is not None}
    return name, replace(recipe, plan=replace(recipe.plan, **given))
