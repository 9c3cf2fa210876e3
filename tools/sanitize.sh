#!/usr/bin/env bash
# Build the extensions with AddressSanitizer and UndefinedBehaviorSanitizer, apart from the usual ones, and run the
# tests of what is compiled with them; then tests of the driver under valgrind, with the usual ones.
#
# Run by `make sanitize`. Arguments are passed on to pytest and replace the tests that the sanitizers try; valgrind is
# then left out: make sanitize ARGS="tests/codec -k round".
# Tokyo Cabinet is linked as it is, not compiled anew: the sanitizers see what it allocates and what is handed to it,
# valgrind sees each of its reads and writes.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(realpath -s "${PY:-.venv/bin/python}")
root=$PWD
tree=$root/build/sanitized
reports=$root/build/sanitizer-reports
rm -rf "$reports"
mkdir -p "$tree/build" "$reports"

say() { echo "sanitize: $*"; }

copy_sources() {  # what git knows; what was compiled before stays
    find "$tree" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
    git ls-files -z --cached | xargs -0 ls -d 2>/dev/null | tar -T - -cf - | tar -xf - -C "$tree"
}

compile() {
    local compiler=gcc log=$tree/build/log
    if command -v ccache >/dev/null; then compiler="ccache gcc"; fi
    # A compiler of our own, as its options come last and win. More than -O1 takes gcc very long.
    cat >"$tree/build/cc" <<END
#!/bin/sh
exec $compiler "\$@" -O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined -w
END
    chmod +x "$tree/build/cc"
    (cd "$tree" && CC=$tree/build/cc "$python" setup.py -q build_ext --inplace --parallel 2) >"$log" 2>&1 || {
        tail -50 "$log" >&2
        exit 1
    }
}

judge() {  # by the exit status of pytest, and by what was reported of this process or any that it started
    local found
    found=$(find "$reports" -type f -size +0 | wc -l)
    if [ "$found" != 0 ]; then
        head -n 60 "$reports"/* >&2
        say "reports about $found processes are in $reports" >&2
        exit 1
    fi
    if [ "$1" != 0 ]; then exit "$1"; fi
    say "no report"
}

sanitizers() {
    say "building in $tree"
    copy_sources
    compile
    say "AddressSanitizer and UndefinedBehaviorSanitizer: $*"
    # Left out is what limits the addresses of a process, of which the sanitizer reserves terabytes, and what asks malloc
    # how much it gave out, as the sanitizer's does not tell. What may be allocated at once is a limit of its own, below what
    # one test has at hand to be refused.
    local status=0
    (cd "$tree" && PYTHONPATH=$tree PYTHONMALLOC=malloc \
        LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
        ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=1024:log_path=$reports/asan" \
        UBSAN_OPTIONS="print_stacktrace=1:log_path=$reports/ubsan" \
        "$python" -m pytest -q -p no:cacheprovider -n "${WORKERS:-2}" "$@" \
        --ignore tests/driver/test_memory.py --ignore tests/engine/test_no_thread.py \
        --deselect tests/driver/test_limits.py::test_memory_that_is_not_there \
        --deselect tests/driver/test_limits.py::test_sizes_beyond_what_the_library_counts) || status=$?
    judge $status
}

under_valgrind() {  # the Python allocator, options for valgrind, and --, before what pytest gets
    local status=0 allocator=$1 options=()
    shift
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    say "valgrind with $allocator: $*"
    PYTHONPATH=$root PYTHONMALLOC=$allocator \
        valgrind -q --suppressions=tools/valgrind.supp --log-file="$reports/valgrind.%p" "${options[@]}" \
        "$python" -m pytest -q -p no:cacheprovider -p no:xdist "$@" || status=$?
    judge $status
}

if [ $# -ne 0 ]; then
    sanitizers "$@"
    exit
fi
sanitizers tests/driver tests/codec tests/formats tests/journal tests/engine
if ! command -v valgrind >/dev/null; then
    say "valgrind is not installed"
    exit
fi
# It is forty times slower: what calls the library in one process, without a child whose end would be looked through for
# leaks. Twice, as CPython looks at the digit of an int that has none, and all that it computes from there would be called
# undefined where each of its objects is a block of malloc.
tests=(
    tests/driver/test_{mapping,changes,indexes,queries,rows,functions,codec,transactions}.py
    --deselect tests/driver/test_codec.py::test_a_function_may_fork
)
under_valgrind malloc --undef-value-errors=no \
    --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite -- "${tests[@]}"
under_valgrind pymalloc --leak-check=no -- "${tests[@]}"
