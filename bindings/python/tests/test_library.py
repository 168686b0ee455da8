"""The package against the header: numbers, layouts, functions."""

import ctypes
import os
import re
import subprocess
import sys
import tempfile
import unittest

import isotherm
from isotherm import _layout, _library, errors
from support import ROOT

HEADER = (ROOT / "include/isotherm.h").read_text()


def defined(prefix):
    found = re.findall(rf"^#define {prefix}(\w+) (-?\d+)$", HEADER, re.MULTILINE)
    return {name: int(number) for name, number in found}


class LibraryTest(unittest.TestCase):
    def test_every_kind_of_error_has_an_exception_of_its_name_and_number(self):
        kinds = defined("ISOTHERM_E_")
        self.assertGreater(len(kinds), 25)
        for name, status in kinds.items():
            wanted = "".join(word.capitalize() for word in name.split("_"))
            error = errors.error_of(status, "text")
            self.assertIs(type(error), getattr(isotherm, wanted))
            self.assertEqual((type(error).status, error.status, str(error)), (status, status, "text"))
            named = _library.library.isotherm_errname(status).decode()
            self.assertEqual(named, f"ISOTHERM_E_{name}")
        self.assertEqual(set(errors._kinds), set(kinds.values()))

    def test_an_unknown_status_is_a_plain_error_with_its_number(self):
        error = errors.error_of(-999, "text")
        self.assertIs(type(error), isotherm.Error)
        self.assertEqual(error.status, -999)

    def test_every_function_of_the_header_but_get_many_is_declared(self):
        in_header = set(re.findall(r"\b(isotherm_\w+)\(", HEADER))
        declared = set(_library._CALLS) | set(_library._OTHERS)
        self.assertEqual(in_header - declared, {"isotherm_get_many"})
        self.assertEqual(declared - in_header, set())

    def test_numbers_are_those_of_the_header(self):
        self.assertEqual(_library.ABI_VERSION, defined("ISOTHERM_ABI_")["VERSION"])
        levels = defined("ISOTHERM_DURABILITY_")
        for name, number in _layout.DURABILITIES.items():
            self.assertEqual(levels[(name or "default").upper()], number)
        for kind in ("CONDITION", "ACTION"):
            for name, number in defined(f"ISOTHERM_{kind}_").items():
                self.assertEqual(getattr(_layout, f"{kind}_{name}"), number)
        self.assertEqual(_layout.WAIT_FOREVER, defined("ISOTHERM_WAIT_")["FOREVER"])

    def test_records_have_the_layout_that_a_c_compiler_gives_them(self):
        lines, wanted = [], []
        for name, record in vars(_layout).items():
            if not (isinstance(record, type) and issubclass(record, ctypes.Structure)):
                continue
            if record is ctypes.Structure:
                continue
            c_name = "isotherm" + re.sub("([A-Z])", r"_\1", name).lower() + "_t"
            lines.append(f'printf("%zu\\n", sizeof({c_name}));')
            wanted.append(ctypes.sizeof(record))
            for field, *_ in record._fields_:
                lines.append(f'printf("%zu\\n", offsetof({c_name}, {field}));')
                wanted.append(getattr(record, field).offset)
        text = '#include <isotherm.h>\n#include <stdio.h>\nint main(void) {\n%s\n}\n'
        with tempfile.TemporaryDirectory() as directory:
            program = os.path.join(directory, "layout")
            command = ["cc", f"-I{ROOT / 'include'}", "-x", "c", "-", "-o", program]
            subprocess.run(command, input=text % "\n".join(lines), text=True, check=True)
            output = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.assertEqual([int(line) for line in output.split()], wanted)

    def test_a_library_that_is_missing_or_another_is_an_import_error_that_says_so(self):
        for path, text in (("/nonexistent/libisotherm.so", "ISOTHERM_LIBRARY"), ("libm.so.6", "has no")):
            environment = {**os.environ, "ISOTHERM_LIBRARY": path}
            command = [sys.executable, "-c", "import isotherm"]
            result = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
            self.assertEqual(result.returncode, 1)
            self.assertIn("ImportError", result.stderr)
            self.assertIn(text, result.stderr)

    def test_the_version_is_known(self):
        self.assertGreaterEqual(isotherm.library_version(), (0, 1, 0))
