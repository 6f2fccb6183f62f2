#!/bin/bash
# Builds and runs the tests; the last line counts them. CUDA_HOME holds the toolkit.
cd "$(dirname "$0")/.." || exit 1
CUDA_HOME=${CUDA_HOME:-$(dirname "$(dirname "$(command -v nvcc)")")}
export CUDA_HOME
LIBDIR=$CUDA_HOME/lib64
[ -e "$LIBDIR/libcudart.so.13" ] || LIBDIR=$CUDA_HOME/lib
NVCC="$CUDA_HOME/bin/nvcc -I$CUDA_HOME/include -L$LIBDIR -std=c++17 -cudart shared -Xcompiler -w"
B=build/tests
mkdir -p $B
passed=0 failed=0 skipped=0
export PHANTOM_QUIET=1
t() {
  local name=$1
  shift
  if out=$("$@" 2>&1); then
    passed=$((passed + 1))
    echo "ok    $name"
  else
    failed=$((failed + 1))
    echo "FAIL  $name"
    printf '%s\n' "$out" | tail -15
  fi
}
build() { [ "$1" -nt "$2" ] || { shift 2; "$@"; }; }
make -s all >/dev/null || exit 1

build $B/basic tests/basic.cu $NVCC -DEXPECT_ARCH=86 -DHEAVY=24576 -Xfatbin -compress-all -gencode arch=compute_75,code=sm_75 \
  -gencode arch=compute_86,code=sm_86 -gencode arch=compute_90,code=sm_90 tests/basic.cu -o $B/basic
build $B/basic_ptx tests/basic.cu $NVCC -DEXPECT_ARCH=89 -DHEAVY=0 -gencode arch=compute_75,code=compute_75 \
  -gencode arch=compute_90,code=sm_90 tests/basic.cu -o $B/basic_ptx
build $B/basic_ptds tests/basic.cu $NVCC -DEXPECT_ARCH=89 -DHEAVY=24576 -arch=sm_89 --default-stream per-thread tests/basic.cu -o $B/basic_ptds
build $B/vmm tests/vmm.cu $NVCC tests/vmm.cu -o $B/vmm -L"$LIBDIR/stubs" -lcuda
build $B/libs tests/libs.cu $NVCC -DWS='(getenv("PHANTOM_LT_WORKSPACE")?atoll(getenv("PHANTOM_LT_WORKSPACE")):0)' \
  -gencode arch=compute_86,code=sm_86 -gencode arch=compute_90,code=sm_90 tests/libs.cu -o $B/libs -lcublas -lcublasLt
build $B/driver tests/driver.cpp g++ -std=c++17 -I"$CUDA_HOME/include" tests/driver.cpp -o $B/driver -L"$LIBDIR" \
  -L"$LIBDIR/stubs" -lcudart -lcuda -ldl
build $B/libfake.so tests/fakelib.cpp g++ -std=c++17 -fPIC -shared -I"$CUDA_HOME/include" tests/fakelib.cpp -o $B/libfake.so \
  -L"$LIBDIR" -lcudart -lcublas -lcublasLt -lcufft -lcurand -lcusolver -lcusparse -Wl,--disable-new-dtags,-rpath,"$LIBDIR" \
  -Wl,-rpath-link,"$LIBDIR" -Wl,--allow-shlib-undefined

t "every exported symbol of the real libraries, same version node" bash -c '
  for l in libcudart.so.13 libcublas.so.13 libcublasLt.so.13; do
    diff <(nm -D --defined-only '"$LIBDIR"'/$l | awk "{print \$3}" | sort) <(nm -D --defined-only build/lib/$l | awk "{print \$3}" | sort) || exit 1
  done
  comm -23 <(nm -D --defined-only '"$LIBDIR"'/stubs/libcuda.so | awk "{print \$3}" | sort) <(nm -D --defined-only build/lib/libcuda.so.1 | awk "{print \$3}" | sort) | grep . && exit 1
  exit 0'
t "the libraries need only libc" bash -c '
  for f in build/lib/*.so.*; do readelf -d $f | grep NEEDED | grep -vE "libc.so.6|ld-linux|libcuda.so.1|libm.so.6" && exit 1; done; exit 0'
t "no undefined symbols" bash -c 'for f in build/lib/*.so.*; do ldd -r $f 2>&1 | grep -E "undefined|not found" && exit 1; done; exit 0'
t "runtime API, sm_86 image" ./phantom $B/basic
t "runtime API, PTX image" ./phantom $B/basic_ptx
t "runtime API, per-thread default stream" ./phantom $B/basic_ptds
t "by LD_LIBRARY_PATH alone" env LD_LIBRARY_PATH=build/lib $B/basic
t "version nodes found by the loader" bash -c '
  LD_DEBUG=versions ./phantom '$B'/basic 2>&1 | grep -q "checking for version .libcudart.so.13. in file .*build/lib/libcudart.so.13" && \
  ! LD_DEBUG=versions ./phantom '$B'/libs 2>&1 | grep -iE "version .* not found|no version information"'
t "ldd -r of programs" bash -c 'for p in basic libs vmm; do ./phantom ldd -r '$B'/$p 2>&1 | grep -E "undefined|not found" && exit 1; done; exit 0'
t "driver API" ./phantom $B/driver
t "driver API, lazy events" env PHANTOM_EVENTS=lazy ./phantom $B/driver
t "virtual memory management" ./phantom $B/vmm
t "thrust, CUB, cuBLAS, cuBLASLt" ./phantom $B/libs
t "cuBLASLt workspace" env PHANTOM_LT_WORKSPACE=65536 ./phantom $B/libs
t "memory and context sizes" ./phantom python3 tests/sizes.py
t "log and summary" ./phantom bash tests/log.sh $B
t "real libraries beside it" env CUDA_HOME="$CUDA_HOME" ./phantom python3 tests/real_libs.py
t "opened as a wheel opens them" ./phantom python3 tests/preload.py $B/libfake.so "$LIBDIR"
t "hidden device" env CUDA_VISIBLE_DEVICES=-1 ./phantom python3 -c 'import ctypes as C
n = C.c_int(5); e = C.CDLL("libcudart.so.13").cudaGetDeviceCount(C.byref(n)); assert (e, n.value) == (100, 0), (e, n.value)'
t "compilers run with it preloaded" ./phantom $NVCC -c tests/vmm.cu -o $B/vmm.o
t "preloaded into programs that use no GPU" ./phantom bash -c 'ls / >/dev/null && python3 -c "print(1)" && true'
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
