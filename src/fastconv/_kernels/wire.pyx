"""The fields of protocol-buffer messages, found by a table.  Compiled once.

A file of many small layers has thousands of fields: in Python they take longer than the weights take to be read.  The
table, the messages' classes and whatever reads a value are those of `fastconv.onnx.proto`, which says what they mean.

The input may be hostile: a field is read only between `position` and `stop`, which are inside the buffer that is held.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.stdint cimport uint8_t, uint64_t

from fastconv.errors import ModelError

cdef enum:
    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5
    MAX_VARINT = 10  # bytes
    MAX_DEPTH = 100  # protobuf's own limit

cdef struct Field:
    uint64_t key, number
    int wire
    Py_ssize_t start, end  # of the value


cdef Py_ssize_t read_varint(const uint8_t* data, Py_ssize_t position, Py_ssize_t stop, uint64_t* number) except -1:
    """The position after the number; of more than 64 bits, the lowest."""
    cdef int shift = 0
    cdef uint8_t byte
    number[0] = 0
    while shift < 7 * MAX_VARINT:
        if position >= stop:
            raise ModelError("a number is cut off at the end of its message")
        byte = data[position]
        number[0] |= <uint64_t> (byte & 127) << shift
        position += 1
        if byte < 128:
            return position
        shift += 7
    raise ModelError(f"a number takes more than {MAX_VARINT} bytes")


def varints(data):
    """The unsigned numbers that the bytes of `data` are, one after the other."""
    cdef Py_buffer view
    cdef Py_ssize_t position = 0
    cdef uint64_t number
    numbers = []
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        while position < view.len:
            position = read_varint(<const uint8_t*> view.buf, position, view.len, &number)
            numbers.append(number)
    finally:
        PyBuffer_Release(&view)
    return numbers


cdef int read_field(
    const uint8_t* data, Py_ssize_t position, Py_ssize_t stop, Py_ssize_t room, Field* field
) except -1:
    """The field at `position`: its value ends within `room` bytes of there, its head before `stop`."""
    field.start = read_varint(data, position, stop, &field.key)
    field.wire = field.key & 7
    field.number = 0
    if field.wire == BYTES or field.wire == VARINT:
        field.end = read_varint(data, field.start, stop, &field.number)
        if field.wire == BYTES:
            field.start = field.end
    elif field.wire == FIXED32:
        field.number = 4
    elif field.wire == FIXED64:
        field.number = 8
    else:
        raise ModelError(
            f"wire type {field.wire} of field {field.key >> 3} is not one that ONNX uses; is this an ONNX model?"
        )
    if field.wire != VARINT:
        room -= field.start - position
        if room < 0 or field.number > <uint64_t> room:
            raise ModelError(f"field {field.key >> 3} needs {field.number} bytes, {room} remain; is it cut off?")
        field.end = field.start + <Py_ssize_t> field.number
    return 0


cdef bint is_ascii(const uint8_t* data, Py_ssize_t start, Py_ssize_t stop):
    cdef Py_ssize_t place
    cdef uint8_t bits = 0
    for place in range(start, stop):
        bits |= data[place]
    return bits < 128


cdef class Decoder:
    """Decodes messages; ModelError, with the path of the field, for bytes that are none.

    Parameters
    ----------
    classes : dict of str to type
        Of messages, by name: `tags` is key → (attribute, what reads its value, whether it repeats), and `numbers` are those
        of all fields.  A reader is the name of a message, or a function of a number or of bytes.
    packed : function
        The reader that takes the bytes of a number as they come, and a part of a file unread.
    text : function
        The reader of UTF-8.
    file_bytes : type
        Of bytes that are still in a file: ``onwards(place, least)`` are those at hand.
    """

    cdef dict classes
    cdef object packed, text, file_bytes

    def __init__(self, dict classes, packed, text, file_bytes):
        self.classes, self.packed, self.text, self.file_bytes = classes, packed, text, file_bytes

    def decode(self, message, data):
        """`message` with the fields in the bytes of `data`."""
        return self.any_bytes(message, data, 0)

    cdef any_bytes(self, message, data, int depth):
        cdef Py_buffer view
        if type(data) is self.file_bytes:
            return self.from_file(message, data, depth)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return self.in_memory(message, data, <const uint8_t*> view.buf, 0, view.len, depth)
        finally:
            PyBuffer_Release(&view)

    cdef in_memory(self, message, data, const uint8_t* memory, Py_ssize_t position, Py_ssize_t stop, int depth):
        """The fields from `position` to `stop` of `data`, which lies in `memory`."""
        cdef Field field
        cdef dict tags = message.tags, values = message.__dict__
        check_depth(depth)
        while position < stop:
            read_field(memory, position, stop, stop - position, &field)
            if field.key in tags:
                self.enter(values, tags[field.key], data, memory, &field, depth)
            else:
                check_unknown(message, &field)
            position = field.end
        return message

    cdef from_file(self, message, data, int depth):
        """The fields of bytes in a file, block by block; what is not in a block with its head is a part of `data`."""
        cdef Py_ssize_t position = 0, size = len(data), before = 0, loaded = 0
        cdef Py_buffer view
        cdef Field field
        cdef bint held = False
        cdef dict tags = message.tags, values = message.__dict__
        check_depth(depth)
        try:
            while position < size:
                if position + 2 * MAX_VARINT > loaded and loaded < size:
                    block, before = data.onwards(position, 2 * MAX_VARINT), position
                    if held:
                        held = False
                        PyBuffer_Release(&view)
                    PyObject_GetBuffer(block, &view, PyBUF_SIMPLE)
                    held = True
                    loaded = before + view.len
                read_field(<const uint8_t*> view.buf, position - before, view.len, size - position, &field)
                position = before + field.end
                if field.key not in tags:
                    check_unknown(message, &field)
                elif position <= loaded:
                    self.enter(values, tags[field.key], block, <const uint8_t*> view.buf, &field, depth)
                else:
                    self.enter(values, tags[field.key], data[before + field.start : position], NULL, &field, depth)
        finally:
            if held:
                PyBuffer_Release(&view)
        return message

    cdef int enter(
        self, dict values, tuple entry, data, const uint8_t* memory, const Field* field, int depth
    ) except -1:
        """Add a field to the values; without `memory`, `data` is its value alone."""
        name, read, repeated = entry
        try:
            if type(read) is str:
                value = self.classes[read]() if repeated or name not in values else values[name]
                if memory == NULL:
                    self.any_bytes(value, data, depth + 1)
                else:
                    self.in_memory(value, data, memory, field.start, field.end, depth + 1)
            elif field.wire == VARINT and read is not self.packed:
                value = read(field.number)
            elif memory != NULL and read is self.text and is_ascii(memory, field.start, field.end):
                value = PyUnicode_DecodeASCII(<const char*> memory + field.start, field.end - field.start, NULL)
            else:
                part = data if memory == NULL else data[field.start : field.end]
                if read is not self.packed and type(part) is self.file_bytes:
                    part = memoryview(part.read())
                value = read(part)
        except ModelError as error:
            place = f"{name}[{len(values.get(name, ()))}]" if repeated else name
            raise error.inside(place) from None
        if not repeated:
            values[name] = value
            return 0
        if name not in values:
            values[name] = []
        if type(value) is list:
            (<list> values[name]).extend(value)
        else:
            (<list> values[name]).append(value)
        return 0


cdef int check_depth(int depth) except -1:
    if depth >= MAX_DEPTH:
        raise ModelError(f"messages nest more than {MAX_DEPTH} deep")
    return 0


cdef int check_unknown(message, const Field* field) except -1:
    """A field that the table does not have is skipped; a known one has its own type."""
    if field.key >> 3 in message.numbers:
        raise ModelError(f"field {field.key >> 3} has wire type {field.wire}, which its type does not allow")
    return 0
