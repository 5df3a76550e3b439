package cache

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
)

// ErrSaved is wrapped by every refusal of a saved sequence.
var ErrSaved = errors.New("saved sequence")

// savedMagic begins a saved sequence, whose numbers are little-endian:
//
//	magic [8]byte, header length uint32, header as JSON (saved)
//	for every KV head: k, v [headDim] bf16 of the tokens that are not packed, positions int32
//	and attention [width] float32 of all; the sinks' exact keys, where they are renumbered;
//	the packed groups, ψ of their keys, the channels that these keep and the last queries'
//	squares, where the cache has them; the state's numbers, float32
//	CRC-32 (IEEE) of all of the above, uint32
const savedMagic = "LESSSEQ1"

// savedHeader is how long the header may be: some numbers for each KV head.
const savedHeader = 1 << 22

// saved is the header: what the plan was made from, and the counts.
type saved struct {
	Model    string // what computed it: see Save
	Spec     string
	Budget   Budget
	Shape    Shape
	Keeps    []int // [layers·kvHeads], and so are the others
	Held     []int
	Absorbed []int
	Clocks   []int `json:",omitempty"` // of states, where one has faded
	Turned   []bool
	Decided  []int  // position of the last decision; nil: never
	Settled  []int  `json:",omitempty"` // groups, where some are packed
	Pruned   []bool `json:",omitempty"`
	Position int
	Chosen   int
	Evicted  int64
}

// Save writes the sequence with all that a later Restore goes on from, bit for
// bit. model names the weights and feature maps that computed it.
func (s *Sequence) Save(w io.Writer, model string) error {
	if s.plan.Staging || len(s.plan.Keeps) != len(s.heads) {
		return fmt.Errorf("%w: only one that answers is saved, no staging and no Copy", ErrSaved)
	}
	h := saved{Model: model, Spec: s.plan.Spec.String(), Budget: s.plan.Budget, Shape: s.plan.Shape, Keeps: s.plan.Keeps,
		Position: s.position, Chosen: s.chosen, Evicted: s.evicted}
	for i := range s.heads {
		h.Held = append(h.Held, s.heads[i].len)
		h.Turned = append(h.Turned, s.heads[i].turned)
		h.Decided = append(h.Decided, s.heads[i].decided)
		h.Absorbed = append(h.Absorbed, s.states[i].Absorbed)
		h.Clocks = append(h.Clocks, s.states[i].Clock)
		if s.plan.packs() {
			h.Settled = append(h.Settled, s.heads[i].settled)
			h.Pruned = append(h.Pruned, s.heads[i].pruned)
		}
	}
	if slices.Max(h.Clocks) == 0 {
		h.Clocks = nil
	}
	header, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("%w: header: %w", ErrSaved, err)
	}
	sum := crc32.NewIEEE()
	out := bufio.NewWriter(io.MultiWriter(w, sum))
	out.WriteString(savedMagic) // errors stay with out until Flush
	binary.Write(out, binary.LittleEndian, uint32(len(header)))
	out.Write(header)
	for i := range s.heads {
		for _, part := range s.parts(i) {
			if err := binary.Write(out, binary.LittleEndian, part); err != nil {
				return fmt.Errorf("%w: write: %w", ErrSaved, err)
			}
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("%w: write: %w", ErrSaved, err)
	}
	return binary.Write(w, binary.LittleEndian, sum.Sum32())
}

// parts are the numbers of KV head i that are in use.
func (s *Sequence) parts(i int) []any {
	h, dim := &s.heads[i], s.plan.Shape.HeadDim
	parts := []any{h.k[:h.loose()*dim], h.v[:h.loose()*dim], h.positions[:h.len], h.attention[:h.len*s.width], h.sinks,
		h.groups[:h.settled*s.plan.groupWords()], h.psi[:h.settled*s.plan.psiWords(i)], h.channels, h.queries}
	for _, part := range s.states[i].parts() {
		parts = append(parts, part)
	}
	return parts
}

