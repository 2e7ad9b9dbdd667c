"""`python -m fastconv`: the digits from end to end, and the other ends of the command line."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import fastconv as fc
from fastconv import cli
from fastconv.tools import classify
from fastconv.tools.digits import network_input

SAMPLES = fc.models.mnist_samples()[0]


def fastconv(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "fastconv", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )


@pytest.fixture(scope="session")
def pillow():
    return pytest.importorskip("PIL.Image", reason="Pillow is missing: image files are not tested")


def test_without_pillow_the_command_to_install_it_is_told(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert cli.main(["classify", "digit.png"]) == 1
    streams = capsys.readouterr()
    assert not streams.out
    assert streams.err == (
        "fastconv classify: digit.png: reading image files needs Pillow, which is not installed; "
        'pip install "fastconv[images]"\n'
    )


def test_samples_end_to_end():
    result = fastconv("classify")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[-1] == "10 of 10 correct"
    answers = re.findall(r"^MNIST sample of (\d): (\d)  (\d+\.\d)%", result.stdout, re.MULTILINE)
    assert [(int(label), int(digit)) for label, digit, _ in answers] == [(digit, digit) for digit in range(10)]
    assert all(float(percent) > 50 for *_, percent in answers)
    pictures = [line for line in lines if set(line) & set("▀▄█")]
    assert 80 <= len(pictures) <= 140
    assert max(map(len, pictures)) <= 28


def test_samples_need_no_pillow_and_no_unicode():
    code = "import sys; sys.modules['PIL'] = None; from fastconv.cli import main; sys.exit(main(['classify']))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (result.returncode, result.stderr) == (0, b"")
    text = result.stdout.decode("ascii")
    assert text.endswith("10 of 10 correct\n") or text.endswith("10 of 10 correct\r\n")
    assert "@" in text
    assert "\\u" not in text


def test_one_bad_file_does_not_stop_the_others(pillow, tmp_path):
    for digit in (3, 8):
        pillow.fromarray(255 - SAMPLES[digit]).resize((150, 150)).save(tmp_path / f"{digit}.png")
    (tmp_path / "text.png").write_text("hello")
    result = fastconv("classify", *(tmp_path / f"{name}.png" for name in ("3", "text", "absent", "8")))
    assert result.returncode == 1
    answers = re.findall(r"(\d)\.png: (\d)  \d", result.stdout)
    assert answers == [("3", "3"), ("8", "8")]
    first, second = result.stderr.splitlines()
    assert first.startswith(f"fastconv classify: {tmp_path / 'text.png'}: not a readable image")
    assert second.startswith(f"fastconv classify: {tmp_path / 'absent.png'}: no such file")


def test_runner_up_is_told_when_in_doubt(capsys):
    logits = np.full((1, 10), -30, np.float32)
    logits[0, [4, 9]] = np.log([0.7, 0.3])
    assert classify._print_answer(lambda x: logits, "photo", network_input(SAMPLES)[4]) == 4
    assert capsys.readouterr().out.startswith("photo: 4  70.0%  (or 9  30.0%)\n")


def test_picture_in_half_blocks_and_in_ascii():
    digit = np.zeros((28, 28), np.float32)
    digit[4:7, 3], digit[7, 4] = 1, 1
    assert classify.picture(digit, "utf-8") == "   █\n   ▀▄"
    assert classify.picture(digit, "ascii") == "   @\n   =="
    assert classify.picture(digit, None) == classify.picture(digit, "latin-1") == "   @\n   =="


def test_info_prints_the_configuration():
    result = fastconv("info")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip() == fc.show_config().strip()


def test_version_and_wrong_commands():
    assert fastconv("--version").stdout == f"fastconv {fc.__version__}\n"
    for arguments in ([], ["clasify"], ["classify", "--fast"]):
        result = fastconv(*arguments)
        assert result.returncode == 2
        assert result.stderr.startswith("usage: fastconv")
        assert "Traceback" not in result.stderr


def test_every_command_has_help(capsys):
    for name in cli._COMMANDS:
        with pytest.raises(SystemExit) as caught:
            cli.main([name, "--help"])
        assert caught.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: fastconv {name}")


def test_only_the_command_asked_for_is_imported():
    code = (
        "import sys, fastconv.cli as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: print(sorted(name for name in sys.modules if name.startswith('fastconv.')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "['fastconv.cli', 'fastconv.errors']"


def test_a_closed_pipe_is_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "fastconv", "info"]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, "")


def test_interrupted(monkeypatch):
    def interrupt(arguments):
        raise KeyboardInterrupt

    command = SimpleNamespace(run=interrupt, add_arguments=lambda parser: None)
    monkeypatch.setitem(sys.modules, "fastconv.tools.info", command)
    assert cli.main(["info"]) == 130
