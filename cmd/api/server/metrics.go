package server

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"lessrag/cmd/api/answer"
	"lessrag/decode"
	"lessrag/ingest"
)

// metrics are what /metrics shows: counters fed by every run that ends, and
// gauges read when they are asked for.
type metrics struct {
	registry  *prometheus.Registry
	answers   *prometheus.CounterVec
	tokens    *prometheus.CounterVec
	evicted   prometheus.Counter
	absorbed  prometheus.Counter
	ttft      prometheus.Histogram
	retrieval prometheus.Histogram
	speed     prometheus.Histogram
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lessrag_answers_total", Help: "Answers by how they ended."}, []string{"finish_reason"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lessrag_tokens_total", Help: "Tokens read (prompt) and written (completion)."}, []string{"kind"}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lessrag_evicted_tokens_total", Help: "Tokens that left the caches, a mean over KV heads."}),
		absorbed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lessrag_absorbed_tokens_total", Help: "Of the evicted tokens, those taken into the low-rank state."}),
		ttft: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lessrag_time_to_first_token_seconds", Help: "From the question to the first token.",
			Buckets: prometheus.ExponentialBuckets(0.05, 2, 11)}),
		retrieval: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lessrag_retrieval_seconds", Help: "Embedding the question and searching.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 12)}),
		speed: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lessrag_decode_tokens_per_second", Help: "Tokens per second of one answer while decoding.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10)}),
	}
	m.registry.MustRegister(m.answers, m.tokens, m.evicted, m.absorbed, m.ttft, m.retrieval, m.speed,
		engineGauges{s.Engine}, documentGauges{s},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// answered counts a run that has ended.
func (m *metrics) answered(r answer.Record) {
	m.answers.WithLabelValues(r.FinishReason).Inc()
	m.tokens.WithLabelValues("prompt").Add(float64(r.Usage.PromptTokens))
	m.tokens.WithLabelValues("completion").Add(float64(r.Usage.CompletionTokens))
	m.evicted.Add(float64(r.Memory.EvictedTokens))
	m.absorbed.Add(float64(r.Memory.AbsorbedTokens))
	m.retrieval.Observe(r.Timing.RetrievalMS / 1000)
	if r.Timing.TTFTMS > 0 {
		m.ttft.Observe(r.Timing.TTFTMS / 1000)
	}
	if r.Timing.TokensPerSecond > 0 {
		m.speed.Observe(r.Timing.TokensPerSecond)
	}
}

// engineGauges read the decoder's state.
type engineGauges struct{ engine *decode.Engine }

var (
	runningDesc     = prometheus.NewDesc("lessrag_sequences_running", "Sequences that hold a slot.", nil, nil)
	queuedDesc      = prometheus.NewDesc("lessrag_sequences_queued", "Sequences that wait for a slot.", nil, nil)
	cacheUsedDesc   = prometheus.NewDesc("lessrag_cache_bytes_used", "Cache memory promised to running sequences.", nil, nil)
	cacheKeptDesc   = prometheus.NewDesc("lessrag_cache_bytes_kept", "Cache memory with beginnings of earlier prompts, given up when a sequence needs it.", nil, nil)
	stagingDesc     = prometheus.NewDesc("lessrag_staging_bytes", "Memory in which prompts wait for their question, beside the cache memory.", nil, nil)
	reusedDesc      = prometheus.NewDesc("lessrag_reused_tokens_total", "Prompt tokens that were not read again: an earlier prompt began the same.", nil, nil)
	deskDesc        = prometheus.NewDesc("lessrag_blend_bytes", "Memory in which prompts are put together from passages that were read before, beside the cache memory.", nil, nil)
	blendedDesc     = prometheus.NewDesc("lessrag_blended_tokens_total", "Prompt tokens that came from passages that were read before.", nil, nil)
	recomputedDesc  = prometheus.NewDesc("lessrag_recomputed_tokens_total", "Of the blended tokens, those computed anew, in a layer on average.", nil, nil)
	passagesDesc    = prometheus.NewDesc("lessrag_passage_bytes", "What was computed of passages, by tier.", []string{"tier"}, nil)
	unwrittenDesc   = prometheus.NewDesc("lessrag_passages_unwritten_total", "Passages whose file could not be written: they are kept in memory alone.", nil, nil)
	passageHitsDesc = prometheus.NewDesc("lessrag_passage_lookups_total", "Passages looked up for a prompt, by outcome.", []string{"outcome"}, nil)
	cacheTotalDesc  = prometheus.NewDesc("lessrag_cache_bytes_total", "Cache memory of the decoder.", nil, nil)
	weightBytesDesc = prometheus.NewDesc("lessrag_weight_bytes", "Memory of the model's weights, on all devices.", nil, nil)

	deviceUpDesc      = prometheus.NewDesc("lessrag_device_up", "1 where a device answers, 0 where it was lost.", []string{"device"}, nil)
	deviceRunningDesc = prometheus.NewDesc("lessrag_device_sequences_running", "Sequences that hold a slot on a device.", []string{"device"}, nil)
	deviceUsedDesc    = prometheus.NewDesc("lessrag_device_cache_bytes_used", "Cache memory promised to running sequences on a device.", []string{"device"}, nil)
	deviceKeptDesc    = prometheus.NewDesc("lessrag_device_cache_bytes_kept", "Cache memory with beginnings of earlier prompts on a device.", []string{"device"}, nil)
	deviceTokensDesc  = prometheus.NewDesc("lessrag_device_tokens_total", "Tokens that a device has read (prompt) and written (completion), for whatever purpose.", []string{"device", "kind"}, nil)
)

func (g engineGauges) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(g, ch) }

