#!/bin/sh
# The image's kernels are read-only; numba takes a cache only where it may write. So it gets a folder of links to them.
set -eu
if [ ! -d "$NUMBA_CACHE_DIR" ]; then
  cp -rs /opt/lapwing/kernels "$NUMBA_CACHE_DIR" || {
    echo "lapwing: $NUMBA_CACHE_DIR must be writable: run with --tmpfs /tmp" >&2
    exit 1
  }
fi
exec "$@"
