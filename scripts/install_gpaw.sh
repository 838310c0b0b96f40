#!/usr/bin/env bash
# GPAW into the environment of a Python, and the Li setup with semicore states:  scripts/install_gpaw.sh .venv/bin/python
set -euo pipefail
VERSION=26.7.0
PYTHON=$(cd "$(dirname "${1:?give the Python of the environment, e.g. .venv/bin/python}")" && pwd)/$(basename "$1")

missing=()
for tool in gcc g++; do command -v $tool >/dev/null || missing+=("$tool"); done
compiles() { echo "#include <$1>" | gcc -E -x c - >/dev/null 2>&1; }
links() { echo 'int main(void) { return 0; }' | gcc -x c - -o /dev/null "-l$1" >/dev/null 2>&1; }
{ compiles xc.h && links xc; } || missing+=(libxc-dev)
links openblas || missing+=(libopenblas-dev)
{ compiles fftw3.h && links fftw3; } || missing+=(libfftw3-dev)
if [ ${#missing[@]} -gt 0 ]; then
    echo "GPAW needs system packages that are not here: ${missing[*]}"
    echo "on Debian or Ubuntu: sudo apt-get install -y --no-install-recommends ${missing[*]}"
    echo "on Fedora: libxc-devel openblas-devel fftw-devel gcc gcc-c++; on macOS: brew install libxc openblas fftw gcc"
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/siteconfig.py" <<'SITE'
mpi = False
compiler = 'gcc'
fftw = True
scalapack = False
libraries = ['xc', 'openblas', 'fftw3']
extra_compile_args += ['-O3', '-fopenmp']
extra_link_args += ['-fopenmp']
SITE
"$PYTHON" -c "import gpaw; raise SystemExit(gpaw.__version__ != '$VERSION')" 2>/dev/null \
    || GPAW_CONFIG="$work/siteconfig.py" "$PYTHON" -m pip install --no-binary gpaw "gpaw==$VERSION"

# the shipped setup of Li has one valence electron: 9 % wrong forces. This one has its 1s electrons in the valence
setups=$("$PYTHON" -c 'import sys; print(sys.prefix)')/share/mlip-gpaw
if [ ! -f "$setups/Li.sc.PBE" ]; then
    (cd "$work" && OMP_NUM_THREADS=1 "$PYTHON" -m gpaw dataset Li -f PBE -e 3 -P 1s,2s,2p,p,d -r 1.5 -w -t sc >dataset.log) \
        || { cat "$work/dataset.log"; exit 1; }
    mkdir -p "$setups"
    mv "$work/Li.sc.PBE" "$setups/"
fi
echo "GPAW $VERSION is ready, setups in $setups:  mlip label in.xyz out.xyz engine=gpaw engine.kpoints=[2,2,2]"
