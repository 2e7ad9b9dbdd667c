"""The hot loops keep their accumulators in registers, in the code that was really built.

The extensions are stripped, so the loops are found by what they are: innermost loops with many multiply-adds.  In the
loop over a full tile each of these has a register of its own to add to, and no loop moves a vector to or from the stack.
"""

import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec

import pytest

from fastconv import _kernels

# Sums of a full tile (TILE_PIXELS × TILE_VECTORS in simd.h, with pixels as lanes TILE_FILTERS × ROW_VECTORS), registers.
TILES = {
    "avx512": ({"conv": {14 * 2, 6 * 4}, "pointwise": {6 * 4}, "winograd": {14 * 2}}, "zmm"),
    "avx2": ({"conv": {6 * 2}, "pointwise": {6 * 2}, "winograd": {6 * 2}}, "ymm"),
}
INSTRUCTION = re.compile(r"\s*([0-9a-f]+):\s+(\S.*)")
JUMP = re.compile(r"j\w+\s+([0-9a-f]+)")
MULTIPLY_ADD = re.compile(r"vfn?madd\d+p[sd] ")
VECTOR_ARITHMETIC = re.compile(r"(?!vmov|vbroadcast|vfn?madd)\S+ .*%[xyz]mm")
VECTOR = re.compile(r"%[xyz]mm\d+")
ON_THE_STACK = re.compile(r"(?:0x[0-9a-f]+)?\(%rsp\)|-0x[0-9a-f]+\(%rbp\)")
STORE = re.compile(r"vmov\S+ +%[xyz]mm\d+,(.*\(.*)")
MOVES_A_POINTER = re.compile(r"(?:add|sub|lea|mov|inc|dec)\S* .*%rbp$")  # %rbp is no frame then
FEWEST = 12  # multiply-adds of a loop over a tile that is worth the name


@dataclass
class Loop:
    """An innermost loop: its instructions as text, in order."""

    text: list[str]

    @property
    def multiply_adds(self) -> list[str]:
        return [line for line in self.text if MULTIPLY_ADD.match(line)]

    @property
    def sums(self) -> set[str]:
        """The registers that the multiply-adds add to."""
        return {line.rsplit(",", 1)[1].strip() for line in self.multiply_adds}

    @property
    def is_over_a_tile(self) -> bool:
        """Whether it does little but load and multiply-add, and much of that; transforms store what they compute."""
        stores = [place[1] for place in map(STORE.match, self.text) if place]
        return (
            len(self.multiply_adds) >= FEWEST
            and not any(map(VECTOR_ARITHMETIC.match, self.text))
            and all(map(ON_THE_STACK.search, stores))
        )

    @property
    def spills(self) -> list[str]:
        """The instructions that move a vector to or from the stack."""
        no_frame = any(MOVES_A_POINTER.match(line) for line in self.text)
        return [
            line
            for line in self.text
            if VECTOR.search(line) and (place := ON_THE_STACK.search(line)) and not (no_frame and "%rbp" in place[0])
        ]


def innermost_loops(disassembly: str) -> list[Loop]:
    """The bodies of backward jumps without another jump inside."""
    code = [(int(found[1], 16), found[2]) for line in disassembly.splitlines() if (found := INSTRUCTION.match(line))]
    index = {address: number for number, (address, _) in enumerate(code)}
    jumps = [(number, int(found[1], 16)) for number, (_, text) in enumerate(code) if (found := JUMP.match(text))]
    sources = {number for number, _ in jumps}
    loops = []
    for last, target in jumps:
        first = index.get(target, last + 1)
        if first <= last and not sources.intersection(range(first, last)):
            loops.append(Loop([text for _, text in code[first : last + 1]]))
    return loops


def loops_of(level: str, element: str, name: str) -> list[Loop]:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip("disassembly: the patterns are those of Linux on x86-64")
    if shutil.which("objdump") is None:
        pytest.skip("disassembly: objdump is not installed")
    module = find_spec(f"fastconv._kernels.{level}_{element}.{name}")
    assert module, "every level is built on x86-64, whether this machine can run it or not"
    symbols = subprocess.run(["objdump", "-T", module.origin], capture_output=True, text=True, check=True).stdout
    if "__ubsan" in symbols or "__asan" in symbols:
        pytest.skip("disassembly: this build checks itself and is not optimised")
    command = ["objdump", "-d", "--no-show-raw-insn", module.origin]
    return innermost_loops(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("element", ["float32", "float64"])
@pytest.mark.parametrize("level", TILES)
@pytest.mark.parametrize("name", ["conv", "pointwise", "winograd"])
def test_the_loops_over_tiles_keep_their_sums_in_registers(name, level, element):
    sums, register = TILES[level][0][name], TILES[level][1]
    loops = [loop for loop in loops_of(level, element, name) if loop.is_over_a_tile]
    for loop in loops:
        assert not loop.spills, "vectors on the stack:\n" + "\n".join(loop.text)
    whole = [len(loop.sums) for loop in loops if all(register in text for text in loop.sums)]
    assert sums <= set(whole), f"loops over full tiles have {sums} sums, found {sorted(whole)}"


GOOD = """
  10:\tvbroadcastss (%rax),%zmm2
  20:\tvfmadd231ps %zmm2,%zmm3,%zmm0
  30:\tvfmadd231ps (%rcx),%zmm2,%zmm1
  40:\tadd    $0x4,%rax
  50:\tcmp    %rax,%rdx
  60:\tjne    10 <PyInit_conv+0x10>
  70:\tvmovups %zmm0,(%rdi)
"""
SPILLED = """
  10:\tvbroadcastss (%rax),%zmm2
  20:\tvfmadd213ps 0x40(%rsp),%zmm3,%zmm2
  30:\tvmovaps %zmm2,0x40(%rsp)
  40:\tjne    10 <PyInit_conv+0x10>
"""


def test_what_a_loop_is_and_what_a_spill_is():
    (loop,) = innermost_loops(GOOD)
    assert (len(loop.multiply_adds), loop.sums, loop.spills) == (2, {"%zmm0", "%zmm1"}, [])
    (loop,) = innermost_loops(SPILLED)
    assert loop.spills == ["vfmadd213ps 0x40(%rsp),%zmm3,%zmm2", "vmovaps %zmm2,0x40(%rsp)"]
    (loop,) = innermost_loops(SPILLED.replace("%rsp", "%rbp").replace("0x40", "-0x40"))
    assert len(loop.spills) == 2
    (loop,) = innermost_loops(SPILLED.replace("%rsp", "%rbp").replace("  40:", "  38:\tadd $0x40,%rbp\n  40:"))
    assert loop.spills == []  # a pointer into an array
    assert innermost_loops("") == []


def test_every_level_with_wide_vectors_is_looked_at():
    assert {level for level in _kernels.levels if level != "baseline"} <= TILES.keys()
