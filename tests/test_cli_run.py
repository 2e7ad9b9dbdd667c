"""`fastconv run`, `explain` and `verify` on ONNX files."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx_bytes as write
import pytest
import session_models as models

import fastconv as fc
from fastconv import cli, roof
from fastconv.onnx import profile as profiling
from fastconv.tools.model_inputs import SEED

SIZES = ["--shape", "x=2,3,12,10"]


@pytest.fixture
def file(rng, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(models.residual(rng))
    return str(path)


@pytest.fixture
def pillow():
    return pytest.importorskip("PIL.Image", reason="Pillow is missing: image files are not tested")


def identity(tmp_path, shape, elem_type=1):
    """A model that returns its input."""
    path = tmp_path / "identity.onnx"
    graph = write.graph([write.node("Identity", "image", "y")], [write.value("image", shape, elem_type)], ["y"])
    path.write_bytes(write.model(graph))
    return str(path)


class TestRun:
    def test_on_random_numbers(self, file, capsys):
        assert cli.main(["run", file, *SIZES]) == 0
        out = capsys.readouterr().out
        x = np.random.default_rng(SEED).standard_normal((2, 3, 12, 10)).astype(np.float32)
        (y,) = fc.InferenceSession(file).run(None, {"x": x})
        assert "input x: random numbers, seed 0, float32 2×3×12×10" in out
        assert f"output y: float32 2×10, from {y.min():.6g} to {y.max():.6g}" in out
        assert "loaded in" in out

    def test_on_a_file_into_a_folder(self, file, rng, tmp_path, capsys):
        x = rng.standard_normal((1, 3, 12, 10)).astype(np.float32)
        np.save(tmp_path / "x.npy", x)
        arguments = [
            "run",
            file,
            "--input",
            f"x={tmp_path / 'x.npy'}",
            "--output",
            str(tmp_path / "out"),
            "--repeat",
            "4",
        ]
        assert cli.main([*arguments, "--threads", "1", "--precision", "strict"]) == 0
        out = capsys.readouterr().out
        assert "random" not in out
        assert "median of 3" in out
        assert "best: " in out
        (expected,) = fc.InferenceSession(file, 1, "strict").run(None, {"x": x})
        assert np.array_equal(np.load(tmp_path / "out" / "y.npy"), expected)

    def test_images_are_scaled(self, tmp_path, pillow):
        pixels = np.zeros((60, 80, 3), np.uint8)
        pixels[:, :40, 0] = 255
        pillow.fromarray(pixels).save(tmp_path / "image.png")
        model = identity(tmp_path, ("n", 3, 6, 8))
        picture, out = str(tmp_path / "image.png"), str(tmp_path / "out")
        assert cli.main(["run", model, "--input", picture, "--output", out]) == 0
        y = np.load(tmp_path / "out" / "y.npy")
        assert y.shape == (1, 3, 6, 8)
        assert y[0, 0, :, :3].min() == pytest.approx(1, abs=0.01)
        assert y[0, 0, :, 5:].max() == pytest.approx(0, abs=0.01)
        assert cli.main(["run", model, "--input", picture, "--output", out, "--mean", "0.5", "--std", "0.5,1,2"]) == 0
        y = np.load(tmp_path / "out" / "y.npy")
        assert y[0, :, 0, 0].tolist() == pytest.approx([1, -0.5, -0.25])

    @pytest.mark.parametrize(
        ("shape", "elem_type", "expected", "dtype"),
        [
            ((1, 1, 30, 40), 1, (1, 1, 30, 40), "float32"),
            ((1, "h", "w", 3), 2, (1, 60, 80, 3), "uint8"),
            ((1, 3, None, None), 11, (1, 3, 60, 80), "float64"),
        ],
        ids=["grey", "channels last", "its own size"],
    )
    def test_images_as_the_model_wants_them(self, tmp_path, pillow, shape, elem_type, expected, dtype):
        pillow.fromarray(np.full((60, 80, 3), 200, np.uint8)).save(tmp_path / "image.png")
        arguments = ["--input", f"image={tmp_path / 'image.png'}", "--output", str(tmp_path)]
        assert cli.main(["run", identity(tmp_path, shape, elem_type), *arguments]) == 0
        y = np.load(tmp_path / "y.npy")
        assert (y.shape, y.dtype) == (expected, np.dtype(dtype))
        assert y.max() == (200 if dtype == "uint8" else pytest.approx(200 / 255, abs=1e-6))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["absent.onnx"], "absent.onnx"),
            (
                ["JUNK"],
                "junk.onnx: wire type 4 of field 13 is not one that ONNX uses; is this an ONNX model?",
            ),
            (["MODEL"], "'h' on axis 2: pass shapes={'x': (…)}, on the command line --shape x=…"),
            (["MODEL", "--shape", "x"], "--shape: expected NAME=SIZES"),
            (["MODEL", "--shape", "x=1,a"], "--shape: expected NAME=SIZES"),
            (["MODEL", "--shape", "h=1,2"], "--shape: expected NAME=SIZES"),
            (["MODEL", "--input", "image=x.npy"], "--input: expected NAME=FILE with one of x, got 'image=x.npy'"),
            (["MODEL", "--input", "x=absent.npy"], "absent.npy: no such file or directory"),
            (["MODEL", "--input", "x="], "--input: expected NAME=FILE with one of x, got 'x='"),
            (["MODEL", "--input", "x.npz"], "x.npz: expected a .npy file or an image"),
            (["MODEL", "--threads", "0", *SIZES], "threads"),
            (["MODEL", "--repeat", "0", *SIZES], "--repeat: expected at least 1, got 0"),
            (["FOLDER"], "is a directory"),
            (["MODEL", "--input", ""], "--input: expected NAME=FILE with one of x, got ''"),
            (["MODEL", "--input", "FOLDER"], "a directory; expected an image file"),
            (["MODEL", "--input", "JUNK"], "junk.onnx: not a readable image"),
            (["MODEL", "--input", "ARRAY", "--input", "ARRAY"], "--input: x is given twice"),
            (["MODEL", *SIZES, *SIZES], "--shape: x is given twice"),
            (["MODEL", "--input", "ARCHIVE"], "zip.npy: not a NumPy file that can be read"),
            (["MODEL", "--input", "ARRAY", *SIZES], "--shape: x is 2×3×12×10, but "),
            (["MODEL", "--input", "ARRAY", "--std", "2"], "--std: it scales images, and no --input is one"),
            (["MODEL", *SIZES, "--output", "JUNK"], "--output: expected a folder to write to, got "),
            (["MODEL", *SIZES, "--output", ""], "--output: expected a folder to write to, got no name"),
        ],
    )
    def test_what_is_wrong_is_told(self, file, tmp_path, capsys, arguments, message):
        if "image file" in message or "readable image" in message:
            pytest.importorskip("PIL", reason="reading image files: Pillow is not installed")
        junk = tmp_path / "junk.onnx"
        junk.write_bytes(b"hello\n")
        np.save(tmp_path / "x.npy", np.zeros((1, 3, 12, 10), np.float32))
        with open(tmp_path / "zip.npy", "wb") as archive:
            np.savez(archive, x=np.zeros(1))
        files = {"MODEL": file, "JUNK": str(junk), "FOLDER": str(tmp_path), "ARRAY": str(tmp_path / "x.npy")}
        files["ARCHIVE"] = str(tmp_path / "zip.npy")
        assert cli.main(["run", *(files.get(a, a) for a in arguments)]) == 1
        streams = capsys.readouterr()
        assert streams.err.startswith("fastconv run: ")
        assert message in streams.err
        assert "Errno" not in streams.err

    @pytest.mark.parametrize("option", ["--std=0", "--std=1,nan", "--mean=inf", "--mean=a"])
    def test_scales_that_are_none(self, file, capsys, option):
        with pytest.raises(SystemExit) as caught:
            cli.main(["run", file, option])
        assert caught.value.code == 2
        assert "expected numbers " in capsys.readouterr().err

    def test_a_damaged_model(self, tmp_path, capsys):
        (tmp_path / "bad.onnx").write_bytes(b"\x08\x08garbage")
        assert cli.main(["run", str(tmp_path / "bad.onnx")]) == 1
        assert capsys.readouterr().err.startswith("fastconv run: ")

    def test_from_a_shell(self, file):
        result = subprocess.run(
            [sys.executable, "-m", "fastconv", "run", file, *SIZES],
            capture_output=True, text=True, encoding="utf-8", env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        assert (result.returncode, result.stderr) == (0, "")
        assert "output y: float32 2×10" in result.stdout


class TestExplain:
    def test_the_plan_and_the_memory(self, file, tmp_path, capsys):
        files = ["--html", str(tmp_path / "plan.html"), "--json", str(tmp_path / "plan.json")]
        assert cli.main(["explain", file, "--shape", "h=12", "--shape", "w=10", *files]) == 0
        out = capsys.readouterr().out
        assert "Conv+BatchNormalization+Add+Relu" in out
        assert "winograd refused" in out or "winograd" in out
        assert "packed weights" in out
        assert len(json.loads((tmp_path / "plan.json").read_text())["rows"]) == 5
        assert (tmp_path / "plan.html").read_text(encoding="utf-8").startswith("<!doctype html>")

    def test_the_profile(self, file, capsys, monkeypatch):
        levels = dict.fromkeys(("L2", "L3", "memory"), 50.0)
        rates = {f"{roof._kernels.ISA} float32": 100.0}
        monkeypatch.setattr(profiling, "machine_roof", lambda threads: roof.Roof(threads, rates, levels, levels))
        assert cli.main(["explain", file, *SIZES, "--profile", "2"]) == 0
        out = capsys.readouterr().out
        assert "GFLOP/s" in out
        assert "median of 2" in out

    def test_what_is_wrong_is_told(self, file, tmp_path, capsys):
        assert cli.main(["explain", file]) == 1
        assert "'h' on axis 2" in capsys.readouterr().err
        assert cli.main(["explain", file, *SIZES, "--html", str(tmp_path / "no" / "such.html")]) == 1
        streams = capsys.readouterr()
        assert f"--html: there is no folder {tmp_path / 'no'}" in streams.err
        assert streams.out == ""
        assert cli.main(["explain", file, *SIZES, "--json", str(tmp_path)]) == 1
        assert f"--json: expected a file to write, got the folder {tmp_path}" in capsys.readouterr().err
        assert cli.main(["explain", file, *SIZES, "--profile", "0"]) == 1
        assert "--profile: expected at least 1, got 0" in capsys.readouterr().err

    def test_the_shapes_of_files_are_taken(self, file, tmp_path, capsys):
        np.save(tmp_path / "x.npy", np.zeros((2, 3, 12, 10), np.float32))
        assert cli.main(["explain", file, "--input", str(tmp_path / "x.npy")]) == 0
        from_file = capsys.readouterr().out
        assert cli.main(["explain", file, *SIZES]) == 0
        assert capsys.readouterr().out == from_file

    @pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
    def test_a_reader_that_leaves(self, file):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "fastconv", "explain", file, *SIZES]
        result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
        os.close(writer)
        assert (result.returncode, result.stderr) == (1, "")


class TestVerify:
    def test_a_model_that_keeps_to_its_bounds(self, file, tmp_path, capsys):
        assert cli.main(["verify", file, *SIZES, "--html", str(tmp_path / "v.html")]) == 0
        assert "all 6 steps keep to their bounds" in capsys.readouterr().out
        assert (tmp_path / "v.html").exists()

    def test_the_exit_status_tells(self, file, capsys, monkeypatch):
        monkeypatch.setattr("fastconv.onnx.verify.StepError.ok", False)
        assert cli.main(["verify", file, *SIZES]) == 1
        assert "step 0 is the first beyond its bound" in capsys.readouterr().out

    def test_a_missing_file(self, capsys):
        assert cli.main(["verify", "absent.onnx"]) == 1
        assert (
            capsys.readouterr().err == f"fastconv verify: {os.path.abspath('absent.onnx')}: no such file or directory\n"
        )

    def test_the_report_is_not_lost_after_the_work(self, file, tmp_path, capsys):
        assert cli.main(["verify", file, *SIZES, "--html", str(tmp_path)]) == 1
        streams = capsys.readouterr()
        assert streams.out == ""
        assert "--html: expected a file to write, got the folder" in streams.err
