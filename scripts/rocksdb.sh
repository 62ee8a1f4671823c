#!/usr/bin/env bash
# Compiles the RocksDB sources of the pinned rust-librocksdb-sys crate into a static library,
# once per machine, as unity units (a third of the crate's own build time).
#
#   scripts/rocksdb.sh        builds what is missing, prints the folder that holds librocksdb.a
#
# The folder is keyed by crate version, compiler and flags, so a stale library is never linked.
# Without this script the crate compiles RocksDB itself: same result, far slower.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cache=${CONDUIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conduit}
cargo fetch --manifest-path "$root/Cargo.toml" >&2

metadata=$(cargo metadata --format-version 1 --manifest-path "$root/Cargo.toml")
crate_dir() { # NAME: the unpacked source folder of a locked dependency
  local manifest
  manifest=$(grep -oE "\"manifest_path\":\"[^\"]*/$1-[0-9][^\"/]*/Cargo\.toml\"" <<<"$metadata" | head -1 | cut -d'"' -f4)
  [ -n "$manifest" ] || { echo "scripts/rocksdb.sh: no source of $1" >&2; return 1; }
  dirname "$manifest"
}
sys_crate=$(crate_dir rust-librocksdb-sys)
lz4=$(crate_dir lz4-sys)/liblz4/lib
zstd=$(crate_dir zstd-sys)/zstd/lib
cxx=${ROCKSDB_CXX:-g++}
simd=(); [ "$(uname -m)" = x86_64 ] && simd=(-msse4.2 -mpclmul)
flags=(-std=c++20 -O3 -fPIC -fno-rtti -fno-builtin-memcmp -w -include cstdint "${simd[@]}"
  -DNDEBUG=1 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION -DLZ4=1 -DZSTD=1
  -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DOS_LINUX -DROCKSDB_PTHREAD_ADAPTIVE_MUTEX
  -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_SCHED_GETCPU_PRESENT -DROCKSDB_RANGESYNC_PRESENT
  -DROCKSDB_FALLOCATE_PRESENT)
key=$(printf '%s\n' "$(basename "$sys_crate")" "$("$cxx" --version | head -1)" "${flags[@]}" | sha256sum | cut -c1-16)
out=$cache/rocksdb/$key
mkdir -p "$(dirname "$out")"
exec 9> "$out.lock"
flock 9 # one build a machine: whoever comes second finds it made
if [ ! -f "$out/librocksdb.a" ]; then
  work=$out.building # objects of an interrupted build are used again
  mkdir -p "$work"
  cd "$sys_crate"
  rm -f "$work"/*.cc
  unit=0 count=0
  while read -r source; do
    [ $((count % 14)) -eq 0 ] && unit=$((unit + 1))
    count=$((count + 1))
    # Made by RocksDB's own build system; the crate brings its own build_version.cc.
    [ "$source" = util/build_version.cc ] && continue
    echo "#include \"$sys_crate/rocksdb/$source\"" >> "$work/unit$unit.cc"
  done < <(tr ' ' '\n' < rocksdb_lib_sources.txt | grep '\.cc$')
  echo "#include \"$sys_crate/build_version.cc\"" > "$work/version.cc"
  total=$(ls "$work"/*.cc | wc -l)
  echo "Compiling RocksDB ($count files in $total units): some minutes, once per machine" >&2
  launcher=(); command -v ccache >/dev/null && launcher=(ccache)
  export work total
  ls -S "$work"/*.cc | xargs -P "$(nproc)" -I{} bash -c '
    [ -f {}.o ] || { "$@" -c {} -o {}.o.part && mv {}.o.part {}.o &&
      echo "  RocksDB: $(ls "$work"/*.o | wc -l) of $total units" >&2; }' _ \
    "${launcher[@]}" "$cxx" "${flags[@]}" -I"$sys_crate/rocksdb/include" -I"$sys_crate/rocksdb" \
    -I"$sys_crate/rocksdb/third-party/gtest-1.8.1/fused-src" -I"$sys_crate" -I"$lz4" -I"$zstd"
  ar crs "$work/librocksdb.a" "$work"/*.o
  rm -f "$work"/*.cc "$work"/*.o
  rm -rf "$out"; mv "$work" "$out"
fi
ln -sfn "$sys_crate/rocksdb/include" "$out/include"
echo "$out"