// Restore reads a saved sequence of the same model and shape, which depends on its
// eviction policy, and whose plan takes at most that many bytes. What it reads is not trusted: every count is checked before
// memory is taken for it. The error wraps ErrSaved.
func Restore(r io.Reader, model string, shapeOf func(policy string) Shape, most int64, handlers Handlers, scratch *Scratch) (*Sequence, error) {
	sum := crc32.NewIEEE()
	in := io.TeeReader(bufio.NewReader(r), sum)
	h, err := readSaved(in)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSaved, err)
	}
	plan, err := h.plan(model, shapeOf)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSaved, err)
	}
	if plan.Bytes > most {
		return nil, fmt.Errorf("%w: its plan takes %d bytes of %d", ErrSaved, plan.Bytes, most)
	}
	s, err := NewSequence(plan, handlers, scratch)
	if err != nil {
		return nil, err
	}
	if err := s.fill(in, h, sum.Sum32); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrSaved, err), s.Free())
	}
	return s, nil
}

// readSaved reads what comes before the numbers.
func readSaved(in io.Reader) (saved, error) {
	var start struct {
		Magic  [len(savedMagic)]byte
		Header uint32
	}
	if err := binary.Read(in, binary.LittleEndian, &start); err != nil {
		return saved{}, err
	}
	if string(start.Magic[:]) != savedMagic || start.Header > savedHeader {
		return saved{}, errors.New("this is not one, or of another version")
	}
	header, err := io.ReadAll(io.LimitReader(in, int64(start.Header)))
	if err != nil || len(header) < int(start.Header) {
		return saved{}, fmt.Errorf("header: %w", cmp.Or(err, io.ErrUnexpectedEOF))
	}
	var h saved
	strict := json.NewDecoder(bytes.NewReader(header))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&h); err != nil {
		return saved{}, fmt.Errorf("header: %w", err)
	}
	return h, nil
}

// plan is the Plan that the sequence was made with, where it fits the model and
// the counts fit it.
func (h saved) plan(model string, shapeOf func(policy string) Shape) (Plan, error) {
	if h.Model != model {
		return Plan{}, fmt.Errorf("computed by %.80q, this is %.80q", h.Model, model)
	}
	spec, err := ParseSpec(h.Spec)
	if err != nil {
		return Plan{}, err
	}
	shape := shapeOf(spec.Policy)
	if !h.Shape.same(shape) {
		return Plan{}, fmt.Errorf("of a model of shape %+v, this one's is %+v", h.Shape, shape)
	}
	plan, err := NewPlan(spec, h.Budget, shape)
	if err != nil {
		return Plan{}, err
	}
	if len(h.Keeps) != len(plan.Slots) || slices.Min(h.Keeps) < 0 || slices.Max(h.Keeps) > shape.Context {
		return Plan{}, fmt.Errorf("budgets of %d tokens for %d KV heads of a context of %d", h.Keeps, len(plan.Slots), shape.Context)
	}
	if plan, err = plan.Divide(h.Keeps); err != nil {
		return Plan{}, err
	}
	n := len(plan.Slots)
	if len(h.Held) != n || len(h.Absorbed) != n || len(h.Turned) != n || h.Decided != nil && len(h.Decided) != n {
		return Plan{}, fmt.Errorf("counts for %d, %d and %d of %d KV heads", len(h.Held), len(h.Absorbed), len(h.Turned), n)
	}
	if !plan.packs() && (h.Settled != nil || h.Pruned != nil) || plan.packs() && (len(h.Settled) != n || len(h.Pruned) != n) {
		return Plan{}, fmt.Errorf("%d counts of packed groups for %d KV heads", len(h.Settled), n)
	}
	if h.Position < 0 || h.Position > math.MaxInt32 || h.Chosen < 0 || h.Chosen > h.Position || h.Evicted < 0 ||
		h.Position > shape.Context && !spec.Unlimited() {
		return Plan{}, fmt.Errorf("position %d, chosen %d, evicted %d", h.Position, h.Chosen, h.Evicted)
	}
	for i, held := range h.Held {
		if held < 0 || held > min(plan.Slots[i], h.Position) || h.Absorbed[i] < 0 || h.Absorbed[i] > h.Position-held ||
			h.Turned[i] && (plan.sinkTokens() == 0 || held < SinkTokens) {
			return Plan{}, fmt.Errorf("KV head %d: %d tokens held and %d absorbed of %d, with %d slots", i, held, h.Absorbed[i], h.Position, plan.Slots[i])
		}
	}
	for i, at := range h.Decided {
		if at < 0 || at > h.Position {
			return Plan{}, fmt.Errorf("KV head %d: decided on at %d of %d", i, at, h.Position)
		}
	}
	if h.Clocks != nil && (len(h.Clocks) != n || slices.Min(h.Clocks) < 0 || slices.Max(h.Clocks) > h.Position+ClockStep) {
		return Plan{}, fmt.Errorf("clocks of states %d at position %d", h.Clocks, h.Position)
	}
	for i, settled := range h.Settled {
		loose := h.Held[i] - settled*GroupTokens
		if settled < 0 || settled > plan.Groups[i] || loose < 0 || loose > plan.Loose(i) || h.Pruned[i] && spec.Think == 0 {
			return Plan{}, fmt.Errorf("KV head %d: %d tokens in %d packed groups and %d slots", i, h.Held[i], settled, plan.Slots[i])
		}
	}
	return plan, nil
}

