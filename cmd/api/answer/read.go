package answer

import (
	"errors"
	"strings"
	"time"

	"lessrag/decode"
	"lessrag/retrieve"
)

// quoter finds what can be cited of the passages when none backs the answer.
type quoter func(answer string) (retrieve.Citation, bool)

// read passes the reader's text through the check of citations and reports
// what it took. A reader that begins to repeat itself is stopped. An answer
// that no passage backs ends with a quote.
func read(r *Run, chunks <-chan decode.Chunk, stop func(), passages []retrieve.Passage, quote quoter, report Report, start time.Time) (string, error) {
	citer := retrieve.NewCiter(passages)
	var again repetition
	looped := false
	show := func(text string, cites []retrieve.Citation) {
		if text != "" {
			r.emit(EventDelta, Delta{text})
		}
		for _, c := range cites {
			r.emit(EventCitation, c)
		}
	}
	for chunk := range chunks {
		if chunk.Text != "" && !looped {
			if report.Timing.TTFTMS == 0 {
				report.Timing.TTFTMS = ms(time.Since(start))
			}
			var text string
			if text, looped = again.push(storable(chunk.Text)); looped {
				stop()
			}
			show(citer.Push(text))
		}
		if chunk.Err == nil && chunk.Result == nil {
			continue
		}
		if !looped {
			show(citer.Push(again.flush()))
		}
		show(citer.Flush())
		if chunk.Err != nil {
			return "", chunk.Err
		}
		if record := r.Record(); len(record.Citations) == 0 && (chunk.Result == nil || chunk.Result.FinishReason != decode.FinishCancelled || looped) {
			if c, ok := quote(record.Answer); ok {
				r.emit(EventCitation, c)
			}
		}
		report.add(*chunk.Result)
		r.emit(EventUsage, report)
		if looped {
			return FinishStop, nil // it had said all that it had to say
		}
		return chunk.Result.FinishReason, nil
	}
	return "", errors.New("the decoder ended without a result")
}

// storable replaces what Postgres cannot keep in a text, byte for byte where
// it can, so that offsets hold.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", " ")
}

// add takes the engine's account into the report.
func (r *Report) add(result decode.Result) {
	r.Usage = Usage{PromptTokens: result.PromptTokens, ReusedTokens: result.ReusedTokens, RecomputedTokens: result.RecomputedTokens, CompletionTokens: result.CompletionTokens}
	r.Timing.QueueMS, r.Timing.PrefillMS, r.Timing.DecodeMS = ms(result.Queue), ms(result.Prefill), ms(result.Decode)
	if n := result.CompletionTokens - 1; n > 0 && result.Decode > 0 { // the first token came from the prompt
		r.Timing.TokensPerSecond = float64(n) / result.Decode.Seconds()
	}
	m := result.Memory
	r.Memory = Memory{
		Cache: m.Cache, BudgetBytes: m.BudgetBytes, HeldBytes: m.HeldBytes, FullCacheBytes: m.FullCacheBytes,
		KeptTokens: m.KeptTokens, AbsorbedTokens: m.AbsorbedTokens, EvictedTokens: m.EvictedTokens, StateNote: m.StateNote,
		DroppedPassages: r.Memory.DroppedPassages,
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
