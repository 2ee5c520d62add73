"""Folders go to a hub and come back to the bit, whole or not at all; nothing else goes, and nothing else comes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from model_hub import TOKEN
from onestride.card import CARD, NOT_EVALUATED
from onestride.cli import LIGHT, main
from onestride.commands.light import COMMANDS
from onestride.engine.engine import Engine
from onestride.errors import EXTRAS, PROGRAM
from onestride.files import CONFIG, MODEL
from onestride.policy.policy import Policy
from onestride.seals import seal, sha256
from sharing import NAME, content, pull, push, refused, reseal
from without import python_without

#: Of the library's own upload of large files, about the client that it uses itself.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


@pytest.mark.parametrize("which", ["run/dnk-0", "run/ranked-0", "run/medoid", "exported"])
def test_a_folder_comes_back_to_the_bit(hub, folders, tmp_path, which, capsys):
    push(folders / which)
    assert capsys.readouterr().out.startswith(f"{hub.url}/{NAME}/commit/")
    pull(tmp_path / "back" / "it")
    assert content(tmp_path / "back" / "it") == content(folders / which)
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["it"]


@pytest.mark.slow
def test_what_came_decides_as_what_went(hub, folders, tmp_path, observation):
    push(folders / "run/dnk-0")
    push(folders / "exported", to="me/engine")
    pull(tmp_path / "policy")
    pull(tmp_path / "engine", name="me/engine")
    for load, came, went in (
        (Policy.from_pretrained, "policy", "run/dnk-0"),
        (lambda folder: Engine.from_folder(folder, threads=1), "engine", "exported"),
    ):
        here, there = (load(folder).decide(observation).action for folder in (tmp_path / came, folders / went))
        assert np.array_equal(here, there)


def test_large_files_go_by_their_own_way(hub, folders):
    push(folders / "run/dnk-0")
    assert list(hub.large) == [sha256(folders / "run/dnk-0" / MODEL)]
    assert hub.files(NAME)[MODEL] == (folders / "run/dnk-0" / MODEL).read_bytes()


def test_its_own_files_alone_are_sent(hub, folders):
    folder = folders / "run/dnk-0"
    (folder / "log").mkdir()
    (folder / "log" / "metrics.csv").write_text("step,loss")
    (folder / ".notes").write_text("mine")
    push(folder)
    assert set(hub.files(NAME)) == {".gitattributes", CONFIG, MODEL, CARD}


@pytest.mark.parametrize("name", ["weights.pkl", "data/main_data.hdf5", "notes.txt", "decide-here.so"])
@pytest.mark.parametrize("which", ["run/dnk-0", "exported"])
def test_files_that_are_not_ours_are_refused_by_name(hub, folders, capsys, which, name):
    path = folders / which / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    assert f"no part of it and is not shared: {name}" in refused(capsys, push, folders / which)
    assert hub.asked == []


def test_what_is_no_folder_of_ours_is_refused(hub, folders, tmp_path, capsys):
    assert "is a run's folder; share one planner of it" in refused(capsys, push, folders / "run")
    assert "is no checkpoint and no exported engine" in refused(capsys, push, tmp_path / "nothing")
    seal(folders / "run/dnk-0" / CONFIG, {"kind": "contexts", "task": "hopper-v5", "files": {}})
    assert "a part of a training (contexts)" in refused(capsys, push, folders / "run/dnk-0")
    assert hub.asked == []


def test_an_altered_folder_is_not_sent(hub, folders, capsys):
    for path in (folders / "run/dnk-0" / MODEL, folders / "exported/program.bin"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        assert f"{path} was altered or cut short" in refused(capsys, push, path.parent)
    assert hub.asked == []


def test_names_and_tokens_that_cannot_be(hub, folders, capsys, monkeypatch):
    for name in ("arm", "a/b/c", "", "me/arm..x"):
        assert "expected USER/NAME" in refused(capsys, push, folders / "exported", to=name)
    said = refused(capsys, push, folders / "exported", to="you/arm")
    assert "(403): You don't have the rights" in said
    assert "hf auth whoami" in said
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    assert "(401)" in refused(capsys, push, folders / "exported")
    monkeypatch.delenv("HF_TOKEN")
    before = len(hub.asked)
    said = refused(capsys, push, folders / "exported")
    assert said == f"onestride: no token for {hub.url}: log in by `hf auth login`, or put one into $HF_TOKEN"
    assert len(hub.asked) == before


def test_a_private_repository(hub, folders, tmp_path, capsys, monkeypatch):
    push(folders / "exported", "--private")
    assert hub.repositories[NAME].private
    pull(tmp_path / "it")
    monkeypatch.delenv("HF_TOKEN")
    assert f"has no '{NAME}' that this token may see" in refused(capsys, pull, tmp_path / "other")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.repositories[NAME].private = False
    before = hub.repositories[NAME].branches["main"]
    assert "is there already and public" in refused(capsys, push, folders / "exported", "--private")
    assert hub.repositories[NAME].branches["main"] == before


def test_revisions(hub, folders, tmp_path, capsys):
    push(folders / "run/dnk-0")
    first = hub.repositories[NAME].branches["main"]
    push(folders / "run/ranked-0", "--revision", "ranked")
    assert hub.repositories[NAME].branches["main"] == first
    pull(tmp_path / "main")
    pull(tmp_path / "ranked", "--revision", "ranked")
    assert content(tmp_path / "main") == content(folders / "run/dnk-0")
    assert content(tmp_path / "ranked") == content(folders / "run/ranked-0")
    push(folders / "run/ranked-0")
    pull(tmp_path / "before", "--revision", first)
    assert content(tmp_path / "before") == content(folders / "run/dnk-0")
    assert "no revision 'nowhere' of it" in refused(capsys, pull, tmp_path / "x", "--revision", "nowhere")


def test_a_planner_of_another_training_takes_the_place_of_one(hub, folders, tmp_path):
    """What the old one had more is not fetched with the new one."""
    push(folders / "run/ranked-0")
    push(folders / "run/dnk-0")
    assert "selector/config.json" in hub.files(NAME)
    pull(tmp_path / "it")
    assert content(tmp_path / "it") == content(folders / "run/dnk-0")


def test_an_engine_does_not_overwrite_a_planner(hub, folders, capsys):
    push(folders / "run/dnk-0")
    before = dict(hub.files(NAME))
    assert "holds a checkpoint, and" in refused(capsys, push, folders / "exported")
    assert hub.files(NAME) == before


@pytest.mark.parametrize(
    ("which", "name"),
    [
        ("run/dnk-0", MODEL), ("run/dnk-0", CONFIG), ("exported", "program.bin"), ("exported", "contract.json"),
        ("exported", "example.py"), ("run/ranked-0", "selector/config.json"), ("run/ranked-0", f"selector/{MODEL}"),
    ],
)  # fmt: skip
def test_a_damaged_download_is_refused_and_leaves_nothing(hub, folders, tmp_path, capsys, which, name):
    push(folders / which)
    files = hub.files(NAME)
    data = bytearray(files[name])
    data[len(data) // 2] ^= 1
    files[name] = bytes(data)
    capsys.readouterr()
    assert "altered" in refused(capsys, pull, tmp_path / "back" / "it")
    assert list((tmp_path / "back").iterdir()) == []


def test_a_file_that_is_missing_there(hub, folders, tmp_path, capsys):
    push(folders / "exported")
    del hub.files(NAME)["program.bin"]
    assert f"'{NAME}' lacks program.bin" in refused(capsys, pull, tmp_path / "it")
    assert not (tmp_path / "it").exists()


def test_files_that_no_list_names_do_not_come(hub, folders, tmp_path):
    push(folders / "exported")
    hub.files(NAME)["weights.pkl"] = b"cos\nsystem\n"
    pull(tmp_path / "it")
    assert content(tmp_path / "it") == content(folders / "exported")
    assert not any("weights.pkl" in asked for asked in hub.asked)


@pytest.mark.parametrize("name", ["weights.pkl", "decide.so", "../example.py", ".bashrc"])
def test_a_list_that_names_what_we_never_write_is_refused_before_it_is_fetched(hub, folders, tmp_path, capsys, name):
    push(folders / "exported")
    reseal(hub.files(NAME), name, b"no")
    asked = len(hub.asked)
    refused(capsys, pull, tmp_path / "it")
    assert not any(name in each for each in hub.asked[asked:])
    assert [path.name for path in tmp_path.iterdir() if path.name in ("it", "example.py")] == []


@pytest.mark.parametrize("name", ["../config.json", "weights.pt", "/etc/config.json", "a/b/config.json"])
def test_a_checkpoint_that_lists_what_we_never_write(hub, folders, tmp_path, capsys, name):
    push(folders / "run/dnk-0")
    config = json.loads((folders / "run/dnk-0" / CONFIG).read_text())
    config["files"][name] = "0" * 64
    seal(tmp_path / CONFIG, config)
    hub.files(NAME)[CONFIG] = (tmp_path / CONFIG).read_bytes()
    assert f"lists '{name}', which no folder of ours has" in refused(capsys, pull, tmp_path / "it")


def test_a_repository_of_something_else(hub, folders, tmp_path, capsys):
    push(folders / "run/dnk-0")
    for name in (CONFIG, MODEL):
        hub.files(NAME)[name] = b'{"architectures": ["BertModel"]}'
    assert "carries no digest" in refused(capsys, pull, tmp_path / "it")
    del hub.files(NAME)[CONFIG]
    assert "is no checkpoint and no exported engine of onestride" in refused(capsys, pull, tmp_path / "it")
    assert f"{hub.url} has no 'me/nothing'" in refused(capsys, pull, tmp_path / "it", name="me/nothing")
    assert not (tmp_path / "it").exists()


def test_what_is_there_is_not_overwritten(hub, folders, capsys):
    push(folders / "exported")
    before = content(folders / "exported")
    assert "is there already; name another folder" in refused(capsys, pull, folders / "exported")
    assert content(folders / "exported") == before


def test_no_hub_there(hub, folders, tmp_path, capsys, monkeypatch):
    hub.shutdown()
    hub.server_close()
    for command, folder in ((push, folders / "exported"), (pull, tmp_path / "it")):
        assert f"{hub.url} cannot be reached" in refused(capsys, command, folder)


def test_a_card_that_was_edited_goes_as_it_is_and_one_that_no_hub_can_read_does_not(hub, folders, capsys):
    card = folders / "exported" / CARD
    card.write_text(card.read_text().replace("pipeline_tag", "license: mit\npipeline_tag"))
    push(folders / "exported")
    assert b"license: mit" in hub.files(NAME)[CARD]
    card.write_text("---\ntags: [\n---\nmine")
    assert "refuses the card" in refused(capsys, push, folders / "exported")


def test_a_licence_that_stands_on_the_hub_alone_stays(hub, folders):
    folder, licence = (
        folders / "exported",
        "license: other\nlicense_name: lab\nlicense_link: https://lab.example/terms\n",
    )
    push(folder)
    card = hub.files(NAME)[CARD].decode().replace("pipeline_tag", f"{licence}pipeline_tag")
    hub.files(NAME)[CARD] = f"{card}of then".encode()
    push(folder)
    head, text = hub.files(NAME)[CARD].decode().split("---\n", 2)[1:]
    assert head.endswith(licence)
    assert "of then" not in text
    (folder / CARD).write_text((folder / CARD).read_text().replace("pipeline_tag", "license: mit\npipeline_tag"))
    push(folder)
    head = hub.files(NAME)[CARD].decode().split("---\n", 2)[1]
    assert [line for line in head.splitlines() if line.startswith("license")] == ["license: mit"]


def test_a_folder_without_a_card_gets_one_there(hub, folders):
    for which, name in (("exported", NAME), ("run/dnk-0", "me/policy")):
        card = (folders / which / CARD).read_bytes()
        (folders / which / CARD).unlink()
        push(folders / which, to=name)
        assert hub.files(name)[CARD] == card
        assert not (folders / which / CARD).exists()


def test_the_card_says_what_the_run_measured(hub, folders):
    folder = folders / "run/dnk-0"
    config = json.loads((folder / CONFIG).read_text())
    success = {"mean": 0.875, "std": 0.1, "n": 40, "per_seed": [0.9, 0.85]}
    rows = {
        "dnk": {"variant": {"method": "dnk"}, "success": success, "time_s": {**success, "mean": None}},
        "kdm": {"variant": {"method": "kdm"}, "success": {**success, "mean": 0.5}},
    }
    report = {"rows": rows, "config": {"dnk-0": config, "kdm-0": {"training": {"id": "other"}}, "evaluate": {}}}
    report |= {"command": "onestride evaluate", "seeds": {"training": [0, 1]}, "machine": {"cpu": "a CPU"}}
    (folders / "run/evaluation").mkdir()
    seal(folders / "run/evaluation/comparison.json", report)
    (folder / CARD).write_text((folder / CARD).read_text().replace("pipeline_tag", "license: mit\npipeline_tag"))
    push(folder)
    text = hub.files(NAME)[CARD].decode()
    assert "license: mit" in text
    assert "| dnk | success | 0.875 | 0.1 | 40 |" in text
    assert "`onestride evaluate`, training seeds 0, 1 together, on a CPU" in text
    assert "kdm" not in text
    assert NOT_EVALUATED not in text
    assert NOT_EVALUATED in (folder / CARD).read_text()
    shutil.rmtree(folders / "run/evaluation")
    push(folder, to="me/unmeasured")
    assert NOT_EVALUATED in hub.files("me/unmeasured")[CARD].decode()


def test_settings_are_shown_without_a_hub(hub, folders, capsys):
    push(folders / "exported", "--dry-run")
    assert json.loads(capsys.readouterr().out)["to"] == NAME
    main(["pull", NAME, "--dry-run"])
    assert json.loads(capsys.readouterr().out)["name"] == NAME
    assert hub.asked == []


@pytest.mark.slow
def test_a_robots_computer_pulls_and_decides_without_torch(hub, folders, tmp_path):
    push(folders / "exported")
    code = (
        "from onestride.cli import main\nfrom onestride import Engine\n"
        "main(['pull', sys.argv[1], '--to', sys.argv[2]])\n"
        "engine = Engine.from_folder(sys.argv[2], threads=1)\nprint(len(engine.decide(engine.control.example).action))"
    )
    heavy = [package for package, extra in EXTRAS.items() if extra != "hub" and package not in PROGRAM]
    done = python_without(heavy, code, NAME, tmp_path / "it")
    assert "torch" in heavy
    assert done.stdout.splitlines()[-1] == "3"


@pytest.mark.slow
def test_as_it_is_typed(hub, folders, tmp_path):
    """In a process of its own, which finds the hub by its environment; twice, as the second finds a repository."""
    for words in (("push", folders / "run/ranked-0", "--to", NAME),) * 2 + (("pull", NAME, "--to", tmp_path / "it"),):
        subprocess.run([sys.executable, "-m", "onestride", *map(str, words)], check=True, env=os.environ, cwd=tmp_path)
    assert content(tmp_path / "it") == content(folders / "run/ranked-0")


@pytest.mark.slow
def test_a_missing_library_is_named_with_its_extra(folders, capsys):
    code = "from onestride.cli import main\nmain(sys.argv[1:])"
    for blocked, package in (({"huggingface_hub"}, "huggingface_hub"), (EXTRAS, "tyro")):
        for words in (("push", folders / "exported", "--to", NAME), ("pull", NAME)):
            done = python_without(blocked, code, *words, check=False)
            assert done.returncode == 2
            assert done.stderr.splitlines()[-1] == f'onestride: this needs {package}: pip install "onestride[hub]"'


def test_the_light_commands_are_those_that_the_entry_knows():
    assert LIGHT.keys() == COMMANDS.keys()
