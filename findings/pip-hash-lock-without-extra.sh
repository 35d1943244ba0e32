#!/usr/bin/env bash
# A complete lock file with hashes no longer installs after the next release of one package.
#
# Software: pip 23.2.1 (which `python3 -m venv` installs on Python 3.11.7 and 3.12.1) and 23.3.2,
#   uv 0.8.4.
#
# Expected: every requirement of the list is pinned and has hashes, so an install resolves nothing
#   and is the same today and in a year. It was tried when the list was written.
# Instead: uv writes `coverage==7.10.6` where pytest-cov asks for `coverage[toml]`. pip before
#   23.3 takes the package with the extra for another one that the list does not pin, looks for
#   the newest, and refuses that one for want of a hash. As long as the pinned version is the
#   newest all is well; the next release of coverage breaks every install. `--no-deps` leaves
#   nothing to resolve, and works with all versions.
#
# Seen:
#   uv: 7 packages pinned, coverage without its extra
#   pip 23.2.1            in --require-hashes mode, all requirements must have their versions ...
#   pip 23.2.1 --no-deps  would install
#   pip 23.3.2            would install
#
# Source: pypa/pip issues 9644 and 12345, pytest-dev/pytest-cov issue 612; uv,
#   `--no-strip-extras`.

source "$(dirname "$0")/lib/setup.sh"

python_packages uv==0.8.4
printf 'pytest-cov==7.0.0\npytest==8.4.1\ncoverage[toml]==7.10.6\n' >"$WORK/requirements.in"
"$WORK/python/bin/uv" pip compile -q --generate-hashes --python "$WORK/python/bin/python" \
    --exclude-newer 2025-09-15 "$WORK/requirements.in" -o "$WORK/lock.txt" >/dev/null
pinned=$(grep -c '^[a-z-]*==' "$WORK/lock.txt")
grep -q '^coverage==7.10.6 ' "$WORK/lock.txt" || { echo "changed: uv keeps the extra" >&2; exit 1; }
echo "uv: $pinned packages pinned, coverage without its extra"

# try PIP_VERSION ARGUMENT...: whether an install would work; sets outcome.
try() {
    local version=$1
    shift
    "$WORK/python/bin/python" -m pip install -q --disable-pip-version-check "pip==$version"
    outcome=$("$WORK/python/bin/python" -m pip install --disable-pip-version-check --dry-run \
        --require-hashes -r "$WORK/lock.txt" "$@" 2>&1 |
        grep -oE 'In --require-hashes mode.*|Would install' || true)
    printf 'pip %-17s %s\n' "$version $*" "${outcome,}"
}

try 23.2.1
[[ $outcome == In* ]] || { echo "changed" >&2; exit 1; }
try 23.2.1 --no-deps
[[ $outcome == Would* ]] || { echo "changed" >&2; exit 1; }
try 23.3.2
[[ $outcome == Would* ]] || { echo "changed" >&2; exit 1; }
