"""What stands under a table follows from its record."""

from onestride.evaluation import captions


def returns(rows, draws=None):
    """A record in which every row has three seeds, the teacher one."""
    made = {}
    for row in rows:
        n = 1 if row.startswith("teacher") else 3
        earned = 0.4 if row.endswith("unselected") else 0.3
        made[row] = {
            "return_normalised": {"mean": earned, "std": 0.1, "n": n},
            "decision_ms_mean": {"mean": 1.0, "std": 0.1, "n": 100},
        }
    engine = {} if draws is None else {"engine": {"draws": draws}}
    return {"rows": made, "config": {"evaluate": {"episodes": 20}, **engine}}


def test_a_deviation_says_which_it_is_over_how_many():
    said = captions.returns(returns(["teacher", "dnk"]))
    assert "population standard deviation over training seeds of each seed's mean (1 or 3;" in said
    assert "20 episodes of each seed" in said
    assert "over 100 single decisions" in said
    assert "bank" not in said
    assert "argmax" not in said


def test_an_engines_noise_bank_is_named_where_there_is_an_engine():
    assert "comes round after 256 decisions" in captions.returns(returns(["teacher", "dnk", "dnk-engine"], 256))
    assert "bank" not in captions.returns(returns(["teacher", "dnk"], 256))
    assert "after 64 decisions" in captions.bench({"config": {"rounds": 10, "burst": 10, "draws": 64}})


def test_an_argmax_over_actions_is_called_what_it_is():
    said = captions.returns(returns(["teacher", "ct", "ct-unselected"]))
    assert "rewards the critic's errors" in said
    assert "(CT (unselected))" in said
    assert "(nowhere here)" in captions.returns(returns(["teacher", "ct"]))


def test_trials_are_counted_by_row():
    rows = {"teacher": {"success": {"n": 50}}, "dnk": {"success": {"n": 150}}}
    said = captions.trials({"rows": rows, "seeds": {"training": [0, 1, 2]}})
    assert "(Teacher 50, DNK 150); students have 3 seeds" in said
