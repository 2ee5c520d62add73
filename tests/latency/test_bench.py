"""What a decision costs: counted against closed forms, measured rows by the schema. No time is asserted."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from onestride.cli import main
from onestride.engine.backends import preferred
from onestride.engine.openvino_runner import installed
from onestride.latency import bench as benching
from onestride.latency.subjects import subjects_of, trained, untrained, with_parts, work, work_of
from onestride.reports.table import cells
from onestride.runs import presets
from onestride.runs.settings import BenchConfig, PairsConfig
from onestride.studies.bench import by_candidates, lines, table

pytest.importorskip("onnxruntime")


def test_products_are_counted_and_nothing_else():
    layer, x = nn.Linear(5, 7), torch.randn(3, 5)
    flop, moved = work(lambda: torch.nn.functional.silu(layer(x)).sum())
    assert flop == 2 * 3 * 5 * 7
    assert moved == 4 * (7 + 3 * 5 + 5 * 7 + 3 * 7)  # bias, rows, weights, result


def test_a_students_decision_is_the_sum_of_its_layers():
    policy = untrained(presets.load("halfcheetah-tiny"))["student"]
    flop, _, call = work_of(policy, np.zeros(17))
    n, plan, hidden, latent, gains = 64, 4 * 23, 16, 16, 8
    layers = [(plan, hidden), (hidden, hidden), (hidden, latent), (latent, latent), (latent, gains), (gains, latent)]
    layers += [(latent, latent), (latent, hidden), (hidden, hidden), (hidden, plan)]
    critics = policy.selector.scored_steps * 2 * (23 * 16 + 16 * 16 + 16)
    assert call == 2 * n * sum(a * b for a, b in layers)
    assert flop == call + 2 * n * critics


def test_a_guided_teacher_counts_its_gradients():
    policy = untrained(presets.load("halfcheetah-tiny"))["teacher"]
    guided = work_of(policy, np.zeros(17))
    plain = work_of(with_parts(policy, policy.generator.planner, 64), np.zeros(17))
    value = work(lambda: policy.generator.returns(torch.zeros(64, 4, 23), 1, None))[0]
    assert guided[0] - plain[0] == 2 * 4 * value
    assert guided[2] == plain[2]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "tiny.json"
    arguments = [
        "--preset",
        "halfcheetah-tiny",
        "--bench.candidates",
        "1",
        "4",
        "--bench.rounds",
        "2",
        "--bench.burst",
        "2",
    ]
    main(["bench", *arguments, "--bench.draws", "2", "--out", str(out)])
    return out


@pytest.mark.slow
def test_the_record_is_of_the_schema(record):
    said = json.loads(record.read_text())
    names = ["teacher", "student", "engine", "engine-int8"]  # the teacher is guided
    backend = preferred(untrained(presets.load("halfcheetah-tiny"))["student"])
    int8 = preferred(untrained(presets.load("halfcheetah-tiny"))["student"], int8=True)
    others = ("onnx", "onnx-int8", *(("openvino",) if installed() else ()))
    names += [f"engine-{other}" for other in others if other not in (backend, int8)]
    assert any(f"engine is {backend}, " in note for note in said["notes"])
    assert list(said["rows"]) == [f"{name}@{n}" for n in (1, 4) for name in names]
    assert (said["schema"], said["experiment"]) == (2, "bench")
    for row in said["rows"].values():
        assert all(set(metric) == {"mean", "std", "n", "per_seed"} for metric in row.values())
        order = [row[f"decision_ms_{name}"]["mean"] for name in ("p50", "p95", "p99", "max")]
        assert order == sorted(order)
        assert row["decision_ms_mean"]["n"] == 2 * 2
        assert row["after_pause_ms_p50"]["mean"] > 0
    rows = said["rows"]
    assert rows["teacher@1"]["nfe"]["mean"] == 4
    assert rows["student@4"]["speed_up_over_student"]["mean"] == 1.0
    assert rows["engine@4"]["gflop"]["mean"] < rows["student@4"]["gflop"]["mean"]
    assert "observations: where scenes begin" in said["notes"]
    assert rows["engine-int8@4"]["mb"]["mean"] < rows["engine@4"]["mb"]["mean"]
    ratio = rows["student@4"]["decision_ms_p50"]["mean"] / rows["engine@4"]["decision_ms_p50"]["mean"]
    assert rows["engine@4"]["speed_up_over_student"]["mean"] == pytest.approx(ratio)
    tails = rows["student@4"]["decision_ms_p99"]["mean"] / rows["engine@4"]["decision_ms_p99"]["mean"]
    assert rows["engine@4"]["speed_up_over_student_p99"]["mean"] == pytest.approx(tails)
    assert {"matmul_gflops_1", "matmul_gflops_4", "copy_gb_per_s"} <= set(said["machine"])
    assert len(lines(said)) == 1 + 2 * len(names)


@pytest.mark.slow
def test_an_unguided_teacher_is_timed_as_one_graph_too():
    policies = untrained(presets.load("tiny"))
    made = {s.name: s for s in subjects_of(policies, 4, BenchConfig(draws=2), torch.device("cpu"))}
    assert made["teacher-optimised"].nfe == made["teacher"].nfe == policies["teacher"].nfe
    assert made["teacher-optimised"].flop < made["teacher"].flop


@pytest.mark.slow
def test_pairs_are_rows_of_their_own(record):
    teacher, config = untrained(presets.load("halfcheetah-tiny"))["teacher"], PairsConfig()
    rows = benching._pairs(teacher, [np.zeros(17), np.ones(17)], config, 8, torch.device("cpu"))
    assert list(rows) == ["pairs@8"]
    assert rows["pairs@8"]["pairs_per_s"]["n"] == benching.BLOCKS
    assert rows["pairs@8"]["pairs_per_s"]["mean"] > 0
    said = json.loads(record.read_text())
    without = cells(table(said))
    said["rows"] |= rows
    whole = cells(table(said))
    assert [line[:-1] for line in whole[:-1]] == without  # one line and one column more
    assert whole[-1][:-1] == ["pairs@8"] + ["–"] * (len(without[0]) - 1)  # noqa: RUF001
    assert [line[-1] for line in whole[1:-1]] == ["–"] * (len(without) - 1)  # noqa: RUF001
    assert cells(table(said, 4)) == [line for line in without if line[0] == "" or line[0].endswith("@4")]
    short = cells(by_candidates(said))
    assert short[0] == ["p50 [ms]", "1 candidates", "4 candidates"]
    assert [line[0] for line in short[1:]] == [line[0][:-2] for line in without if line[0].endswith("@4")]
    assert short[1][2] == f"{said['rows']['teacher@4']['decision_ms_p50']['mean']:.2f}"
    del said["rows"]["teacher@4"]
    assert cells(by_candidates(said))[1] == [*short[1][:2], "–"]  # noqa: RUF001


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS")
def test_everything_decides_on_a_gpu(tmp_path):
    arguments = ["--preset", "halfcheetah-tiny", "--bench.candidates", "1", "4", "--bench.rounds", "2"]
    arguments += ["--bench.burst", "2", "--bench.draws", "2", "--bench.pairs", "8", "--bench.compiled"]
    main(["bench", *arguments, "--device", "cuda", "--out", str(tmp_path / "gpu.json")])
    said = json.loads((tmp_path / "gpu.json").read_text())
    names = ["teacher", "teacher-optimised", "student", "engine", "engine-tf32", "engine-bf16", "engine-compiled"]
    decide = [f"{name}@{n}" for n in (1, 4) for name in names]
    assert list(said["rows"]) == [*decide, "pairs@8", "pairs-captured@8"]
    assert said["config"]["device"] == "cuda"
    assert any("engine is cuda-graph, engine-tf32 cuda-graph, tf32" in note for note in said["notes"])
    rows = {name: {metric: value["mean"] for metric, value in said["rows"][name].items()} for name in decide}
    assert rows["teacher@4"]["gflop"] == rows["teacher-optimised@4"]["gflop"]
    assert rows["engine-bf16@4"]["mb"] < rows["engine@4"]["mb"] == rows["engine-tf32@4"]["mb"]
    assert all(np.isfinite(value) for row in rows.values() for value in row.values())
    assert min(said["machine"][name] for name in ("matmul_gflops_1", "matmul_gflops_4", "copy_gb_per_s")) > 0
    assert len(lines(said)) == 1 + len(said["rows"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--preset", "halfcheetah-tiny", "--device", "cuda"])
    assert "cannot use device 'cuda' here" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_record_is_not_overwritten(record, capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--preset", "halfcheetah-tiny", "--out", str(record)])
    assert "is there already" in capsys.readouterr().err


def test_trained_policies_are_taken_from_a_run(make_arm_policy, tmp_path):
    with pytest.raises(ValueError, match="has no student"):
        trained(tmp_path)
    make_arm_policy("teacher").save(tmp_path / "teacher", {})
    make_arm_policy("student", operator="kdm").save(tmp_path / "kdm-0", {})
    assert list(trained(tmp_path)) == ["teacher", "student"]


def test_numbers_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        BenchConfig(candidates=())
    with pytest.raises(ValueError, match="at least 1"):
        BenchConfig(rounds=0)
    with pytest.raises(ValueError, match="at least 1"):
        BenchConfig(pairs=0)