func (g engineGauges) Collect(ch chan<- prometheus.Metric) {
	stats := g.engine.Stats()
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	gauge(runningDesc, float64(stats.Running))
	gauge(queuedDesc, float64(stats.Queued))
	gauge(cacheUsedDesc, float64(stats.Promised))
	gauge(cacheKeptDesc, float64(stats.Kept))
	gauge(stagingDesc, float64(stats.Staging))
	ch <- prometheus.MustNewConstMetric(reusedDesc, prometheus.CounterValue, float64(stats.Reused))
	gauge(deskDesc, float64(stats.Desk))
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	counter(blendedDesc, stats.Blended)
	counter(recomputedDesc, stats.Recomputed)
	p := stats.Passages
	ch <- prometheus.MustNewConstMetric(passagesDesc, prometheus.GaugeValue, float64(p.MemoryBytes), "memory")
	ch <- prometheus.MustNewConstMetric(passagesDesc, prometheus.GaugeValue, float64(p.DiskBytes), "disk")
	counter(passageHitsDesc, p.Hits-p.DiskHits, "memory")
	counter(passageHitsDesc, p.DiskHits, "disk")
	counter(passageHitsDesc, p.Misses+stats.Unknown, "missed")
	counter(passageHitsDesc, p.Damaged, "damaged")
	counter(unwrittenDesc, stats.Unwritten)
	gauge(cacheTotalDesc, float64(stats.CacheMemory))
	weights := int64(0)
	for _, d := range g.engine.Devices() {
		weights += d.WeightBytes
		collectDevice(ch, d)
	}
	gauge(weightBytesDesc, float64(weights))
}

// collectDevice tells of one device what the metrics before add up.
func collectDevice(ch chan<- prometheus.Metric, d decode.DeviceStats) {
	up := 1.0
	if d.Lost != nil {
		up = 0
	}
	send := func(desc *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, kind, v, append([]string{d.Device}, labels...)...)
	}
	send(deviceUpDesc, prometheus.GaugeValue, up)
	send(deviceRunningDesc, prometheus.GaugeValue, float64(d.Running))
	send(deviceUsedDesc, prometheus.GaugeValue, float64(d.Promised))
	send(deviceKeptDesc, prometheus.GaugeValue, float64(d.Kept))
	send(deviceTokensDesc, prometheus.CounterValue, float64(d.Prompt), "prompt")
	send(deviceTokensDesc, prometheus.CounterValue, float64(d.Tokens), "completion")
}

// documentGauges count the documents by state, in the database.
type documentGauges struct{ s *Server }

var documentsDesc = prometheus.NewDesc("lessrag_documents", "Documents by state.", []string{"state"}, nil)

// states are all of them, so that one without documents is 0 and not absent.
var states = []ingest.State{ingest.Queued, ingest.Extracting, ingest.Chunking, ingest.Embedding, ingest.Ready, ingest.Failed}

func (g documentGauges) Describe(ch chan<- *prometheus.Desc) { ch <- documentsDesc }

func (g documentGauges) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	rows, err := g.s.Pool.Query(ctx, `SELECT state, count(*) FROM documents GROUP BY state`)
	counts := map[ingest.State]float64{}
	if err == nil {
		var state ingest.State
		var n int64
		for rows.Next() {
			if err = rows.Scan(&state, &n); err != nil {
				break
			}
			counts[state] = float64(n)
		}
		rows.Close()
		err = cmp.Or(err, rows.Err())
	}
	if err != nil {
		ch <- prometheus.NewInvalidMetric(documentsDesc, err)
		return
	}
	for _, state := range states {
		ch <- prometheus.MustNewConstMetric(documentsDesc, prometheus.GaugeValue, counts[state], string(state))
	}
}
