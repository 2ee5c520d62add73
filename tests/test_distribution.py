"""What is handed out: wheel and sdist, images, changelog, citation, forms for reports. Images are not built here."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import onestride
from onestride.cli import LIGHT, main
from onestride.engine.export import export

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
IMAGES = {path.name: path.read_text() for path in sorted((ROOT / "docker").glob("*.Dockerfile"))}


# ---------------------------------------------------------------- version, changelog, citation


def test_the_version_stands_in_one_place():
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "src/onestride/__init__.py"


def test_the_program_prints_it(capsys):
    main(["--version"])
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"onestride {onestride.__version__}"
    assert second.startswith("python 3.")
    assert "torch" in second


def test_the_changelog_begins_with_what_is_to_come_and_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)[:2] == ["Unreleased", onestride.__version__]
    assert len(text.splitlines()) <= 80


def test_commands_of_the_changelog_are_there(capsys):
    named = set(re.findall(r"`onestride (?!-)(\w+)", (ROOT / "CHANGELOG.md").read_text()))
    assert len(named) > 5
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out
    assert all(re.search(rf"\b{name}\b", listed) for name in named)


def test_the_citation_names_this_version_and_four_papers():
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (said["cff-version"], said["type"], said["title"]) == ("1.2.0", "software", "onestride")
    assert said["version"] == onestride.__version__
    assert said["license"] == PROJECT["project"]["license"]
    assert said["authors"]
    assert said["message"]
    assert len(said["references"]) == 4
    for paper in said["references"]:
        assert paper["title"]
        assert all("name" in author or {"given-names", "family-names"} <= author.keys() for author in paper["authors"])


def test_forms_ask_for_what_a_report_needs():
    forms = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")}
    assert forms.keys() == {"bug", "question", "config"}
    asked = {each["id"]: each for each in forms["bug"]["body"] if "id" in each}
    assert {"version", "machine", "command", "message"} <= {
        name for name, each in asked.items() if each["validations"]["required"]
    }
    assert "onestride --version" in asked["version"]["attributes"]["label"]
    for form in (forms["bug"], forms["question"]):
        assert form["name"]
        assert form["description"]
        assert all(each["type"] in ("markdown", "textarea", "input") for each in form["body"])


# ---------------------------------------------------------------- images


def installed(image: str) -> list[Requirement]:
    """What the last stage installs by pip, onestride's wheel called by its name."""
    lines = re.findall(r"pip install --no-cache-dir (.+?)(?: &&|$)", image.rpartition("\nFROM ")[2], re.MULTILINE)
    words = [
        word for line in lines for word in shlex.split(line.replace("$(echo /wheel/onestride-*.whl)", "onestride"))
    ]
    return [Requirement(word) for word in words]


def instructions(image: str, name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", image, re.MULTILINE)


def brought(requirement: Requirement) -> set[str]:
    """The distributions that it asks for, through extras of ours."""
    if requirement.name != "onestride":
        return {requirement.name}
    found = {Requirement(each).name for each in PROJECT["project"]["dependencies"]}
    for extra in requirement.extras:
        for each in map(Requirement, EXTRAS[extra]):  # a KeyError where there is no such extra
            found |= brought(each)
    return found


def test_images_install_extras_that_there_are():
    assert IMAGES.keys() == {"runtime.Dockerfile", "train.Dockerfile"}
    runtime, train = (set().union(*map(brought, installed(IMAGES[name]))) for name in sorted(IMAGES))
    assert {"numpy", "websockets", "huggingface-hub", "tyro", "onnxruntime"} <= runtime
    assert not runtime & {"torch", "lightning-fabric", "gymnasium", "mujoco", "onnxscript"}
    assert {"torch", "mujoco", "onnxscript", "huggingface-hub"} <= train


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_an_image_runs_as_nobody_and_what_a_command_understands(image, capsys):
    users = re.findall(r"^USER (\w+)$", image, re.MULTILINE)
    assert users
    assert users[-1] != "root"
    assert f"{users[-1]}\n" in "".join(re.findall(r"useradd [^\n]* (\w+\n?)", image.replace(" &&", "\n")))
    assert json.loads(instructions(image, "ENTRYPOINT")[-1]) == ["onestride"]
    command = json.loads(instructions(image, "CMD")[-1])
    if command[0] in LIGHT:
        main([*command, "--dry-run"])
        assert json.loads(capsys.readouterr().out)["folder"] == "/policy"
        assert "VOLUME /policy" in image
    for line in instructions(image, "HEALTHCHECK"):
        compile(json.loads(line.partition("CMD ")[2])[2], "healthcheck", "exec")


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_what_an_image_says_of_itself_is_a_command(image, capsys):
    """The lines on how to run it, of which what follows the image's name are a command's words."""
    runs = [line.split() for line in re.findall(r"^#   docker run (.+)$", image, re.MULTILINE)]
    assert runs
    for words in runs:
        at = next(i for i, word in enumerate(words) if word.startswith("onestride-"))
        if words[at + 1 :]:
            main([*words[at + 1 :], "--dry-run"])
            assert json.loads(capsys.readouterr().out)


def test_what_a_wheel_is_built_of_is_not_ignored():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]

    def ignored(path: str) -> bool:
        """As Docker decides: the last line that matches the path, or a folder that it lies in."""
        parts = path.split("/")
        each = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        kept = [line for line in lines if any(fnmatch(p, line.lstrip("!").removeprefix("**/")) for p in each)]
        return bool(kept) and not kept[-1].startswith("!")

    needed = ["pyproject.toml", "README.md", "LICENSE", "src/onestride/__init__.py", "src/onestride/engine/c/decide.c"]
    needed += [p.relative_to(ROOT).as_posix() for p in (ROOT / "results/paper").rglob("*.json")]
    assert [path for path in needed if ignored(path) or not (ROOT / path).is_file()] == []
    assert all(map(ignored, ("runs/demo/data", ".git/config", "results/kinova/arms.gif", "tests/conftest.py")))


