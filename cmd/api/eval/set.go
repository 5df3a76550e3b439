package eval

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"lessrag/cmd/api/answer"
	"lessrag/retrieve"
)

// SetOptions choose what is measured on a set of questions.
type SetOptions struct {
	Collections []string // to search; answers and refusals go by the first
	Modes       []string // ways to search
	Widen       int      // tokens that a place may have
	Caches      []string // as cache or cache@budget; none: the reader is not asked

	// How answers are asked for.
	Limit, ContextTokens, MaxTokens int
	MinSimilarity                   float64
}

// Set is what a set of questions shows.
type Set struct {
	Name      string           `json:"set"`
	Retrieval []RetrievalScore `json:"retrieval"`
	Refusal   []RefusalScore   `json:"refusal,omitempty"`
	Answers   []AnswerScore    `json:"answers,omitempty"`
}

// MeasureSet searches for every question in every way; finds what refuses those that are off the
// topic, if there are any; and lets the reader answer where there are caches.
func MeasureSet(ctx context.Context, searcher *retrieve.Searcher, service *answer.Service, questions, offTopic []retrieve.Expected, o SetOptions, log *Log) (e Set, err error) {
	if e.Retrieval, err = o.retrieval(ctx, searcher, questions, log); err != nil {
		return e, err
	}
	if len(offTopic) > 0 {
		if e.Refusal, err = o.refusals(ctx, searcher, questions, offTopic, log); err != nil {
			return e, err
		}
	}
	if len(o.Caches) > 0 {
		e.Answers, err = o.answers(ctx, service, questions, log)
	}
	return e, err
}

// Print writes one table for retrieval and one for answers.
func (e Set) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "collection\tmode\tquestions\trecall@1\t@5\t@10\tMRR\tnDCG@10\t")
	for _, r := range e.Retrieval {
		fmt.Fprintf(t, "%s\t%s\t%d\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t\n",
			r.Collection, r.Mode, r.Questions, r.Recall1, r.Recall5, r.Recall10, r.MRR, r.NDCG10)
	}
	if len(e.Refusal) > 0 {
		fmt.Fprintln(t, "\n--min-similarity\toff-topic refused\tquestions lost\t")
		for _, r := range e.Refusal {
			fmt.Fprintf(t, "%.3f\t%.0f%%\t%.1f%%\t\n", r.MinSimilarity, 100*r.Refused, 100*r.Lost)
		}
	}
	if len(e.Answers) > 0 {
		fmt.Fprintln(t, "\ncache\tbudget\tquestions\tcontain\tF1\tcited\tprecision\tof quotes\tfirst token\ttokens/s\tMiB held\t")
		for _, a := range e.Answers {
			fmt.Fprintf(t, "%s\t%s\t%d\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.0f ms\t%.1f\t%.1f\t\n", a.Cache, a.Budget, a.Questions,
				a.Match, a.TokenF1, a.Cited, a.CitationPrecision, a.QuotePrecision, a.TTFTMS, a.TokensPerSecond, a.HeldBytes/(1<<20))
		}
	}
	return t.Flush()
}
