"""What tests call the kinds of planners -> their methods; and selectors of models at hand."""

from onestride.selectors.iql import IQL
from onestride.selectors.store import make_selector

METHOD_OF = {"teacher": "diffuser", "student": "dnk", "consistency": "ct", "cloning": "bc", "flow actor": "fql"}


def wrap(model, normalizer, task, options=None):
    """An IQL or a return model as the selector of its kind."""
    return make_selector("iql" if isinstance(model, IQL) else "returns", model, normalizer, task, options)
