"""The reader of pickles runs nothing, whatever a file says, and each refusal says why."""

import contextlib
import io
import os
import pickle
import subprocess
import sys
import time
from argparse import Namespace
from collections import OrderedDict

import numpy as np
import pytest
import weight_bytes as wb

from fastconv.errors import WeightsError
from fastconv.weights import load, load_state_dict
from fastconv.weights.pickles import read_pickle


def read(*operations):
    return read_pickle(io.BytesIO(wb.pickled(*operations)), None)


class Harmful:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def harmful_values(marker):
    touch = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": Harmful(os.system, (touch,)),
        "subprocess": Harmful(subprocess.getoutput, (touch,)),
        "eval": Harmful(eval, (code,)),
        "exec": Harmful(exec, (code,)),
        "open": Harmful(open, (str(marker), "w")),
        "getattr": Harmful(getattr, (dict, "fromkeys")),
        "import": Harmful(__import__, ("os",)),
        "numpy": Harmful(np.save, (str(marker), 1)),
        "object": Harmful(object, ()),
        "state": Harmful(list, (), {"append": 1}),
        "items": Harmful(OrderedDict, (), None, None, iter([("a", Harmful(os.system, (touch,)))])),
    }


@pytest.mark.parametrize("name", harmful_values(""))
@pytest.mark.parametrize("protocol", range(6))
def test_nothing_that_a_pickle_names_is_run(name, protocol, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "weights.pth"
    value = {"weight": harmful_values(marker)[name]}
    path.write_bytes(wb.archive(pickle.dumps(value, protocol)))
    with pytest.raises(WeightsError, match=r"it names|uses the operation|gives attributes"):
        load_state_dict(path)
    assert not marker.exists()


def test_the_refusal_names_the_function_and_the_file(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(wb.archive(wb.pickled(b"cos\nsystem\n", wb.text("true"), b"\x85R")))
    with pytest.raises(WeightsError, match=r"weights\.pt: it names os\.system, and .* no code.*; nothing was loaded"):
        load(path)


@pytest.mark.parametrize(
    ("operations", "message"),
    {
        "an instance of a class": ((b"(ios\nsystem\n",), "the operation INST"),
        "a class and its arguments": ((b"(cos\nsystem\no",), "names os.system"),
        "an extension": ((b"\x82\x01",), "the operation EXT1"),
        "a copy of the top": ((b"]2",), "the operation DUP"),
        "a set": ((b"\x8f",), "the operation EMPTY_SET"),
        "a call of data": ((wb.text("os.system"), b")R"), "has 'os.system', expected a call"),
        "arguments that are no tuple": ((b"ccollections\nOrderedDict\n]R",), "has [(][)], expected a tuple"),
        "too many arguments": ((b"ctorch._utils\n_rebuild_tensor_v2\n", wb.integers([1]), b"R"), "of wrong parts"),
        "a dictionary of no list": ((b"ccollections\nOrderedDict\n", wb.integer(3), b"\x85R"), "a dictionary from 3"),
        "a dictionary of no pairs": ((b"ccollections\nOrderedDict\n](NeR",), "list|tuple"),
        "a tensor of no storage": ((wb.tensor(wb.integer(7)),), "made from 7, no storage"),
        "a parameter of no tensor": (
            (b"ctorch._utils\n_rebuild_parameter\n", wb.integers([1, 2]), b"R"),
            "made from 1",
        ),
        "a tensor made by another call": (
            (b"ctorch._tensor\n_rebuild_from_type_v2\n(ccollections\nOrderedDict\nN)NtR",),
            "a tensor in it is made by",
        ),
        "a reference of another kind": ((wb.text("module"), b"\x85Q"), "refers to [(]'module'[)], no storage"),
        "a reference by name": ((b"Pmodule\n",), "the operation PERSID"),
        "attributes of a list": ((b"]}b",), "gives attributes to [(][)]"),
        "attributes of a tensor": ((b")}b",), "gives attributes to [(][)]"),
        "versions that are none": ((wb.ORDERED_DICT, b"}", wb.text("_metadata"), b"]sb"), "versions of its modules"),
        "a key that is a list": ((b"}]Ns",), "[(][)] as a key"),
        "a key that is a tuple": ((b"}N\x85Ns",), "[(]NoneType[)] as a key"),
        "a key without a value": ((b"}(NNNu",), "key without a value"),
        "a value that is not there": ((b"\x86",), "a value that is not there"),
        "a memory that is empty": ((b"h\x07",), "a value that is not there"),
        "a mark that is not there": ((wb.integer(1), b"t"), "no mark"),
        "a mark as a value": ((b"(\x85",), "takes a mark for a value"),
        "an entry of no list": ((b"}Na",), "no list"),
        "an entry of no dictionary": ((b"]NNs",), "no dict"),
        "text that is not UTF-8": ((b"X\1\0\0\0\xff",), "is broken"),
        "text longer than the file": ((b"X\xff\xff\xff\xff",), "is broken"),
        "text much longer than the file": ((b"\x8d" + b"\xff" * 7 + b"\x7f",), "is broken"),
        "an unknown operation": ((b"\xff",), "is broken"),
        "no end": ((b"]" + wb.text(".")[:-1],), "is broken"),
        "an element type unknown to NumPy": ((b"ctorch\nqint8\n",), "torch.qint8 has no equal in NumPy"),
        "a storage unknown to NumPy": ((b"ctorch\nQInt8Storage\n",), "torch.QInt8Storage has no equal"),
        "a type of no numbers": ((b"cnumpy\ndtype\n", wb.text("O8"), b"\x85R"), "'O8' in it is no type of numbers"),
        "a number of no type": ((b"cnumpy.core.multiarray\nscalar\n", wb.integers([1, 2]), b"R"), "made from 1 and 2"),
        "a size of many axes": ((b"ctorch\nSize\n", wb.integers(range(99)), b"\x85R"), "a size in it is"),
    }.values(),
    ids=str,
)
def test_broken_pickles(operations, message):
    with pytest.raises(WeightsError, match=message):
        read(*operations)


@pytest.mark.parametrize(
    "operations",
    [
        (b"N", b"\x85" * 300_000),
        (b"]" * 300_000,),
        (b"(" * 300_000,),
        (b"Nr\xff\xff\xff\xff",),
        (b"]q\0", b"h\0h\0\x86q\0" * 60),
        (b"](", wb.integer(3) * 10_000, b"eq\0", b"ccollections\nOrderedDict\nh\0\x85R" * 5_000),
        (b"\x8b\xff\xff\xff\x7f",),
    ],
    ids=["deep", "wide", "marks", "memo", "doubling", "copies", "number"],
)
def test_a_small_pickle_takes_little_time_and_memory(operations):
    start = time.perf_counter()
    with contextlib.suppress(WeightsError):
        read(*operations)
    assert time.perf_counter() - start < 10


def test_items_of_a_dictionary_are_not_copied_again_and_again():
    pairs = b"](" + b"".join(wb.text(f"k{i}") + b"N\x86" for i in range(1000)) + b"eq\0"
    call = b"ccollections\nOrderedDict\nh\0\x85R"
    first, *others = read(pairs, b"](", call * 50, b"e")
    assert len(first) == 1000
    assert not any(others)


def test_a_refusal_shows_no_value_that_would_fill_the_screen():
    doubled = b"]q\0" + b"h\0h\0\x86q\0" * 80
    with pytest.raises(WeightsError) as caught:
        read(b"}", doubled, b"Ns")
    assert len(str(caught.value)) < 200
    huge = b"\x8b" + (5000).to_bytes(4, "little") + b"\x7f" * 5000
    with pytest.raises(WeightsError, match="a huge number as a key"):
        read(b"}", huge, b"Ns")


def test_reading_leaves_the_position_behind_the_pickle():
    file = io.BytesIO(wb.pickled(wb.integer(5)) + b"rest")
    assert read_pickle(file, None) == 5
    assert file.read() == b"rest"


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_is_read_as_pickle_reads_it(protocol):
    data = {"epoch": 3, "rate": 0.5, "name": "é", "flags": [True, False, None], "sizes": (1, (2, 3, 4, 5)), 7: -(2**70)}
    data["metrics"] = OrderedDict([("a", [1, 2]), ("b", {})])
    assert read_pickle(io.BytesIO(pickle.dumps(data, protocol)), None) == data


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("number", [np.float64(0.1), np.float32(2.5), np.int64(-7), np.uint8(200), np.bool_(True)])
def test_numbers_of_numpy_are_read_as_those_of_python(protocol, number):
    read_back = read_pickle(io.BytesIO(pickle.dumps(number, protocol)), None)
    assert read_back == number.item()
    assert type(read_back) is type(number.item())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arguments_of_a_program_are_read_as_a_dictionary(protocol):
    arguments = Namespace(lr=0.1, layers=[1, 2])
    assert read_pickle(io.BytesIO(pickle.dumps(arguments, protocol)), None) == vars(arguments)


def test_a_dictionary_that_holds_itself():
    (inner,) = (outer := read(b"}q\0", wb.text("self"), b"h\0s")).values()
    assert inner is outer


def test_reading_imports_nothing():
    code = f"""
import sys, io, fastconv.weights.pickles as pickles
before = set(sys.modules)
try:
    pickles.read_pickle(io.BytesIO({wb.pickled(b"cantigravity" + bytes([10]) + b"fly" + bytes([10]))!r}), None)
except ValueError:
    pass
print(sorted(set(sys.modules) - before))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