# ---------------------------------------------------------------- wheel and sdist


def module(python: Path | str, *arguments: str) -> str:
    done = subprocess.run([python, "-m", *arguments], capture_output=True, text=True, check=False)
    if done.returncode and re.search(
        r"NewConnectionError|NameResolutionError|ConnectTimeout", done.stderr + done.stdout
    ):
        pytest.skip("needs a package index")
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the wheel and the sdist."""
    out = tmp_path_factory.mktemp("dist")
    module(sys.executable, "build", "--outdir", str(out), str(ROOT))
    return out


@pytest.mark.slow
def test_wheel_and_sdist_have_what_they_need_and_nothing_else(built):
    name = f"onestride-{onestride.__version__}"
    assert sorted(path.name for path in built.iterdir()) == [f"{name}-py3-none-any.whl", f"{name}.tar.gz"]
    wheel = set(zipfile.ZipFile(built / f"{name}-py3-none-any.whl").namelist())
    sources = (ROOT / "src").rglob("*")
    ours = {p.relative_to(ROOT / "src").as_posix() for p in sources if p.is_file() and "__pycache__" not in p.parts}
    paper = {
        f"onestride/paper/{p.relative_to(ROOT / 'results/paper').as_posix()}"
        for p in (ROOT / "results/paper").rglob("*")
        if p.is_file()
    }
    assert {path for path in wheel if not path.startswith(f"{name}.dist-info/")} == ours | paper
    assert f"{name}.dist-info/licenses/LICENSE" in wheel
    with tarfile.open(built / f"{name}.tar.gz") as archive:
        sdist = {member.removeprefix(f"{name}/") for member in archive.getnames()}
    assert {"pyproject.toml", "CHANGELOG.md", "CITATION.cff", "LICENSE", "tests/test_distribution.py"} <= sdist
    assert not {path for path in sdist if path.startswith(("runs/", ".git/", "site/"))}


@pytest.mark.slow
def test_what_the_runtime_image_installs_serves_without_torch(built, tmp_path, make_arm_policy):
    env = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", env], check=True)
    python = env / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    words = [str(each).replace("onestride", str(wheel), 1) for each in installed(IMAGES["runtime.Dockerfile"])]
    module(python, "pip", "install", "--quiet", *words)
    there = {each["name"] for each in json.loads(module(python, "pip", "list", "--format", "json"))}
    assert {"onestride", "numpy", "onnxruntime", "websockets"} <= there
    assert "torch" not in there
    export(make_arm_policy("student"), tmp_path / "arm", form="onnx", draws=2, seed=0, checkpoint=None)
    command = [env / "bin" / "onestride", "serve", tmp_path / "arm", "--port", "0"]
    served = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env={})
    assert served.stdout is not None
    try:
        said = [served.stdout.readline() for _ in range(2)]
        assert said[-1].startswith("listening on ws://127.0.0.1:"), (said, served.stderr and served.poll())
    finally:
        served.terminate()
        served.communicate(timeout=30)
