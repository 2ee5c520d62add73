"""What a refusal says of settings that differ."""

from onestride.differences import differing


def test_up_to_three_are_named_with_both_values():
    assert differing({"a": 1, "b": {"c": [1, 2]}}, {"a": 1, "b": {"c": (1, 2)}}) == ""
    said = differing({"a": 1, "b": {"c": "x"}, "d": 4}, {"a": 2, "b": {"c": "y"}, "e": None})
    assert (
        said == ' (a: 1 there, 2 asked for; b.c: "x" there, "y" asked for; d: 4 there, nothing asked for; and 1 more)'
    )


def test_lists_of_records_are_looked_into_and_long_values_are_cut():
    there, now = ({"made": [{"name": "a", "steps": [n] * 40}]} for n in (10, 11))
    cut = f"[{'10, ' * 9}..."
    assert differing(there, now) == f" (made.0.steps: {cut} there, {cut.replace('10', '11')} asked for)"
