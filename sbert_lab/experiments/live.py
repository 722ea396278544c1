"""A picture of a training that grows while one watches, and stays when it has ended."""

import time
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from sbert_lab.evaluation import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What is logged and is no curve worth looking at.
_NOT_DRAWN = ("epoch", "step", "grad_norm", "learning_rate", "total_flos", "train_")


class LivePicture(TrainerCallback):
    """Loss and metrics against steps, redrawn in place in a notebook.

    Outside one the trainer's own lines in the log say the same.

    Parameters
    ----------
    title
        What is trained.
    seconds
        Redrawn no more often than this.
    """

    def __init__(self, title: str, seconds: float = 2.0) -> None:
        self.title, self.seconds = title, seconds
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self._drawn = 0.0
        self._handle: Any = None

    def on_log(
        self,
        args: Any,  # noqa: ANN401
        state: Any,  # noqa: ANN401
        control: Any,  # noqa: ANN401
        logs: dict[str, float] | None = None,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Take in what was logged, and redraw if it is time."""
        del args, control
        for name, value in (logs or {}).items():
            if not name.startswith(_NOT_DRAWN) and isinstance(value, int | float):
                self.curves.setdefault(name, []).append((state.global_step, value))
        if time.monotonic() - self._drawn > self.seconds:
            self._show()

    def on_train_end(
        self,
        args: Any,  # noqa: ANN401
        state: Any,  # noqa: ANN401
        control: Any,  # noqa: ANN401
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Draw the last picture."""
        del args, state, control
        self._show()

    def figure(self) -> "Figure":
        """Return the picture: the loss on the left, what explains it on the right."""
        figure, axes = figures.new_figure(2, width=9, height=4.4)
        for name, points in self.curves.items():
            where = axes[0] if name.endswith("loss") else axes[1]
            marker = "o" if name.startswith("eval_") else ""
            line = figures.LINES[len(where.lines) % len(figures.LINES)]
            where.plot(*zip(*points, strict=True), line, marker=marker, label=name)
        for one, title in zip(
            axes, (f"{self.title}: loss", "and what explains it"), strict=True
        ):
            one.set_title(title)
            one.set_xlabel("step")
            if one.lines:
                figures.legend_below(one)
        return figure

    def _show(self) -> None:
        self._drawn = time.monotonic()
        if not (self.curves and _in_notebook()):
            return
        from IPython.display import Image, display

        others = [name for name in self.curves if not name.endswith("loss")]
        alt = (
            f"Two line plots against training steps, {self.title}: the loss, and "
            f"{', '.join(others) or 'nothing beside it'}."
        )
        picture = Image(
            figures.png(self.figure()), format="png", alt=alt, metadata={"alt": alt}
        )
        if self._handle is None:
            self._handle = display(picture, display_id=True)
        else:
            self._handle.update(picture)


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None
