package eval

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"lessrag/cmd/api/answer"
	"lessrag/cmd/api/progress"
	"lessrag/retrieve"
)

// AnswerScore is one cache over all questions that have answers.
type AnswerScore struct {
	Cache             string  `json:"cache"`
	Budget            string  `json:"budget"`
	Questions         int     `json:"questions"`
	Refused           int     `json:"refused"`            // no passage was relevant
	Match             float64 `json:"contains_match"`     // share whose answer contains an expected text
	TokenF1           float64 `json:"token_f1"`           // mean
	Cited             float64 `json:"cited"`              // share with a sentence that a passage backs
	CitationPrecision float64 `json:"citation_precision"` // of the citations, quotes for want of others included, those whose passage contains an expected text
	QuotePrecision    float64 `json:"quote_precision"`    // those whose quoted sentence does
	TTFTMS            float64 `json:"ttft_ms"`            // medians from here on
	TokensPerSecond   float64 `json:"tokens_per_second"`
	PromptTokens      float64 `json:"prompt_tokens"`
	HeldBytes         float64 `json:"held_bytes"`
	BudgetBytes       float64 `json:"budget_bytes"`
}

// Reply is what is kept of one answer.
type Reply struct {
	Answer    string        `json:"answer"`
	Refused   bool          `json:"refused"`
	Match     bool          `json:"match"`
	F1        float64       `json:"f1"`
	Citations int           `json:"citations"`
	Extracted bool          `json:"extracted"` // its only citation quotes what fits the question best
	Right     int           `json:"right"`     // citations whose passage contains an expected text
	Quoted    int           `json:"quoted"`    // citations whose quote does
	Report    answer.Report `json:"report"`
	Prompt    []int32       `json:"prompt,omitempty"` // token ids, of the first cache alone: all read the same
}

// answers lets the reader answer every question that has expected answers,
// with all caches over the same prompt.
func (o SetOptions) answers(ctx context.Context, service *answer.Service, questions []retrieve.Expected, log *Log) ([]AnswerScore, error) {
	questions = slices.DeleteFunc(slices.Clone(questions), func(q retrieve.Expected) bool { return len(q.Answers) == 0 })
	if len(questions) == 0 {
		return nil, &InvalidError{"--caches", "needs questions with \"answers\""}
	}
	var readings []answer.Reading
	for _, text := range o.Caches {
		readings = append(readings, ReadingOf(text))
	}
	replies := make([][]Reply, len(readings))
	shown := progress.New(os.Stderr, "answering", len(questions))
	for i, q := range questions {
		// One measurement for all caches: what is compared read the same prompt.
		key := Key{Question: q.Question, Source: q.Source, Section: q.Section, Collection: o.Collections[0], Cache: fmt.Sprint(o.Caches),
			Prompt: fmt.Sprintf("limit %d, context %d, answer %d", o.Limit, o.ContextTokens, o.MaxTokens)}
		all, err := Remembered(log, key, func() ([]Reply, error) { return o.ask(ctx, service, q, readings) })
		if err != nil {
			return nil, fmt.Errorf("question %d: %w", i+1, err)
		}
		for r := range readings {
			replies[r] = append(replies[r], all[r])
		}
		shown.Show(i + 1)
	}
	shown.Finish()
	var scores []AnswerScore
	for r, reading := range readings {
		scores = append(scores, scoreReplies(reading, replies[r]))
	}
	return scores, nil
}

// ask compares one question's answers.
func (o SetOptions) ask(ctx context.Context, service *answer.Service, q retrieve.Expected, readings []answer.Reading) ([]Reply, error) {
	comparison, err := service.Compare(ctx, answer.Question{Text: q.Question, Collection: o.Collections[0]}, readings, nil)
	if err != nil {
		return nil, err
	}
	byID := map[int64]string{}
	for _, p := range comparison.Passages {
		byID[p.ID] = p.Text
	}
	var all []Reply
	for _, column := range comparison.Columns {
		if column.Error != nil {
			return nil, fmt.Errorf("cache %s: %s", column.Memory.Cache, column.Error.Message)
		}
		r := Reply{Answer: column.Answer, Refused: column.FinishReason == answer.FinishRefused, Report: column.Report, Citations: len(column.Citations)}
		if !r.Refused {
			r.Match, r.F1 = retrieve.ContainsMatch(column.Answer, q.Answers), retrieve.TokenF1(column.Answer, q.Answers)
		}
		for _, cite := range column.Citations {
			r.Extracted = cite.Origin == retrieve.Extracted
			if retrieve.ContainsMatch(cite.Quote, q.Answers) {
				r.Quoted++
			}
			if retrieve.ContainsMatch(byID[cite.PassageID], q.Answers) {
				r.Right++
			}
		}
		if len(all) == 0 {
			r.Prompt = comparison.Prompt
		}
		all = append(all, r)
	}
	return all, nil
}

// scoreReplies is pure arithmetic. A share of nothing is 0.
func scoreReplies(reading answer.Reading, replies []Reply) AnswerScore {
	score := AnswerScore{Cache: reading.Cache, Budget: reading.Budget, Questions: len(replies)}
	var cited, citations, right, quoted int
	var ttft, rate, prompt, held, budget []float64
	for _, r := range replies {
		if r.Refused {
			score.Refused++
			continue
		}
		if r.Match {
			score.Match++
		}
		score.TokenF1 += r.F1
		if r.Citations > 0 && !r.Extracted {
			cited++
		}
		citations += r.Citations
		right += r.Right
		quoted += r.Quoted
		ttft, rate = append(ttft, r.Report.Timing.TTFTMS), append(rate, r.Report.Timing.TokensPerSecond)
		prompt, held = append(prompt, float64(r.Report.Usage.PromptTokens)), append(held, float64(r.Report.Memory.HeldBytes))
		budget = append(budget, float64(r.Report.Memory.BudgetBytes))
	}
	share := func(x float64, of int) float64 { return x / float64(max(of, 1)) }
	score.Match, score.TokenF1 = share(score.Match, len(replies)), share(score.TokenF1, len(replies))
	score.Cited, score.CitationPrecision = share(float64(cited), len(replies)), share(float64(right), citations)
	score.QuotePrecision = share(float64(quoted), citations)
	score.TTFTMS, score.TokensPerSecond, score.PromptTokens = median(ttft), median(rate), median(prompt)
	score.HeldBytes, score.BudgetBytes = median(held), median(budget)
	return score
}

// ReadingOf splits cache@budget.
func ReadingOf(text string) answer.Reading {
	name, budget, _ := strings.Cut(text, "@")
	return answer.Reading{Cache: name, Budget: budget}
}
