#!/usr/bin/env bash
# run.sh [seconds]: libFuzzer over every target, each for so long, from its corpus on.
# With the compiler of the rest: its coverage is stable, and only cargo-fuzz's address
# sanitizer would need nightly, for unsafe code of which there is none. Needs a C++
# compiler, for libFuzzer itself.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
cargo=${CARGO:-cargo}
host=$(rustc -vV | sed -n 's/^host: //p')

flags=(--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module)
for option in level=4 inline-8bit-counters pc-table trace-compares; do
  flags+=("-Cllvm-args=-sanitizer-coverage-$option")
done
# With a target, so that build scripts and macros are left as they are.
RUSTFLAGS="${flags[*]}" $cargo build --quiet --target "$host"
built=$($cargo metadata --format-version 1 --no-deps |
  sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

for target in fuzz_targets/*.rs; do
  name=$(basename "$target" .rs)
  # What it learns stays out of the corpus, and is where it goes on the next time.
  learned=$built/learned/$name
  mkdir -p "$learned" "artifacts/$name"
  echo "fuzzing $name for $seconds s"
  if ! "$built/$host/debug/$name" "$learned" "corpus/$name" -artifact_prefix="artifacts/$name/" \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=8192 \
    -verbosity=0 -print_final_stats=1; then
    echo "$name failed: mend it, and keep the input in crates/streams/fuzz/corpus/$name under a" \
      "name that says what it is; \`make test\` tries it from then on" >&2
    exit 1
  fi
done
