// Reading tapes: lines per second and bytes per second, plain and gzip-compressed, whole and streamed.
#include <benchmark/benchmark.h>
#include <zlib.h>

#include <string>

#include "sim/replay.h"
#include "sim/tape_io.h"
#include "tests/support/tapes.h"

namespace tidemark {
namespace {

std::string Text() { return TapeText(TrainingTape({.events = 1'000'000, .seed = 1})); }

std::string Gzip(const std::string& text) {
  std::string out(compressBound(text.size()) + 64, '\0');
  z_stream z{};
  deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

void Count(benchmark::State& state, size_t text_bytes) {
  state.SetItemsProcessed(state.iterations() * 1'000'000);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text_bytes));
}

void ParseWholeTape(benchmark::State& state, bool gzip) {
  const std::string text = Text();
  const std::string input = gzip ? Gzip(text) : text;
  for (auto _ : state) {
    const Result<Tape> tape = ParseTape("bench", input);
    if (!tape.ok()) state.SkipWithError(tape.error().message.c_str());
    benchmark::DoNotOptimize(tape);
  }
  Count(state, text.size());
}
BENCHMARK_CAPTURE(ParseWholeTape, plain, false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(ParseWholeTape, gzip, true)->Unit(benchmark::kMillisecond);

void ReadLines(benchmark::State& state) {
  const std::string text = Text();
  for (auto _ : state) {
    TapeReader reader = TapeReader::FromBuffer("bench", text);
    TapeLine line;
    for (;;) {
      const Result<bool> more = reader.Next(&line);
      if (!more.ok() || !*more) break;
    }
    benchmark::DoNotOptimize(line);
  }
  Count(state, text.size());
}
BENCHMARK(ReadLines)->Unit(benchmark::kMillisecond);

void ReplayStreamed(benchmark::State& state, bool gzip) {
  const std::string text = Text();
  const std::string input = gzip ? Gzip(text) : text;
  for (auto _ : state) {
    TapeReader reader = TapeReader::FromBuffer("bench", input);
    const Result<Replay> replay = RunReplay(reader, {});
    if (!replay.ok()) state.SkipWithError(replay.error().message.c_str());
    benchmark::DoNotOptimize(replay);
  }
  Count(state, text.size());
}
BENCHMARK_CAPTURE(ReplayStreamed, plain, false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(ReplayStreamed, gzip, true)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tidemark