// same tells whether sequences of two shapes can stand for each other.
func (s Shape) same(other Shape) bool {
	return s.Layers == other.Layers && s.KVHeads == other.KVHeads && s.HeadDim == other.HeadDim && s.Context == other.Context &&
		s.Interval == other.Interval && s.Group == other.Group && s.Parts == other.Parts && slices.Equal(s.Ranks, other.Ranks)
}

// checkChannels refuses channels that attention would not find.
func (s *Sequence) checkChannels(i int) error {
	h, last := &s.heads[i], -1
	if h.settled > 0 && len(h.channels) > 0 && !h.pruned {
		return fmt.Errorf("KV head %d: packed keys without the channels that they keep", i)
	}
	if !h.pruned {
		return nil
	}
	for _, c := range h.channels[:s.packing.Keys] {
		if int(c) <= last || int(c) >= s.packing.Values {
			return fmt.Errorf("KV head %d: channel %d after %d, of %d", i, c, last, s.packing.Values)
		}
		last = int(c)
	}
	return nil
}

// fill reads the numbers, checks their sum and only then lets them be used.
func (s *Sequence) fill(in io.Reader, h saved, sum func() uint32) error {
	for i := range s.heads {
		s.heads[i].len, s.heads[i].turned = h.Held[i], h.Turned[i]
		if h.Decided != nil {
			s.heads[i].decided = h.Decided[i]
		}
		if h.Settled != nil {
			s.heads[i].settled, s.heads[i].pruned = h.Settled[i], h.Pruned[i]
		}
		for _, part := range s.parts(i) {
			if err := binary.Read(in, binary.LittleEndian, part); err != nil && err != io.EOF {
				return err
			} else if err == io.EOF && binary.Size(part) > 0 {
				return io.ErrUnexpectedEOF
			}
		}
		if err := s.checkChannels(i); err != nil {
			return err
		}
		last := int32(-1)
		for _, position := range s.heads[i].positions[:h.Held[i]] {
			if position <= last || int(position) >= h.Position {
				return fmt.Errorf("KV head %d: position %d after %d, of %d", i, position, last, h.Position)
			}
			last = position
		}
		if s.states[i].size() > 0 {
			s.states[i].Absorbed = h.Absorbed[i]
			if h.Clocks != nil {
				s.states[i].Clock = h.Clocks[i]
			}
		}
	}
	want := sum()
	var got uint32
	if err := binary.Read(in, binary.LittleEndian, &got); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("its sum is %08x and should be %08x: it is damaged", got, want)
	}
	s.position, s.evicted = h.Position, h.Evicted
	s.decided(h.Chosen)
	return nil
}
