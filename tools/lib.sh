# Sourced by tools/run, tools/test and .ci/run: gets from a bare system to a built tree. Silent where there is nothing to
# do; says what it installs before it does. Debian 12 and Ubuntu 24.04, as root or with sudo.

# What building and testing needs, as Debian calls it.
packages="g++ cmake ninja-build ccache libboost-graph-dev coinor-libcbc-dev libeigen3-dev libyaml-cpp-dev libgtest-dev libgmock-dev
  libbenchmark-dev libcli11-dev libfmt-dev nlohmann-json3-dev zlib1g-dev python3 python3-venv"

say() { printf '%s\n' "$*" >&2; }

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    sudo "$@"
  else
    say "error: installing packages needs root or sudo: $*"
    exit 3
  fi
}

# install_packages NAME…: those that are missing, with one line of what and why. DEBIAN_FRONTEND keeps apt from asking.
install_packages() {
  missing=""
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null 2>&1 || { say "error: no apt-get here; install these by hand:$missing"; exit 3; }
  say "installing with apt-get:$missing"
  # shellcheck disable=SC2086
  as_root env DEBIAN_FRONTEND=noninteractive sh -c '
    apt-get update -qq && apt-get install -qq -y --no-install-recommends "$@" >/dev/null' install $missing >&2 ||
    { say "error: apt-get failed; see above"; exit 3; }
}

# build_preset NAME TARGET [CMAKE OPTIONS…]: configures where that is due and builds; what the compiler says goes to stderr.
build_preset() {
  preset=$1
  target=$2
  shift 2
  launcher=""
  command -v ccache >/dev/null 2>&1 && launcher="-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"
  if [ ! -f "build/$preset/build.ninja" ] || [ $# -gt 0 ]; then
    say "configuring build/$preset"
    cmake --preset "$preset" $launcher "$@" >"build/$preset.configure.log" 2>&1 || {
      cat "build/$preset.configure.log" >&2
      exit 2
    }
    grep -i 'cuda' "build/$preset.configure.log" >&2 || true
  fi
  say "building build/$preset"
  cmake --build --preset "$preset" --target "$target" >"build/$preset.build.log" 2>&1 || {
    grep -vE '^\[[0-9]+/[0-9]+\] (Building|Linking)' "build/$preset.build.log" >&2
    exit 2
  }
}

# True where NAME, a built file, is older than some file that the build reads. Finding out costs milliseconds.
is_stale() {
  [ ! -x "$1" ] || [ -n "$(find CMakeLists.txt CMakePresets.json cmake graph passes sim kernels tools configs/devices \
    -newer "$1" \( -type f -o -type d \) -print -quit 2>/dev/null)" ]
}
