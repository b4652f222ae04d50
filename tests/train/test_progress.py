"""The bar, as it is seen where there is no terminal."""

from crossattn_ref.train.history import History
from crossattn_ref.train.loop import Plan
from crossattn_ref.train.progress import Bar


def test_the_bar_shows_steps_loss_and_what_was_measured(capsys):
    bar, plan, history = Bar(), Plan(n_steps=7), History(step=2)
    bar(history, plan)
    history.add(6.0, 4, 1e-3)
    history.validated({"loss": 1.25})
    for step in range(3, 8):
        history.step = step
        history.add(3.0, 4, 1e-3)
        history.ended = "steps" if step == 7 else None
        bar(history, plan)
    shown = capsys.readouterr().err
    assert "7/7" in shown
    assert "loss 0.750, loss 1.25" in shown
