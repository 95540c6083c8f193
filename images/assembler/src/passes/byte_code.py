# Compiles each module named on standard input, a path of the image, below the directory that is the first argument.
import py_compile
import sys

UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH

for line in sys.stdin:
    path = line.rstrip("\n")
    py_compile.compile(sys.argv[1] + path, dfile=path, doraise=True, invalidation_mode=UNCHECKED)
