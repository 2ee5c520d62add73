"""What tests call the kinds of planners -> their methods; and selectors of models at hand."""

from onestride.methods.koopman import OPERATORS
from onestride.selectors.iql import IQL
from onestride.selectors.store import make_selector

METHOD_OF = {"teacher": "diffuser", "student": "dnk", "consistency": "ct", "cloning": "bc", "flow actor": "fql"}


#: Everything that the engine folds: what tests call it, and its settings.
FOLDED = [("student", {"operator": name}) for name in OPERATORS]
FOLDED += [("consistency", {"horizon": 1}), ("consistency", {}), ("kdp", {"horizon": 1}), ("kdp", {})]
FOLDED += [("onedp-s", {"horizon": 1}), ("onedp-s", {}), ("onedp-d", {"horizon": 1, "candidates": 1})]
FOLDED += [("cp", {"horizon": 1}), ("cp", {}), ("meanflow", {"horizon": 1}), ("meanflow", {})]
FOLDED += [  # beside them
    ("onedp-s", {"settings": {"width": 24, "blocks": 2, "n_steps": 4}}),
    ("onedp-s", {"planner": "edm", "settings": {"width": 24, "blocks": 2}}),
    ("onedp-d", {"planner": "edm", "settings": {"width": 24, "blocks": 2}, "candidates": 1}),
    ("cloning", {"horizon": 1, "candidates": 1}),
    ("cloning", {"layers": 1, "candidates": 1}),
    ("flow actor", {"horizon": 1}),
    ("student", {"encoder_layers": 1}),
    ("student", {"encoder_layers": 4}),
]  # fmt: skip


def wrap(model, normalizer, control, options=None):
    """An IQL or a return model as the selector of its kind."""
    return make_selector("iql" if isinstance(model, IQL) else "returns", model, normalizer, control, options)
