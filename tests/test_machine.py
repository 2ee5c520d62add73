"""What a result says of its machine and of its sources."""

import subprocess

from onestride.machine import commit, processor


def test_the_commit_is_that_of_the_sources_and_says_when_they_differ(tmp_path):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    sources = tmp_path / "src"
    sources.mkdir()
    (sources / "a.py").write_text("1\n")
    assert commit(sources) is None
    git("init")
    assert commit(sources) is None  # inside somebody's repository, and not part of it
    git("add", "src")
    git("commit", "-m", "a")
    found = commit(sources)
    assert found is not None
    assert len(found) == 40
    (sources / "a.py").write_text("2\n")
    assert commit(sources) == f"{found}-dirty"


X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 26
model\t\t: 2
model name\t: AMD EPYC
stepping\t: 1
flags\t\t: fpu avx2 fma avx512f avx512_vnni

processor\t: 1
model\t\t: 99
"""


def test_a_processors_generation_is_told_where_its_name_does_not():
    assert processor(X86) == {
        "cpu": "AMD EPYC",
        "generation": "AuthenticAMD family 26 model 2 stepping 1",
        "vectors": ["avx2", "fma", "avx512f", "avx512_vnni"],
    }
    arm = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"
    assert processor(arm) == {"generation": "implementer 0x41 part 0xd0c", "vectors": ["asimd", "asimddp"]}
